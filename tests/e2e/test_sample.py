"""The main job on the embedded sample, from nothing to the report."""

import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml
from google.protobuf import text_format

from fresh import Home, home, unpack
from support import Project

VARIANTS = ("pytorch", "fp32", "fp16", "bf16", "int8")
ORT = {"variants": {"ort": {"backend": "onnxruntime", "precision": "fp32", "batch": 8}}}
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
    assert list(exact) == ["original", "onnx", "simplified", "precision", "engine"]
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
    assert rows[0].startswith("variant,")
    assert {row.split(",")[0] for row in rows[1:]} == set(VARIANTS)


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
    overlay = finished.overlay(ORT)
    target = "results/ort_accuracy.json"
    assert set(finished.jobs(target, "--configfile", overlay)) == {
        "build_engine",
        "predict_keypoints",
        "score_accuracy",
    }
    finished.succeed(target, "--configfile", overlay)
    assert abs(finished.json(target)["delta"]["AP"]) <= 0.001


# Bundles

BUNDLED = ("fp32", "fp16", "bf16", "int8", "ort")


@pytest.fixture(scope="module")
def bundles(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The bundles of all variants on the CPU, unpacked."""
    overlay = finished.overlay(ORT, "ort.yaml")
    names = [f"results/bundles/{variant}.zip" for variant in BUNDLED]
    finished.succeed("--configfile", overlay, "--", *names)
    folder = tmp_path_factory.mktemp("bundles")
    return {Path(name).stem: unpack(finished.folder / name, folder) for name in names}


@pytest.fixture(scope="module")
def at_home(
    bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Home]:
    """Return the environment of a bundle, with nothing else installed."""
    folder = tmp_path_factory.mktemp("home")

    def of(variant: str) -> Home:
        text = (bundles[variant] / "requirements.txt").read_text()
        return home(folder / hashlib.sha256(text.encode()).hexdigest()[:8], text)

    return of


@pytest.fixture(scope="module")
def images(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    with zipfile.ZipFile(finished.folder / "resources/datasets/sample/val.zip") as archive:
        archive.extractall(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("variant", BUNDLED)
def test_a_bundle_gives_the_keypoints_of_the_pipeline_where_nothing_else_is_installed(
    finished: Project, bundles: dict[str, Path], at_home: Callable[[str], Home], images: Path,
    variant: str,
) -> None:  # fmt: skip
    annotations = finished.folder / "resources/datasets/sample/val.json"
    predictions = finished.folder / f"build/predictions/{variant}/gt_1-of-1.npz"

    found = at_home(variant).compare(bundles[variant], images, annotations, predictions)

    assert found["persons"] > 100
    assert found["others"] == []
    assert set(found["px"]) == {"0", "1"}
    assert max(found["px"].values()) < 1e-3
    assert max(found["score"].values()) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["int8", "ort"])
def test_a_bundle_says_whether_this_machine_gives_what_was_measured(
    bundles: dict[str, Path], at_home: Callable[[str], Home], variant: str, tmp_path: Path
) -> None:
    folder, python = bundles[variant], at_home(variant)
    for flags in ([], ["--portable"]):
        done = python.run(folder / "pose.py", "--check", *flags, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count(": the measured result") == 2
        assert ("ms here, " in done.stdout) == (not flags)
        assert ("persons/s here, " in done.stdout) == (not flags)

    spoilt = tmp_path / "spoilt"
    shutil.copytree(folder, spoilt)
    expected = json.loads((spoilt / "check/check.json").read_text())
    expected["cases"][0]["keypoints"][0][0][0] += 3
    (spoilt / "check/check.json").write_text(json.dumps(expected))
    done = python.run(spoilt / "pose.py", "--check", cwd=tmp_path)
    assert done.returncode == 1
    assert "check/check.json: damaged" in done.stderr
    sums = (spoilt / "SHA256SUMS").read_text().splitlines(keepends=True)
    digest = hashlib.sha256((spoilt / "check/check.json").read_bytes()).hexdigest()
    sums = [f"{digest}  check/check.json\n" if "check.json" in line else line for line in sums]
    (spoilt / "SHA256SUMS").write_text("".join(sums))
    done = python.run(spoilt / "pose.py", "--check", cwd=tmp_path)
    assert done.returncode == 1
    assert "NOT the measured result" in done.stdout


def test_a_bundle_is_read_by_others(finished: Project, bundles: dict[str, Path]) -> None:
    import huggingface_hub

    done = subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"],
        cwd=bundles["fp16"], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    card = huggingface_hub.ModelCard.load(bundles["fp16"] / "README.md")
    assert card.data.pipeline_tag == "keypoint-detection"
    assert card.data.license == "apache-2.0"
    ap = {one.dataset_name: one.metric_value for one in card.data.eval_results}
    protocols = finished.json("results/fp16_accuracy.json")["protocols"]
    assert ap == {
        one["protocol"]["label"]: pytest.approx(one["metrics"]["AP"], abs=1e-5) for one in protocols
    }
    assert len(card.text.splitlines()) < 90  # a page
    graph = onnx.load(bundles["fp16"] / "models/keypoints/1/keypoints.onnx")
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    assert json.loads(metadata["kpt_shape"]) == [17, 3]
    compared = json.loads((bundles["fp16"] / "models/keypoints/keypoints.json").read_text())
    assert 0 < compared["shift_px"]["mean"] < 3  # of the plain decoder from DARK


def test_triton_finds_its_models(bundles: dict[str, Path]) -> None:
    """Parsed with Triton's own definition, and compared with the graphs."""
    spec = importlib.util.find_spec("tritonclient")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("tritonclient is not installed")
    file = Path(spec.submodule_search_locations[0]) / "grpc/model_config_pb2.py"
    definition = importlib.util.spec_from_file_location("model_config_pb2", file)
    assert definition
    assert definition.loader
    protobuf = importlib.util.module_from_spec(definition)
    definition.loader.exec_module(protobuf)
    for folder in (bundles["fp32"] / "models").iterdir():
        config = text_format.Parse((folder / "config.pbtxt").read_text(), protobuf.ModelConfig())
        assert config.name == folder.name
        graph = onnx.load(folder / "1" / config.default_model_filename).graph
        for listed, declared in ((config.input, graph.input), (config.output, graph.output)):
            shapes = {
                value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim][1:]
                for value in declared
            }
            assert {one.name: list(one.dims) for one in listed} == shapes
        assert config.input[0].data_type == protobuf.TYPE_UINT8


def test_the_same_inputs_give_the_same_bundle(finished: Project) -> None:
    path = finished.folder / "results/bundles/fp32.zip"
    before = path.read_bytes()
    finished.succeed("--forcerun", "make_bundle", "--", "results/bundles/fp32.zip")
    assert path.read_bytes() == before


def test_bundles_of_pytorch_and_of_nobody_are_refused(finished: Project) -> None:
    for name, said in {
        "pytorch": "would need PyTorch and mmpose wherever it goes; bundle fp32",
        "fp23": "there is no variant 'fp23' (did you mean fp32?)",
    }.items():
        done = finished.snakemake("--dry-run", f"results/bundles/{name}.zip")
        assert done.returncode != 0
        assert f"configuration: results/bundles/{name}.zip: " in done.stdout + done.stderr
        assert said in done.stdout + done.stderr
