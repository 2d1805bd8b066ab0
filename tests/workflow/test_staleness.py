"""What reruns after a change, and that nothing else does: one row for every kind of change.

Rows run on a project that looks finished.  A configuration key without a row fails a test of its
own: write down what it makes stale.
"""

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from hrnetpose import config as configuration
from hrnetpose.limits import Limits
from planner import Job, Planner, fabricate
from support import Project, write_graph

# Which rules take what a rule makes: `fetch_file` brings checkpoints here.
CONSUMERS = {
    "draw_sample": {"audit_dataset", "make_crops", "measure_machine", "check_calibration"},
    "fetch_file": {"export_onnx", "reference_outputs", "build_engine"},
    "extract_annotations": {"fetch_calibration"},
    "fetch_calibration": {"audit_dataset", "check_calibration"},
    "audit_dataset": {
        "list_persons",
        "check_calibration",
        "quantize_int8",
        "score_accuracy",
        "write_report",
    },
    "detect_persons": set(),  # of a dataset that is not evaluated
    "list_persons": {
        "make_crops",
        "measure_machine",
        "benchmark_engine",
        "score_accuracy",
        "write_report",
    },
    "make_crops": {
        "predict_keypoints",
        "benchmark_engine",
        "reference_outputs",
        "quantize_int8",
        "quantize_fp8",
    },
    "check_calibration": {"quantize_int8", "quantize_fp8"},
    "export_onnx": {
        "simplify_onnx",
        "quantize_int8",
        "quantize_fp8",
        "build_engine",
        "reference_outputs",
        "measure_parity",
        "write_report",
    },
    "simplify_onnx": {
        "convert_precision",
        "quantize_int8",
        "quantize_fp8",
        "measure_parity",
        "write_report",
    },
    "convert_precision": {"build_engine", "measure_parity"},
    "quantize_int8": {"build_engine", "measure_parity", "write_report"},
    "quantize_fp8": {"build_engine", "measure_parity"},
    "reference_outputs": {"measure_parity"},
    "build_engine": {
        "predict_keypoints",
        "score_accuracy",
        "benchmark_engine",
        "measure_parity",
        "write_report",
    },
    "predict_keypoints": {"score_accuracy", "write_report"},
    "score_accuracy": {"write_report", "check_gate"},
    "measure_machine": {"benchmark_engine"},
    "benchmark_engine": {"write_report", "check_gate"},
    "measure_parity": {"write_report", "check_gate"},
    "write_report": set(),
    "check_gate": set(),
}
ENGINES = {"build_engine", "predict_keypoints", "benchmark_engine", "measure_parity"}
ALL = set(CONSUMERS)
VARIANTS = {"pytorch", "fp32", "int8", "fp8"}
CALIBRATED = {"int8", "fp8"}
GRAPH_ENGINES = VARIANTS - {"pytorch"}
"""Their engines are made from a graph, PyTorch's from the original model."""
BOTH = b"annotations of both splits"
"""Stands for a zip; its hash is known, and so no rule brings it here once it is there."""
ARCHIVE: dict[str, Any] = {
    "source": "given/both.zip",
    "sha256": hashlib.sha256(BOTH).hexdigest()[:16],
    "size": len(BOTH),
    "member": "train.json",
}
BASE: dict[str, Any] = {
    "dataset": "people",
    "models": {
        "sample": {
            "config": "given/model.py",
            "crop": "128x96",
            "published": {"AP": 0.8, "protocol": "gt", "dataset": "people", "source": "a paper"},
        },
    },
    "datasets": {
        "people": {
            "images": "given/images",
            "annotations": "given/annotations.json",
            "detections": "given/detections.json",
            "detection_score": 0.1,
            "calibration": {
                "images": "given/calibration.zip",
                "annotations": "resources/datasets/sample/train.json",
            },
        },
        # Not evaluated: only its boxes are a target.
        "found": {
            "images": "given/images2",
            "annotations": "given/annotations2.json",
            "detector": {
                "onnx": "given/detector.onnx",
                "card": {"pipeline": "given/pipeline.json"},
            },
        },
        # Not evaluated: only its calibration images are a target.
        "fetched": {
            "images": "given/images",
            "annotations": "given/annotations.json",
            "calibration": {"images": "coco_url", "annotations": ARCHIVE, "count": 5},
        },
    },
    "variants": {
        "pytorch": {"backend": "pytorch"},
        "fp32": {"backend": "openvino", "options": {"threads": 2}},
        "int8": {"backend": "openvino"},
        "fp8": {"backend": "tensorrt", "precision": "fp8"},
        "fp16": None,
        "bf16": None,
    },
    "protocols": {"boxes": ["gt", "det"], "flip": [False, True], "nms": "hard"},
    "limits": {"ap_drop": 0.02},
    "shards": 2,
}


TARGETS = (
    "--configfile",
    "overlay.yaml",
    "--",
    "report",
    "gate",
    "build/datasets/fetched/calibration.json",
    "build/datasets/found/detections.json",
)
Edit = Callable[[str, bytes | None], None]


def after(*rules: str) -> set[str]:
    """Rules, and all that take what they make, directly or not."""
    found: set[str] = set()
    waiting = list(rules)
    while waiting:
        if (rule := waiting.pop()) not in found:
            found.add(rule)
            waiting += CONSUMERS[rule]
    return found


def digest_of(made: str) -> str:
    """Return the SHA-256 of what `fabricate` writes."""
    return hashlib.sha256(f"stands for {made}\n".encode()).hexdigest()


EVALUATED = {"gt", "det", "benchmark"}
ALL_SUBSETS = EVALUATED | {"calibration"}


@dataclass(frozen=True)
class Stale:
    """What a change makes stale.

    Attributes:
        rules: the rules that rerun, for whatever they make.
        engines: the variants among the jobs of engine rules.
        built: those whose engine is built; by default all of them.
        subsets: the subsets among the jobs of make_crops.
    """

    rules: set[str]
    engines: set[str] = field(default_factory=lambda: VARIANTS)
    built: set[str] | None = None
    subsets: set[str] = field(default_factory=lambda: ALL_SUBSETS)


NOTHING = Stale(set())
GATE = Stale({"check_gate", "write_report"})
# Engines of other variants stay.  Those of int8 and fp8 are made from images that were found not to
# be among the evaluated ones; those are looked for again.
IMAGES = Stale(
    {"make_crops"}
    | after("predict_keypoints", "measure_machine", "reference_outputs", "check_calibration"),
    built=CALIBRATED,
    subsets=EVALUATED,
)
IMAGES = replace(IMAGES, rules=IMAGES.rules | {"audit_dataset", "list_persons"})
ANNOTATIONS = IMAGES
DETECTIONS = Stale({"list_persons", "make_crops"} | after("predict_keypoints"), subsets={"det"})
CALIBRATION = Stale(
    {"audit_dataset", "list_persons", "make_crops"} | after("check_calibration"),
    CALIBRATED,
    subsets={"calibration"},
)
DETECTED = Stale({"detect_persons"})
FETCHED = Stale({"fetch_calibration", "audit_dataset", "check_calibration"})
"""Of a dataset that is not evaluated."""


def also(stale: Stale, *rules: str) -> Stale:
    """The same, and rules that bring a file here."""
    return replace(stale, rules=stale.rules | set(rules))


# --- the configuration ----------------------------------------------------------------------------

# Key -> value -> what is stale.  A key of a section that has names is written with its name.
CONFIG: list[tuple[str, Any, Stale]] = [
    ("models.sample.config", "given/other.py", Stale(after("export_onnx"))),
    ("models.sample.weights", "given/other.pth", Stale(after("fetch_file"))),
    # The file that is there is the right one; that another is refused is tested elsewhere.
    ("models.sample.sha256", digest_of("resources/weights/sample.pth"), NOTHING),
    (
        "models.sample.crop",
        "64x48",
        Stale(after("export_onnx", "make_crops") | {"measure_machine"}),
    ),
    ("models.sample.published.AP", 0.7, Stale({"write_report"})),
    ("models.sample.published.AP50", 0.9, Stale({"write_report"})),
    ("models.sample.published.fps", 100.0, Stale({"write_report"})),
    ("models.sample.published.detections", "01234567", Stale({"write_report"})),
    ("models.sample.published.protocol", "gt+flip", Stale({"write_report"})),
    ("models.sample.published.dataset", "other", Stale({"write_report"})),
    ("models.sample.published.source", "another paper", NOTHING),
    # Bundles carry them.
    ("models.sample.license", "MIT", NOTHING),
    ("models.sample.attribution", "somebody", NOTHING),
    ("datasets.people.images", "given/images2", IMAGES),
    (
        "datasets.people.images",
        {"source": "given/calibration.zip", "size": 1},
        also(IMAGES, "fetch_file"),
    ),
    ("datasets.people.annotations", "given/annotations2.json", ANNOTATIONS),
    (
        "datasets.people.annotations",
        {"source": "given/both.zip", "member": "val.json"},
        also(ANNOTATIONS, "extract_annotations"),
    ),
    ("datasets.people.detections", "given/detections2.json", DETECTIONS),
    (
        "datasets.people.detections",
        {"source": "given/detections.json", "sha256": "01234567"},
        also(DETECTIONS, "fetch_file"),
    ),
    ("datasets.people.detection_score", 0.2, DETECTIONS),
    (
        "datasets.people.category",
        "person",
        replace(IMAGES, rules=IMAGES.rules | after("audit_dataset"), subsets=ALL_SUBSETS),
    ),
    ("datasets.found.detector.onnx", "given/other.onnx", DETECTED),
    ("datasets.found.detector.sha256", "01234567", also(DETECTED, "fetch_file")),
    ("datasets.found.detector.card.pipeline", "given/pipeline2.json", DETECTED),
    ("datasets.found.detector.card.layout", "yolox", DETECTED),
    ("datasets.found.detector.card.input", "64x64", DETECTED),
    ("datasets.found.detector.card.mean", [1, 2, 3], DETECTED),
    ("datasets.found.detector.card.std", [1, 2, 3], DETECTED),
    ("datasets.found.detector.card.channel_order", "RGB", DETECTED),
    ("datasets.found.detector.card.pad", 0, DETECTED),
    ("datasets.found.detector.card.person", 1, DETECTED),
    ("datasets.found.detector.card.decoded", True, DETECTED),
    ("datasets.found.detector.card.score", 0.1, DETECTED),
    ("datasets.found.detector.card.nms", 0.5, DETECTED),
    ("datasets.people.calibration.images", "given/calibration2.zip", CALIBRATION),
    (
        "datasets.people.calibration.annotations",
        "given/annotations2.json",
        CALIBRATION,
    ),
    ("datasets.fetched.calibration.count", 6, FETCHED),
    (
        "datasets.fetched.calibration.annotations",
        ARCHIVE | {"member": "val.json"},
        also(FETCHED, "extract_annotations"),
    ),
    (
        "datasets.fetched.calibration.annotations",
        ARCHIVE | {"source": ["https://localhost/both.zip", "given/both.zip"]},
        NOTHING,
    ),
    ("datasets.fetched.calibration.annotations", ARCHIVE | {"size": None}, NOTHING),
    # Which images are chosen is recorded with the digits that the configuration gives.
    (
        "datasets.fetched.calibration.annotations",
        ARCHIVE | {"sha256": hashlib.sha256(BOTH).hexdigest()},
        FETCHED,
    ),
    ("protocols.boxes", ["det", "gt"], Stale(after("score_accuracy"))),
    ("protocols.flip", [True], Stale(after("predict_keypoints"))),
    ("protocols.nms", "soft", Stale(after("score_accuracy"))),
    ("baseline", "given/images", GATE),
    ("limits.ap", 0.5, GATE),
    ("limits.ap_drop", 0.03, GATE),
    ("limits.keypoint_shift_px", 1.0, GATE),
    ("limits.fps", 1.0, GATE),
    ("limits.latency_p99_ms", 1.0, GATE),
    ("benchmark.min_seconds", 6.0, Stale(after("measure_machine"))),
    ("benchmark.patience", 6.0, Stale(after("measure_machine"))),
    ("benchmark.min_samples", 60, Stale(after("benchmark_engine"))),
    ("benchmark.batches", [1], Stale(after("benchmark_engine"))),
    ("benchmark.streams", [2], Stale(after("benchmark_engine"))),
    ("quantization.ap_drop", 0.01, Stale(after("quantize_int8"), {"int8"})),
    ("shards", 3, Stale({"make_crops"} | after("predict_keypoints"), subsets={"gt", "det"})),
    ("crops", "temporary", Stale({"make_temporary_crops"} | after("predict_keypoints"))),
    ("variants.fp32.backend", "onnxruntime", Stale(after("build_engine"), {"fp32"})),
    (
        "variants.int8.backend",
        "tensorrt",
        Stale({"quantize_int8"} | after("convert_precision"), {"int8"}),
    ),
    ("variants.int8.precision", "fp16", Stale(after("convert_precision"), {"int8"})),
    ("variants.fp32.batch", 4, Stale(after("build_engine"), {"fp32"})),
    (
        "variants.fp32.model",
        "twin",
        Stale(after("fetch_file") - {"quantize_int8", "quantize_fp8"}, {"fp32"}),
    ),
    ("variants.fp32.options", {"threads": 3}, Stale(after("build_engine"), {"fp32"})),
    ("variants.fp32.options", {"threads": 2, "streams": 1}, Stale(after("build_engine"), {"fp32"})),
    ("variants.fp32.limits", {"fps": 1.0}, GATE),
    # Another reference is another comparison, for every variant.
    ("variants.pytorch.batch", 4, Stale(after("build_engine"), {"pytorch"})),
]
UNSEEN = {
    "run": "says where files lie: tests/workflow/test_places.py",
    "model": "says which model variants have: row variants.*.model",
    "dataset": "says which dataset is evaluated: test_another_dataset",
}


def keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """All keys of the configuration; what stands for a name is `*`.  A file is one key."""
    for name, info in section.model_fields.items():
        if name == "models":  # those of mmpose; test_an_onnx_file has the others
            yield from keys(configuration.MmposeModel, "models.*.")
            continue
        kinds = [info.annotation, *get_args(info.annotation)]
        sections = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        inner = [k for k in sections if k is not configuration.Source]
        named = get_origin(info.annotation) is dict and inner
        if inner and name != "limits":
            yield from keys(inner[0], f"{prefix}{name}.{'*.' if named else ''}")
        elif name == "limits" and not prefix:
            yield from keys(Limits, "limits.")
        else:
            yield prefix + name


def test_every_configuration_key_has_a_row() -> None:
    names = VARIANTS | {"sample", "people", "fetched", "found"}
    rows = {
        ".".join("*" if part in names else part for part in key.split(".")) for key, *_ in CONFIG
    }

    assert rows | UNSEEN.keys() == set(keys(configuration.Config))


# --- the tests ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planner]:
    with Planner(tmp_path_factory.mktemp("planner")) as started:
        yield started


def annotated(number: int) -> bytes:
    """Annotations that are in order, so that they can be planned with."""
    image = {"id": number, "file_name": "a.jpg", "width": 9, "height": 9}
    person = {"id": 1, "image_id": number, "bbox": [1, 1, 5, 5], "keypoints": [2, 2, 2] * 17}
    content = {
        "images": [image],
        "annotations": [person],
        "categories": [{"id": 1, "name": "person"}],
    }
    return json.dumps(content).encode()


@pytest.fixture(scope="module")
def finished(
    repository: Path, planner: Planner, tmp_path_factory: pytest.TempPathFactory
) -> Project:
    """A project with a dataset of the user's own that looks finished, report and gate."""
    project = Project.copied(repository, tmp_path_factory.mktemp("finished") / "project")
    given = project.folder / "given"
    (given / "images").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg"):
        (given / "images" / name).write_bytes(name.encode())
    shutil.copytree(given / "images", given / "images2")
    (given / "images2/a.jpg").write_bytes(b"another")
    for number, name in enumerate(("annotations", "annotations2")):
        (given / f"{name}.json").write_bytes(annotated(number))
    for name in ("detector.onnx", "other.onnx", "pipeline.json", "pipeline2.json"):
        (given / name).write_text(name)
    for name in ("detections", "detections2"):
        (given / f"{name}.json").write_text(json.dumps(name))
    for name in ("calibration", "calibration2"):
        with zipfile.ZipFile(given / f"{name}.zip", "w") as archive:
            archive.writestr("c.jpg", name)
    (given / "base.py").write_text("# inherited\n")
    (given / "points.py").write_text("dataset_info = dict(sigmas=[0.1] * 17)\n")
    named = "val_dataloader['dataset']['metainfo'] = dict(from_file='given/points.py')\n"
    model = (project.folder / "resources/sample/hrnet_sample_128x96.py").read_text()
    for name in ("model", "other"):
        (given / f"{name}.py").write_text(f"_base_ = ['base.py']\n{model}{named}# {name}\n")
    (given / "other.pth").write_bytes(b"weights")
    fetched = project.folder / "resources/datasets/fetched/calibration"
    fetched.mkdir(parents=True)
    for folder, name in ((given, "both.zip"), (fetched, "annotations.zip")):
        (folder / name).write_bytes(BOTH)
    # Hashes of files that are seconds old are not kept; nor need they be for tests.
    write(project, BASE)
    fabricate(planner, project.folder, *TARGETS)
    return project


def write(project: Project, overlay: dict[str, Any]) -> None:
    twin = {"config": "given/model.py", "weights": "given/other.pth", "crop": "128x96"}
    overlay = {**overlay, "models": {**overlay["models"], "twin": twin}}
    (project.folder / "overlay.yaml").write_text(yaml.safe_dump(overlay, sort_keys=False))


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Iterator[Project]:
    """The finished project; what a test changes in it is put back."""
    yield finished
    write(finished, BASE)


@pytest.fixture
def edited(project: Project) -> Iterator[Edit]:
    """Write or delete (None) a file, and put it back with its dates."""
    before: dict[Path, tuple[bytes, os.stat_result] | None] = {}

    def edit(name: str, content: bytes | None) -> None:
        path = project.folder / name
        if path not in before:
            before[path] = (path.read_bytes(), path.stat()) if path.exists() else None
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)

    yield edit
    for path, state in before.items():
        if state is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(state[0])
            os.utime(path, ns=(state[1].st_atime_ns, state[1].st_mtime_ns))


def check(jobs: set[Job], stale: Stale) -> None:
    assert {job.rule for job in jobs} == stale.rules
    assert {job["variant"] for job in jobs if job.rule in ENGINES} == (
        stale.engines if stale.rules & ENGINES else set()
    )
    built = stale.engines if stale.built is None else stale.built
    assert {job["variant"] for job in jobs if job.rule == "build_engine"} == (
        built if "build_engine" in stale.rules else set()
    )
    assert {job["subset"] for job in jobs if job.rule == "make_crops"} == (
        stale.subsets if "make_crops" in stale.rules else set()
    )


def changed(key: str, value: Any) -> dict[str, Any]:
    overlay = json.loads(json.dumps(BASE))
    section = overlay
    *parents, last = key.split(".")
    for parent in parents:
        section = section.setdefault(parent, {})
    section[last] = value
    return dict(overlay)


def test_nothing_is_stale_when_nothing_has_changed(project: Project, planner: Planner) -> None:
    assert planner.jobs(project.folder, *TARGETS) == set()


@pytest.mark.parametrize(("key", "value", "stale"), CONFIG, ids=[f"{k}-{v}" for k, v, _ in CONFIG])
def test_a_configuration_key(
    project: Project, planner: Planner, key: str, value: Any, stale: Stale
) -> None:
    write(project, changed(key, value))
    check(planner.jobs(project.folder, *TARGETS), stale)


def test_another_dataset_is_evaluated_and_calibrated_on(project: Project, planner: Planner) -> None:
    write(project, changed("dataset", "sample") | {"protocols": {"boxes": ["gt"]}})
    jobs = planner.jobs(project.folder, *TARGETS)
    # Graphs in floating point, and engines made from them, know nothing of the dataset.
    stale = after("draw_sample")
    check(jobs, Stale(stale, built=CALIBRATED, subsets={"gt", "calibration", "benchmark"}))


def test_a_new_variant_makes_only_its_own(project: Project, planner: Planner) -> None:
    write(project, changed("variants.ort", {"backend": "onnxruntime", "precision": "fp32"}))
    check(planner.jobs(project.folder, *TARGETS), Stale(after("build_engine"), {"ort"}))


def test_a_variant_that_is_left_out_changes_the_report_alone(
    project: Project, planner: Planner
) -> None:
    write(project, changed("variants.int8", None))
    check(planner.jobs(project.folder, *TARGETS), Stale({"write_report", "check_gate"}))


DECODING = {"predict_keypoints", "benchmark_engine", "measure_parity", "quantize_int8"}
SPEED = {"measure_machine", "benchmark_engine"}
SEEN_IN_IMAGES = {"audit_dataset", "detect_persons", "make_crops", "check_calibration"} | SPEED

# File -> the rules that are made with it, the variants among their jobs and those that are built.
EDITED: dict[str, tuple[set[str], set[str], set[str]]] = {
    "make_crops.py": ({"make_crops"}, VARIANTS, CALIBRATED),
    "check_calibration.py": ({"check_calibration"}, CALIBRATED, CALIBRATED),
    # What was fetched stays, whatever happens to the code that did it.
    "fetch_calibration.py": (set(), set(), set()),
    "hrnetpose/plan.py": (set(), set(), set()),
    "hrnetpose/run.py": (set(), set(), set()),
    "hrnetpose/config.py": (set(), set(), set()),
    "hrnetpose/limits.py": ({"check_gate", "write_report"}, set(), set()),
    "hrnetpose/artifacts/perf.py": ({"benchmark_engine"}, VARIANTS, set()),
    "hrnetpose/artifacts/verdicts.py": ({"check_gate", "write_report"}, set(), set()),
    "hrnetpose/artifacts/accuracy.py": ({"score_accuracy"}, set(), set()),
    "hrnetpose/artifacts/quantization.py": ({"quantize_int8"}, {"int8"}, {"int8"}),
    "hrnetpose/archives.py": (SEEN_IN_IMAGES, VARIANTS, CALIBRATED),
    "hrnetpose/data/coco.py": ({"audit_dataset", "detect_persons"}, VARIANTS, CALIBRATED),
    "hrnetpose/detection/boxes.py": ({"detect_persons"}, set(), set()),
    "hrnetpose/detector.py": ({"detect_persons"}, set(), set()),
    "hrnetpose/fetching/fetch.py": (set(), set(), set()),
    "hrnetpose/models/export.py": ({"export_onnx"}, VARIANTS, VARIANTS),
    "hrnetpose/graphs/fp8.py": ({"quantize_fp8"}, {"fp8"}, {"fp8"}),
    "hrnetpose/graphs/sensitivity.py": ({"quantize_int8"}, {"int8"}, {"int8"}),
    "hrnetpose/engines/tensorrt/build.py": ({"build_engine"}, {"fp8"}, {"fp8"}),
    "hrnetpose/engines/openvino.py": ({"build_engine"}, {"fp32", "int8"}, {"fp32", "int8"}),
    "hrnetpose/pose/decode.py": (DECODING, VARIANTS, {"int8"}),
    "hrnetpose/pose/simcc.py": (DECODING, VARIANTS, {"int8"}),
    "hrnetpose/speed/timing.py": (SPEED, VARIANTS, set()),
    "hrnetpose/speed/machine.py": (SPEED, VARIANTS, set()),
    "hrnetpose/report/templates/report.html": ({"write_report"}, set(), set()),
    "hrnetpose/report/templates/recommend.js": ({"write_report"}, set(), set()),
    "hrnetpose/report/templates/style.css": ({"write_report"}, set(), set()),
    "hrnetpose/report/charts.py": ({"write_report"}, set(), set()),
}


@pytest.mark.parametrize("file", EDITED)
def test_an_edit_reruns_what_is_made_with_the_file_and_what_follows(
    project: Project, planner: Planner, edited: Edit, file: str
) -> None:
    name = f"workflow_scripts/{file}"
    edited(name, (project.folder / name).read_bytes() + b"\n# an edit\n")
    rules, engines, built = EDITED[file]
    check(planner.jobs(project.folder, *TARGETS), Stale(after(*rules), engines, built))


def test_an_edit_of_what_the_benchmark_writes_reruns_it_and_its_readers_alone(
    project: Project, planner: Planner, edited: Edit
) -> None:
    name = "workflow_scripts/hrnetpose/artifacts/perf.py"
    edited(name, (project.folder / name).read_bytes() + b"\n# an edit\n")

    jobs = planner.jobs(project.folder, *TARGETS)

    assert {job.rule for job in jobs} == {"benchmark_engine", "write_report", "check_gate"}


def test_of_two_edits_neither_hides_the_other(
    project: Project, planner: Planner, edited: Edit
) -> None:
    """Snakemake does not look at what follows a stale job, which an `ancient` input may be."""
    for file in (
        "workflow_scripts/convert_precision.py",
        "workflow_scripts/hrnetpose/engines/pytorch.py",
    ):
        edited(file, (project.folder / file).read_bytes() + b"\n# an edit\n")

    jobs = planner.jobs(project.folder, *TARGETS)

    built = {job["variant"] for job in jobs if job.rule == "build_engine"}
    assert "pytorch" in built
    assert "fp32" in built


# --- files that are given or made -----------------------------------------------------------------

FILES: list[tuple[str, str, bytes | None, Stale]] = [
    (
        "weights",
        "resources/sample/hrnet_sample_128x96.pth",
        b"other weights",
        Stale(after("fetch_file")),
    ),
    ("the model's config", "given/model.py", b"", Stale(after("export_onnx"))),
    ("its metainfo", "given/points.py", b"dataset_info = {}\n", Stale(after("export_onnx"))),
    ("a config it inherits from", "given/base.py", b"# other\n", Stale(after("export_onnx"))),
    ("annotations", "given/annotations.json", annotated(7), ANNOTATIONS),
    ("detections", "given/detections.json", b"other", DETECTIONS),
    ("a detector's graph", "given/detector.onnx", b"other", DETECTED),
    ("what mmdeploy says of it", "given/pipeline.json", b"other", DETECTED),
    ("one image", "given/images/a.jpg", b"x.jpg", IMAGES),
    ("a new image", "given/images/c.jpg", b"new", IMAGES),
    ("no image", "given/images/b.jpg", None, IMAGES),
    ("a deleted intermediate", "build/models/sample/simplified.onnx", None, NOTHING),
    ("a deleted engine", "build/engines/fp32/engine.bin", None, NOTHING),
    ("a deleted log", "logs/.keep", b"", NOTHING),
    (
        "a deleted result",
        "results/fp32_accuracy.json",
        None,
        Stale({"score_accuracy", "write_report", "check_gate"}),
    ),
    ("a deleted report", "results/report.html", None, Stale({"write_report"})),
    (
        "a changed result",
        "results/fp32_perf.json",
        b"{}",
        Stale({"write_report", "check_gate"}),
    ),
    ("a page of the documentation", "docs/accuracy.md", b"other", NOTHING),
    ("a test", "tests/conftest.py", b"other", NOTHING),
]


@pytest.mark.parametrize(("what", "name", "content", "stale"), FILES, ids=[row[0] for row in FILES])
def test_a_file(
    project: Project,
    planner: Planner,
    edited: Edit,
    what: str,
    name: str,
    content: bytes | None,
    stale: Stale,
) -> None:
    if name == "given/model.py":
        content = (project.folder / name).read_bytes() + b"# other\n"
    edited(name, content)
    check(planner.jobs(project.folder, *TARGETS), stale)


def test_an_onnx_file(repository: Path, planner: Planner, tmp_path: Path) -> None:
    """Its content and each key of its card rerun the import and all that follows."""
    project = Project.copied(repository, tmp_path / "project")
    write_graph(project.folder / "given.onnx")
    card: dict[str, Any] = {
        "mean": [0, 0, 0], "std": [1, 1, 1], "channel_order": "RGB",
        "codec": {"type": "MSRAHeatmap"}, "keypoints": "coco",
    }  # fmt: skip
    variants = {"int8": None, "bf16": None}

    def plan(**more: Any) -> set[str]:
        model = {"onnx": "given.onnx", "card": {**card, **more}}
        content = {"model": "mine", "models": {"mine": model}, "variants": variants}
        overlay = project.overlay(content)
        return {job.rule for job in planner.jobs(project.folder, "--configfile", overlay)}

    assert "import_onnx" in plan()
    bundle = planner.jobs(
        project.folder, "results/bundles/fp32.zip", "--configfile", "overlay.yaml"
    )
    assert {"import_onnx", "make_bundle"} <= {job.rule for job in bundle}
    fabricate(planner, project.folder, "--configfile", "overlay.yaml")
    write_graph(project.folder / "given.onnx")
    os.utime(project.folder / "given.onnx", ns=(1, 1))
    assert plan() == set()
    stale = {"import_onnx", "reference_onnx", "simplify_onnx", "convert_precision", "build_engine"}
    for key, value in (
        ("mean", [1, 2, 3]), ("std", [2, 2, 2]), ("channel_order", "BGR"), ("flip_shift", True),
        ("codec", {"type": "MSRAHeatmap", "unbiased": True}), ("outputs", ["heatmaps"]),
        ("evaluation", {"nms_thr": 0.5}), ("crop", "64x32-pad1.1"), ("input", "input"),
    ):  # fmt: skip
        assert stale <= plan(**{key: value}), key
        assert "audit_dataset" not in plan(**{key: value}), key
    assert plan() == set()
    (project.folder / "given.onnx").touch()
    write_graph(project.folder / "given.onnx", scale=2)
    assert stale <= plan()


def test_a_checkpoint_that_an_older_one_replaces(
    project: Project, planner: Planner, edited: Edit
) -> None:
    name = "resources/sample/hrnet_sample_128x96.pth"
    edited(name, b"an older checkpoint")
    os.utime(project.folder / name, ns=(1, 1))
    check(planner.jobs(project.folder, *TARGETS), Stale(after("fetch_file")))


def test_a_file_that_the_export_recorded(project: Project, planner: Planner, edited: Edit) -> None:
    """As `export_onnx` writes it: the file's hash, and no changes that it was made after."""
    card, name = "build/models/sample/model.json", "given/computed.json"
    edited(name, b"[1]")
    hashes = {name: hashlib.sha256(b"[1]").hexdigest()}
    edited(card, json.dumps({"origin": {"files": hashes, "changes": None}}).encode())
    os.utime(project.folder / card, ns=(1, 1))
    assert planner.jobs(project.folder, *TARGETS) == set()
    (project.folder / name).touch()
    assert planner.jobs(project.folder, *TARGETS) == set()

    edited(name, b"[2]")
    check(planner.jobs(project.folder, *TARGETS), Stale(after("export_onnx")))
    edited(name, None)
    check(planner.jobs(project.folder, *TARGETS), Stale(after("export_onnx")))
    edited(name, b"[1]")
    assert planner.jobs(project.folder, *TARGETS) == set()


def test_one_image_in_a_zip(project: Project, planner: Planner, edited: Edit) -> None:
    edited("given/calibration.zip", (project.folder / "given/calibration2.zip").read_bytes())
    check(planner.jobs(project.folder, *TARGETS), CALIBRATION)


def test_a_deleted_intermediate_comes_back_when_it_is_needed(
    project: Project, planner: Planner, edited: Edit
) -> None:
    edited("build/models/sample/simplified.onnx", None)
    edited("results/fp32_parity.json", None)
    jobs = planner.jobs(project.folder, *TARGETS)
    assert {"simplify_onnx", "measure_parity"} <= {job.rule for job in jobs}


@pytest.mark.parametrize(
    ("package", "stale"),
    [
        ("openvino", Stale(after("build_engine"), {"fp32", "int8"})),
        ("torch", Stale(after("export_onnx", "build_engine"))),
        (
            "onnxruntime",
            Stale({"detect_persons"} | after("quantize_int8", "quantize_fp8"), CALIBRATED),
        ),
        ("onnxsim", Stale(after("simplify_onnx"), GRAPH_ENGINES)),
    ],
)
def test_another_version_of_a_package(
    project: Project, planner: Planner, tmp_path: Path, package: str, stale: Stale
) -> None:
    """The version is what the package's metadata say, as after `pip install`."""
    metadata = tmp_path / f"{package}-9999.0.dist-info/METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 9999.0\n")
    check(planner.jobs(project.folder, *TARGETS, path=[tmp_path]), stale)


def test_a_rule_that_has_another_command(project: Project, planner: Planner, edited: Edit) -> None:
    rules = (project.folder / "rules/model.smk").read_text()
    simplify = "--output {output.graph:q} --summary"
    edited("rules/model.smk", rules.replace(simplify, f" {simplify}").encode())
    check(
        planner.jobs(project.folder, *TARGETS),
        Stale(after("simplify_onnx"), GRAPH_ENGINES),
    )


# --- what changes nothing -------------------------------------------------------------------------


def test_a_fresh_checkout_and_fresh_copies_of_what_is_given(
    project: Project, planner: Planner
) -> None:
    """All dates of what is not made here are new, in an order that means nothing."""
    before = {}
    for path in sorted(project.folder.rglob("*"), key=lambda path: path.name):
        top = path.relative_to(project.folder).parts[0]
        if path.is_file() and top not in {"build", "results", "logs", ".snakemake"}:
            before[path] = path.stat().st_mtime_ns
            path.touch()
    jobs = planner.jobs(project.folder, *TARGETS)
    for path, date in before.items():
        os.utime(path, ns=(date, date))
    assert jobs == set()


def test_results_that_are_touched_but_unchanged(project: Project, planner: Planner) -> None:
    touched = ["results/fp32_accuracy.json", "build/models/sample/model.onnx",
               "build/engines/int8/engine.bin", "resources/weights/sample.pth"]  # fmt: skip
    dates = {name: (project.folder / name).stat().st_mtime_ns for name in touched}
    for name in touched:
        (project.folder / name).touch()
    jobs = planner.jobs(project.folder, *TARGETS)
    for name, date in dates.items():
        os.utime(project.folder / name, ns=(date, date))
    assert jobs == set()


def test_the_order_of_keys(project: Project, planner: Planner) -> None:
    def reversed_(section: Any) -> Any:
        if not isinstance(section, dict):
            return section
        return {key: reversed_(section[key]) for key in reversed(section)}

    write(project, reversed_(BASE))
    default = project.folder / "config.yaml"
    before = default.read_bytes()
    default.write_text(yaml.safe_dump(reversed_(yaml.safe_load(before)), sort_keys=False))
    jobs = planner.jobs(project.folder, *TARGETS)
    default.write_bytes(before)
    assert jobs == set()


def test_another_place(project: Project, planner: Planner, tmp_path: Path) -> None:
    shutil.copytree(project.folder, tmp_path / "moved here")
    assert planner.jobs(tmp_path / "moved here", *TARGETS) == set()


def test_other_cores_threads_and_resources(project: Project, planner: Planner) -> None:
    other = ["--cores", "7", "--set-threads", "make_crops=5", "--set-resources",
             "build_engine:mem_mb=1", "--resources", "gpu=4"]  # fmt: skip
    assert planner.jobs(project.folder, *other, *TARGETS) == set()


def test_a_comment_in_a_rule_file(project: Project, planner: Planner, edited: Edit) -> None:
    for name in ("Snakefile", "rules/engine.smk", "profiles/default/profile.yaml"):
        edited(name, b"# a comment\n" + (project.folder / name).read_bytes())
    assert planner.jobs(project.folder, *TARGETS) == set()


def test_hashes_that_cannot_be_read_are_taken_again(
    project: Project, planner: Planner, edited: Edit
) -> None:
    for record in (project.folder / "build/contents").iterdir():
        edited(str(record.relative_to(project.folder)), b"\x00 no JSON")
    assert planner.jobs(project.folder, *TARGETS) == set()
