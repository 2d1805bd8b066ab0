"""The main job on the embedded sample, from nothing to the report."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import Project

VARIANTS = ("pytorch", "fp32", "fp16", "bf16", "int8")
QUICK = {"benchmark": {"min_seconds": 0.3, "min_samples": 5, "batches": [1]}}


@pytest.fixture(scope="module")
def finished(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose report is made, with short benchmarks."""
    project = Project.copied(repository, tmp_path_factory.mktemp("sample"))
    default = yaml.safe_load((project.folder / "config.yaml").read_text())
    (project.folder / "config.yaml").write_text(yaml.safe_dump({**default, **QUICK}))
    project.succeed("report")
    return project


@pytest.fixture(scope="module")
def accuracy(finished: Project) -> dict[str, Any]:
    return {name: finished.json(f"results/{name}_accuracy.json") for name in VARIANTS}


def test_the_reference_is_good_but_not_perfect(accuracy: dict[str, Any]) -> None:
    for result in accuracy["pytorch"]["protocols"]:
        assert 0.85 <= result["metrics"]["AP"] < 1


@pytest.mark.parametrize(
    ("variant", "tolerance"), [("fp32", 0.001), ("fp16", 0.005), ("bf16", 0.01), ("int8", 0.1)]
)
def test_each_precision_stays_near_the_reference(
    accuracy: dict[str, Any], variant: str, tolerance: float
) -> None:
    for result in accuracy[variant]["protocols"]:
        assert abs(result["delta"]["AP"]) <= tolerance
        assert result["delta"]["reference"] == "pytorch"


def test_a_change_comes_with_its_interval_and_a_verdict(accuracy: dict[str, Any]) -> None:
    assert accuracy["pytorch"]["delta"] is None
    for variant in VARIANTS[1:]:
        delta = accuracy[variant]["delta"]
        low, high = delta["ci95"]
        assert low <= high
        verdicts = {low > 0: "better", high < 0: "worse"}
        assert delta["verdict"] == verdicts.get(True, "not distinguishable")
        plain, reference = accuracy[variant]["metrics"], accuracy["pytorch"]["metrics"]
        assert delta["AP"] == pytest.approx(plain["AP"] - reference["AP"], abs=1e-12)


def test_the_keypoints_themselves_are_measured(accuracy: dict[str, Any]) -> None:
    for figure in accuracy.values():
        view = figure["keypoints"]
        assert 0.8 < view["mean_oks"] < 1
        assert 0 < view["pck"]["0.05"] <= view["pck"]["0.1"] <= view["pck"]["0.2"] <= 1
        assert len(view["by_joint"]) == 17
        assert set(view["ap_by_visible_keypoints"]) == {"1-5", "6-10", "11-17"}


def test_parity_shows_at_which_stage_the_error_comes_in(finished: Project) -> None:
    exact = finished.json("results/fp32_parity.json")["stages"]
    assert list(exact) == ["pytorch", "onnx", "simplified", "precision", "engine"]
    assert all(drift["max_abs"] < 1e-4 for drift in exact.values())
    assert list(finished.json("results/pytorch_parity.json")["stages"]) == ["original", "engine"]
    half = finished.json("results/bf16_parity.json")["stages"]
    assert half["precision"]["max_abs"] < 1e-4 < half["engine"]["max_abs"]
    int8 = finished.json("results/int8_parity.json")["stages"]
    assert int8["simplified"]["max_abs"] < 1e-4 < int8["precision"]["max_abs"]


def test_the_gate_passes_within_the_limits(finished: Project) -> None:
    finished.succeed("gate", "--configfile", finished.overlay({"limits": {"ap_drop": 0.1}}))
    checked = (finished.folder / "results/gate.txt").read_text()
    assert "int8: loss of AP is " in checked


def test_the_gate_lists_every_violation(finished: Project) -> None:
    strict = {"limits": {"ap": 0.999, "fps": 1e9}}
    done = finished.snakemake("gate", "--configfile", finished.overlay(strict))
    assert done.returncode != 0
    # Five variants, each with its AP, its images/s and that these are INVALID.
    assert "check_gate: error: 15 outside the limits" in done.stderr
    for variant in VARIANTS:
        assert f"  {variant}: AP is 0." in done.stderr
        assert f"  {variant}: images/s is " in done.stderr
        assert f"  {variant}: speed has a limit, but its figures are INVALID: " in done.stderr
    assert not (finished.folder / "results/gate.txt").exists()


def test_both_protocols_come_from_one_run_and_carry_their_label(accuracy: dict[str, Any]) -> None:
    for figure in accuracy.values():
        plain, flipped = figure["protocols"]
        assert (plain["protocol"]["flip"], flipped["protocol"]["flip"]) == (False, True)
        assert figure["metrics"] == plain["metrics"]
        assert plain["protocol"]["label"] == (
            f"gt boxes, no flip, dark decoding, sample ({figure['images']} images, "
            f"{figure['instances']} persons)"
        )


@pytest.mark.parametrize("variant", VARIANTS)
def test_perf_says_what_was_measured_on_what(finished: Project, variant: str) -> None:
    perf = finished.json(f"results/{variant}_perf.json")
    engine = finished.json(f"build/engines/{variant}/engine.json")
    raw = finished.json(f"results/{perf['raw']}")
    assert perf["engine"] == {"variant": variant, "sha256": engine["sha256"]}
    assert perf["precision"]["requested"] == engine["requested"]
    assert perf["latency"]["samples"] == len(raw["latency_s"]) >= 5
    assert perf["samples"] == len(raw["throughput_done_s"]) >= 5
    assert perf["duration_s"] >= 0.3
    assert perf["throughput"]["fps"] == pytest.approx(
        perf["batch"] * perf["samples"] / perf["duration_s"]
    )
    sizes = {point["batch"] for point in perf["throughput"]["sweep"]}
    assert sizes == {1, engine["batch"]}
    parts = perf["end_to_end"]["ms_per_person"]
    assert sum(parts.values()) == pytest.approx(perf["end_to_end"]["total_ms_per_person"])
    latency = perf["latency_ms"]
    ordered = [latency[key] for key in ("min", "p50", "p90", "p95", "p99", "max")]
    assert ordered == sorted(ordered)
    assert perf["host"]["cores"] >= 1
    assert perf["roofline"]["fraction"] > 0


def test_speed_that_was_measured_too_shortly_is_shown_as_invalid(finished: Project) -> None:
    page = (finished.folder / "results/report.html").read_text()
    summary = (finished.folder / "results/summary.txt").read_text()
    for variant in VARIANTS:
        validity = finished.json(f"results/{variant}_perf.json")["validity"]
        assert validity["verdict"] == "INVALID"
        assert any(reason.startswith("latency: too short: ") for reason in validity["reasons"])
        assert f"{variant} is INVALID" in page
        assert re.search(rf"^  {variant}: .*latency: too short", summary, re.MULTILINE)


def test_int8_and_fp32_really_run_in_their_precision(finished: Project) -> None:
    for variant in ("fp32", "int8"):
        executed = finished.json(f"build/engines/{variant}/engine.json")["executed"]
        assert executed["precision"] == variant


def test_the_model_card_has_what_later_stages_need(finished: Project) -> None:
    card = finished.json("build/models/sample/model.json")
    assert card["input"] == {"name": "input", "shape": ["batch", 3, 128, 96], "dtype": "float32"}
    (output,) = card["outputs"]
    assert output["name"] == "heatmaps"
    assert output["shape"] == ["batch", 17, 32, 24]
    assert card["opset"] >= 17
    assert len(card["keypoints"]["names"]) == len(card["keypoints"]["sigmas"]) == 17


def test_the_report_is_one_page_with_a_row_per_variant(finished: Project) -> None:
    page = (finished.folder / "results/report.html").read_text()
    summary = (finished.folder / "results/summary.txt").read_text()
    for variant in VARIANTS:
        assert f'<tr data-variant="{variant}"' in page
        assert re.search(rf"^{variant} ", summary, re.MULTILINE)
    shown = page.partition('<script type="application/json"')[0]
    assert shown.count("<img ") >= 12
    assert not re.search(r'(src|href)="(?!data:|#)', shown)
    assert "write_report" not in shown.partition('id="made"')[2]
    assert "score_accuracy \u00d7 5" in shown
    assert "snakemake --cores" in shown
    assert len(page) < 8_000_000


def test_the_recommendation_is_the_same_everywhere(finished: Project) -> None:
    (answer,) = finished.json("results/verdicts.json")["recommendations"]
    # The measurements of this test are too short to be believed.
    assert answer["variant"] is None
    assert {one["variant"] for one in answer["outside"]} == set(VARIANTS)
    for name in ("summary.txt", "summary.md"):
        assert "No variant is within the limits" in (finished.folder / "results" / name).read_text()
    rows = (finished.folder / "results/results.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["variant", *VARIANTS]


def test_the_worst_persons_are_those_whose_oks_falls_most(accuracy: dict[str, Any]) -> None:
    for name, figure in accuracy.items():
        worst = figure["keypoints"]["worst"]
        falls = [one["oks"] - (one["reference"] or 0.0) for one in worst]
        assert falls == sorted(falls)
        assert (worst[0]["reference"] is None) == (name == "pytorch")
        assert sum(figure["keypoints"]["oks_counts"]) == figure["instances"]


def test_an_older_run_is_compared_and_the_gate_knows_it(finished: Project) -> None:
    shutil.copytree(finished.folder / "results", finished.folder / "old")
    overlay = finished.overlay({"baseline": "old", "limits": {"ap_drop": None}})
    finished.succeed("gate", "--configfile", overlay)
    found = finished.json("results/verdicts.json")["baseline"]
    verdicts = {(one["figure"], one["verdict"]) for one in found["changes"]}
    # Speed is INVALID here, and so not compared.
    assert verdicts == {("AP", "within noise"), ("images/s", "refused"), ("p50 ms", "refused")}
    assert "AP is " in (finished.folder / "results/gate.txt").read_text()
    finished.succeed("report")


def test_a_second_run_finds_nothing_to_do(finished: Project) -> None:
    assert "Nothing to be done" in finished.succeed("report")


def test_a_fresh_checkout_of_the_same_content_reruns_nothing(finished: Project) -> None:
    for path in finished.folder.rglob("*"):
        if path.is_file() and path.suffix in {".py", ".pth", ".yaml", ".smk", ".html"}:
            path.touch()
    assert "Nothing to be done" in finished.succeed("report")


def test_editing_the_decoder_reruns_what_decodes_but_no_export(finished: Project) -> None:
    decoder = finished.folder / "workflow_scripts/hrnetpose/pose/decode.py"
    content = decoder.read_text()
    decoder.write_text(content + "\n# an edit\n")
    jobs = finished.jobs("report")
    decoder.write_text(content)
    assert jobs == {
        "quantize_int8": 1,  # the AP on the calibration persons decides which layers are int8
        "build_engine": 1,
        "benchmark_engine": 5,  # the way from images to keypoints is measured, too
        "predict_keypoints": 5,
        "score_accuracy": 5,
        "measure_parity": 5,
        "write_report": 1,
        "report": 1,
    }


def test_results_do_not_depend_on_the_number_of_shards(finished: Project) -> None:
    names = [f"results/{variant}_accuracy.json" for variant in VARIANTS]
    before = {name: (finished.folder / name).read_bytes() for name in names}
    finished.succeed("--config", "shards=3", "--", *names)
    assert {name: (finished.folder / name).read_bytes() for name in names} == before


def test_a_new_variant_reuses_the_stages_that_are_there(finished: Project) -> None:
    overlay = finished.overlay(
        {"variants": {"ort": {"backend": "onnxruntime", "precision": "fp32", "batch": 8}}}
    )
    target = "results/ort_accuracy.json"
    assert set(finished.jobs(target, "--configfile", overlay)) == {
        "build_engine",
        "predict_keypoints",
        "score_accuracy",
    }
    finished.succeed(target, "--configfile", overlay)
    assert abs(finished.json(target)["delta"]["AP"]) <= 0.001
