"""`make bench` judges what applies to the machine, and two runs are compared with care."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hrnetpose.speed import host
from hrnetpose.stage import StageError

bench = importlib.import_module("bench")
goals = importlib.import_module("goals")
compare_bench = importlib.import_module("compare_bench")
Rows = dict[str, Any]

AMX = ["avx2", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"]
PLAIN = ["avx2"]


@pytest.fixture
def judged() -> Callable[..., Rows]:
    """Return the rows of a machine with such features and such figures."""

    def judge(features: list[str], real: bool = True, **figures: float) -> Rows:
        measured = goals.Figures()
        for name, value in figures.items():
            measured.add(name, value, {})
        machine = host.describe().model_copy(update={"features": features})
        return {row.name: row for row in goals.judge(measured, machine, real)}

    return judge


def figures(**values: float) -> dict[str, float]:
    return {"onnxruntime fp32 images/s": 10.0, **values}


def test_goals_for_amx_are_judged_with_amx_only(
    judged: Callable[..., Rows],
) -> None:
    values = figures(**{"w32 bf16 images/s": 30.0})
    name = "W32 bf16 throughput / ONNX Runtime fp32's"

    with_amx, without = judged(AMX, **values)[name], judged(PLAIN, **values)[name]

    assert (with_amx.ratio, with_amx.goal, with_amx.met) == (3.0, 7.0, False)
    assert (without.ratio, without.applies, without.met) == (3.0, False, None)


def test_a_share_of_the_peak_is_judged_where_the_precision_is_native(
    judged: Callable[..., Rows],
) -> None:
    values = {"w32 fp32 of limit": 0.96, "w32 int8 of limit": 0.5}

    found = judged(PLAIN, **values)

    assert found["W32 fp32 of the matrix-product peak"].met is True
    assert found["W32 int8 of the matrix-product peak"].met is None
    assert judged(AMX, **values)["W32 int8 of the matrix-product peak"].met is False


def test_the_real_images_are_judged_where_they_are(
    judged: Callable[..., Rows],
) -> None:
    values = {"small mmpose evaluation persons/s": 10.0, "small fp32 evaluation persons/s": 50.0}

    assert judged(AMX, **values)["Lite-HRNet fp32 evaluation / mmpose's"].met is True
    sample = judged(AMX, real=False, **values)["sample model fp32 evaluation / mmpose's"]
    assert (sample.ratio, sample.met) == (5.0, None)


def test_an_evaluation_takes_two_inferences_for_each_person(
    judged: Callable[..., Rows],
) -> None:
    values = {"w32 fp32 images/s": 20.0, "w32 fp32 evaluation persons/s": 9.0}

    assert judged(AMX, **values)["W32 fp32 evaluation / its engine throughput"].ratio == 0.9


def test_what_was_not_measured_is_not_judged(judged: Callable[..., Rows]) -> None:
    rows = judged(AMX)

    assert all(row.ratio is None and row.met is None for row in rows.values())
    assert "100,000 crops: 2 GB / peak" in rows
    assert goals.as_text(list(rows.values())).count("not judged here") == len(rows)


def test_real_images_are_left_out_where_nobody_says_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def data() -> Any:
        return bench.find_data(bench.parser().parse_args([]).real)

    monkeypatch.delenv("POSE_REAL_DATA", raising=False)
    without = bench.Bench(data(), tmp_path / "work", rounds=1, seconds=1.0, batch=8)
    monkeypatch.setenv("POSE_REAL_DATA", str(tmp_path))

    assert "real images are left out: POSE_REAL_DATA is not set" in without.machine_line()
    with pytest.raises(StageError, match=r"there is no images/val2017 in it; --real and POSE_REAL"):
        data()

    (tmp_path / "images/val2017").mkdir(parents=True)
    assert data().real


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """Write what `make bench` would."""

    def write(name: str, cpu: str = "Abacus", **values: list[float]) -> Path:
        host = {"cpu": cpu, "features": PLAIN, "cores": 2, "gpu": None, "memory_bytes": 1}
        content: dict[str, Any] = {
            "schema": 1, "host": host, "data": "real", "figures": values, "disturbances": {},
        }  # fmt: skip
        (tmp_path / name).write_text(json.dumps(content))
        return tmp_path / name

    return write


def compare(before: Path, after: Path) -> None:
    compare_bench.main(before=before, after=after)


def test_a_figure_that_got_slower_is_told(written: Callable[..., Path]) -> None:
    before = written("a.json", fp32=[10.0, 10.1], bf16=[30.0, 30.1])
    after = written("b.json", fp32=[10.0, 10.0], bf16=[27.0, 27.1])

    with pytest.raises(StageError, match="1 figures got slower, beyond noise") as error:
        compare(before, after)

    assert error.value.details[0].startswith("bf16")


def test_what_differs_within_the_noise_of_its_rounds_is_the_same(
    written: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    compare(written("a.json", fp32=[10.0, 12.0]), written("b.json", fp32=[9.5, 10.0]))

    assert capsys.readouterr().out.rstrip().endswith("same")


def test_speeds_of_two_machines_do_not_compare(written: Callable[..., Path]) -> None:
    with pytest.raises(StageError, match=r"host\.cpu is 'Slide rule', but .* is 'Abacus'"):
        compare(written("a.json"), written("b.json", cpu="Slide rule"))


@pytest.mark.parametrize("content", ["", "[]", '{"schema": 2}'])
def test_something_else_than_a_bench_is_refused(
    written: Callable[..., Path], tmp_path: Path, content: str
) -> None:
    (tmp_path / "other.json").write_text(content)

    with pytest.raises(StageError, match=r"other\.json: .*; run `make bench` again"):
        compare(written("a.json"), tmp_path / "other.json")
