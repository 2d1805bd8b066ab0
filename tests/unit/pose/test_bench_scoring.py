"""The benchmark of the scoring runs the stage itself."""

import importlib

import pytest

bench_scoring = importlib.import_module("bench_scoring")


def test_a_size_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    bench_scoring.main(boxes=[50], nms="hard")

    _, *rows = (line.split() for line in capsys.readouterr().out.splitlines())

    assert [int(row[0]) for row in rows] == [50]
    assert all(float(figure) > 0 for figure in rows[0][1:])
