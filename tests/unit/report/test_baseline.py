"""An older run is compared as far as its figures compare: the intervals decide."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import check_gate
from hrnetpose.limits import Limits
from hrnetpose.report import baseline
from hrnetpose.report.rows import Row
from hrnetpose.stage import StageError

MakeRow = Callable[..., Row]


@pytest.fixture
def old(tmp_path: Path) -> Callable[..., Path]:
    """Write the results of an older run."""

    def write(*rows: Row) -> Path:
        folder = tmp_path / "old results"
        for row in rows:
            for kind in ("perf", "accuracy"):
                if figures := getattr(row, kind):
                    figures.write(folder / f"{row.name}_{kind}.json")
        (folder / "a_perf_samples.json").write_text("{}")
        return folder

    return write


def judged(path: Path, *rows: Row) -> dict[tuple[str, str], str]:
    found = baseline.compare(path, rows)
    return {(one.variant, one.figure): one.verdict for one in found.changes}


def test_the_intervals_decide(make_row: MakeRow, old: Callable[..., Path]) -> None:
    path = old(
        make_row("better", fps=100, ap=0.5, change=-0.1),
        make_row("worse", fps=100, ap=0.5, change=-0.1),
        make_row("noise", fps=100, ap=0.5, change=-0.1),
    )

    found = judged(
        path,
        make_row("better", fps=110, ap=0.53, change=-0.07),
        make_row("worse", fps=90, ap=0.47, change=-0.13),
        make_row("noise", fps=102, ap=0.49, change=-0.11),
    )

    assert found == {
        ("better", "AP"): "improved",
        ("better", "images/s"): "improved",
        ("better", "p50 ms"): "within noise",
        ("worse", "AP"): "worse",
        ("worse", "images/s"): "worse",
        ("worse", "p50 ms"): "within noise",
        ("noise", "AP"): "within noise",
        ("noise", "images/s"): "within noise",
        ("noise", "p50 ms"): "within noise",
    }


def test_a_shorter_latency_is_better(make_row: MakeRow, old: Callable[..., Path]) -> None:
    path = old(make_row("a"))
    row = make_row("a")
    assert row.perf
    row.perf.latency_ms.p50 /= 2

    assert judged(path, row)["a", "p50 ms"] == "improved"


def test_another_host_refuses_speed_and_another_protocol_refuses_accuracy_by_name(
    make_row: MakeRow, old: Callable[..., Path]
) -> None:
    path = old(make_row("a", ap=0.5, cpu="Slide rule"))
    row = make_row("a", ap=0.6)
    assert row.accuracy
    protocol = row.accuracy.protocol.model_copy(update={"label": "det boxes"})
    row = replace(row, accuracy=row.accuracy.model_copy(update={"protocol": protocol}))

    found = {one.figure: one for one in baseline.compare(path, [row]).changes}

    assert {one.verdict for one in found.values()} == {"refused"}
    assert found["images/s"].reason == ("another host: the CPU was Slide rule, and is Abacus 3000")
    assert found["AP"].reason.startswith("another protocol: gt boxes, no flip, ")
    assert found["AP"].reason.endswith("; now det boxes")


def test_invalid_speed_is_not_compared(make_row: MakeRow, old: Callable[..., Path]) -> None:
    path = old(make_row("a", reasons=("latency: too short",)))

    (fps, _) = baseline.compare(path, [make_row("a")]).changes

    assert (fps.verdict, fps.reason) == (
        "refused", "the older speed is INVALID: latency: too short",
    )  # fmt: skip


def test_a_zip_is_read_in_place_and_variants_that_came_and_went_are_named(
    make_row: MakeRow, old: Callable[..., Path], tmp_path: Path
) -> None:
    folder = old(make_row("a", ap=0.5), make_row("gone"))
    archive = tmp_path / "old.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.iterdir():
            file.write(path, f"results/{path.name}")
        file.writestr("results/other_run/a_perf.json", "not of this run")

    found = baseline.compare(archive, [make_row("a", ap=0.5), make_row("new")])

    assert (found.new, found.gone) == (["new"], ["gone"])
    assert {one.verdict for one in found.changes} == {"within noise"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "holds no results"),
        ({"a_perf.json": "{}"}, "a_perf.json is not an artifact of this version"),
        ({"a_accuracy.json": "no JSON"}, "a_accuracy.json is not an artifact of this version"),
    ],
)
def test_what_cannot_be_compared_with_is_refused(
    tmp_path: Path, content: dict[str, str], said: str
) -> None:
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with zipfile.ZipFile(tmp_path / "same.zip", "w") as file:
        for name, text in content.items():
            file.writestr(name, text)

    for path in (tmp_path, tmp_path / "same.zip"):
        with pytest.raises(StageError, match=said):
            baseline.compare(path, [])
    with pytest.raises(StageError, match="there is no such folder or zip"):
        baseline.compare(tmp_path / "nowhere", [])


def test_the_gate_fails_where_a_figure_is_worse(
    make_row: MakeRow, old: Callable[..., Path], written: Callable[..., Path], tmp_path: Path
) -> None:
    path = old(make_row("a", fps=200.0, ap=0.5))
    folder = written([make_row("a", fps=100.0, ap=0.5, drift=0.1)], baseline=path)
    given = {kind: [folder / f"results/0_{kind}.json"] for kind in ("accuracy", "perf", "parity")}

    with pytest.raises(StageError) as error:
        check_gate.main(
            limits={"a": Limits()}, verdicts=folder / "verdicts.json",
            output=tmp_path / "gate.txt", **given,
        )  # fmt: skip

    (line,) = error.value.details
    assert line == f"a: images/s is 100, and was 200 in {path}: worse"
    found = json.loads((folder / "verdicts.json").read_text())["baseline"]
    assert found["source"] == str(path)
    assert "1 worse, 2 within noise" in (folder / "summary.md").read_text()
    assert "Compared with an earlier run" in (folder / "page.html").read_text()


def test_the_gate_writes_figures_out(
    make_row: MakeRow, written: Callable[..., Path], tmp_path: Path
) -> None:
    folder = written([make_row("a", fps=12345.6, ap=0.5, drift=0.1)])
    given = {kind: [folder / f"results/0_{kind}.json"] for kind in ("accuracy", "perf", "parity")}

    with pytest.raises(StageError) as error:
        check_gate.main(
            limits={"a": Limits(fps=12345.7)}, verdicts=None, output=tmp_path / "gate.txt", **given
        )

    assert list(error.value.details) == ["a: images/s is 12345.6, at least 12345.7 is asked"]
