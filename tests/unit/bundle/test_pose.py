"""pose.py beside the pipeline: the same keypoints, and nothing else of this project."""

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from hrnetpose import engines
from hrnetpose.bundle import archive, assemble, runtime
from hrnetpose.data import cutting
from hrnetpose.pose import predict
from support import ROOT
from unit.bundle.conftest import CODECS

Bundle = Callable[..., Path]
Load = Callable[[Path], Any]
ADDED = (None, "hrnetpose.bundle.with_tensorrt", "hrnetpose.bundle.with_iluvatar")


def pipeline(folder: Path, image: Any, boxes: Any, flip: bool) -> tuple[Any, Any]:
    """Return what the stages of the pipeline would: keypoints and scores."""
    built = engines.read(folder.parent / "engine")
    card = built.card.model
    centers, scales = cutting.center_and_scale(boxes, card.crop)
    crops = [cutting.cut(image, *place, card.crop) for place in zip(centers, scales, strict=True)]
    found = []
    with built.open(1) as engine:
        stacked = list(cutting.stack_batches(crops, engine.batch))
        start = 0
        for plain, mirrored in predict.infer(engine.stream, stacked, flip):
            rows = slice(start, start + engine.batch)
            found.append(
                predict.keypoints(plain, mirrored, [int(flip)], card, centers[rows], scales[rows])
            )
            start = rows.stop
    keypoints, scores = (np.concatenate(part, axis=1)[0] for part in zip(*found, strict=True))
    return keypoints, scores


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("codec", CODECS)
def test_keypoints_are_those_of_the_pipeline(
    bundle: Bundle, load: Load, image: Any, boxes: Any, codec: str, backend: str
) -> None:
    folder = bundle(codec, backend)
    pose = load(folder)
    for flip in (False, True):
        expected, surely = pipeline(folder, image, boxes, flip)
        with pose.Pose(flip=flip) as model:
            keypoints, scores = model(image, boxes)
        assert keypoints.dtype == scores.dtype == np.float32
        assert np.abs(keypoints - expected).max() < 1e-3
        assert np.abs(scores - surely).max() < 1e-5
        with pose.Pose(flip=flip, portable=True) as model:
            portable, _ = model(image, boxes)
        # An argument of a maximum may differ where two values are as good as equal.
        assert np.median(np.abs(portable - expected)) < 1e-3


def test_nobody_is_nobody_and_without_boxes_the_image_is_one(
    bundle: Bundle, load: Load, image: Any
) -> None:
    pose = load(bundle("plain", "openvino"))
    with pose.Pose() as model:
        keypoints, scores = model(image, [])
        assert (keypoints.shape, scores.shape) == ((0, 17, 2), (0, 17))
        assert np.array_equal(pose.draw(image, keypoints, scores), image)
        whole, _ = model(image)
        assert np.array_equal(whole, model(image, [[0, 0, 320, 240]])[0])
        for wrong in ([[5, 5, 5, 9]], [[9, 9, 2, 2]], [[0, 0, float("nan"), 4]]):
            with pytest.raises(pose.StageError, match="are not x1, y1, x2, y2"):
                model(image, wrong)
        with pytest.raises(pose.StageError, match="expected uint8"):
            model(image[..., 0], None)


@pytest.mark.parametrize("added", ADDED)
def test_it_is_python_to_read_and_needs_nothing_of_this_project(
    added: str | None, tmp_path: Path
) -> None:
    text = assemble.assemble(runtime.__name__, *([added] if added else []))
    (tmp_path / "pose.py").write_text(text)
    ruff = Path(sys.executable).with_name("ruff")
    for command in (["check", "--ignore=D,PLR0912,ERA"], ["format", "--check"]):
        done = subprocess.run(
            [ruff, *command, "--config", ROOT / "pyproject.toml", tmp_path / "pose.py"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(text))
        for name in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import)
            else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        )
    } - set(sys.stdlib_module_names)  # fmt: skip
    drivers = {"pycuda", "cuda"} if added and added.endswith("tensorrt") else set()
    assert imported == {"numpy", "cv2", "openvino", "onnxruntime"} | drivers


def run(folder: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run pose.py as a user does."""
    return subprocess.run(
        [sys.executable, folder / "pose.py", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def plain(bundle: Bundle) -> Path:
    return bundle("plain", "openvino")


def test_an_image_gives_coco_results_and_a_drawing(plain: Path, image: Any, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "000000000042.png"), image)
    entries = [
        {"image_id": 42, "bbox": [10, 20, 100, 200], "score": 0.5},
        {"image_id": 7, "bbox": [0, 0, 10, 10]},
        {"bbox": [100, 20, 100, 200]},
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(entries))

    done = run(
        plain, "000000000042.png", "--boxes", "boxes.json", "--output", "out.png", cwd=tmp_path
    )

    assert done.returncode == 0, done.stderr
    drawn = cv2.imread(str(tmp_path / "out.png"))
    assert drawn.shape == image.shape
    assert not np.array_equal(drawn, image)
    truth = COCO()
    truth.dataset = {"images": [{"id": 42}], "annotations": [], "categories": [{"id": 1}]}
    truth.createIndex()
    results = truth.loadRes(str(tmp_path / "out.json"))
    people = list(results.anns.values())
    assert [len(person["keypoints"]) for person in people] == [51, 51]
    assert people[0]["image_id"] == 42
    assert 0 < people[0]["score"] < people[1]["score"]


@pytest.mark.parametrize("given", ["nothing", "first", "each", "numbered"])
def test_a_video_is_followed_or_has_its_boxes(
    plain: Path, image: Any, tmp_path: Path, given: str
) -> None:
    codec = cv2.VideoWriter.fourcc(*"MJPG")
    video = cv2.VideoWriter(str(tmp_path / "video.avi"), codec, 12.0, (320, 240))
    for shift in range(5):
        video.write(np.roll(image, 3 * shift, axis=1))
    video.release()
    box = [100, 20, 100, 200]
    boxes = {
        "first": [box],
        "each": [[box], [box, box], [], [box], [box]],
        "numbered": [{"bbox": box, "image_id": number} for number in (0, 1, 1, 3, 4)],
    }
    flags = []
    if given in boxes:
        (tmp_path / "boxes.json").write_text(json.dumps(boxes[given]))
        flags = ["--boxes", "boxes.json"]

    done = run(plain, "video.avi", *flags, "--output", "drawn.avi", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "5 images, " in done.stdout
    assert " images/s" in done.stdout
    found = json.loads((tmp_path / "drawn.json").read_text())
    expected = [0, 1, 2, 3, 4] if given in ("nothing", "first") else [0, 1, 1, 3, 4]
    assert [one["image_id"] for one in found] == expected
    drawn = cv2.VideoCapture(str(tmp_path / "drawn.avi"))
    assert (drawn.get(cv2.CAP_PROP_FRAME_COUNT), drawn.get(cv2.CAP_PROP_FPS)) == (5, 12)


def test_what_is_wrong_is_said_in_a_line(plain: Path, image: Any, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "image.png"), image)
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "boxes.json").write_text("[[1, 2, 3]]")
    (tmp_path / "words.json").write_text('{"boxes": 1}')
    for arguments, said in {
        ("none.png", "--whole-image"): "none.png: there is no such file",
        ("image.png",): "give --boxes FILE, or --whole-image",
        ("text.png", "--whole-image"): "neither an image nor a video",
        ("image.png", "--boxes", "boxes.json"): "[1, 2, 3] is no box; expected [x, y, width",
        ("image.png", "--boxes", "words.json"): "expected a list of boxes",
        ("image.png", "--whole-image", "--output", "a.xyz"): "give a .jpg or .png as --output",
        ("--build",): "--build: an engine of openvino is not built on arrival",
    }.items():
        done = run(plain, *arguments, cwd=tmp_path)
        assert done.returncode == 1, done.stdout
        last = done.stderr.splitlines()[-1]  # FFmpeg says something, too
        assert last.startswith("pose.py: error: ")
        assert said in last


@pytest.mark.parametrize("file", ["engine.bin", "engine.json", "models/portable/1/portable.onnx"])
def test_a_changed_byte_is_refused(plain: Path, tmp_path: Path, file: str) -> None:
    folder = Path(shutil.copytree(plain, tmp_path / "copy"))
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / file).write_bytes(content)
    flags = ["--portable"] if "portable" in file else []

    done = run(folder, ROOT / "README.md", "--whole-image", *flags, cwd=tmp_path)

    assert f"{file}: damaged, its SHA-256 is" in done.stderr
    assert done.stderr.rstrip().endswith("unpack the bundle again")


def change_card(folder: Path, **values: object) -> None:
    """Change the engine card, as if the bundle had been made so."""
    card = folder / "engine.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | values))
    archive.write_sums(folder)


def test_another_version_is_refused_but_for_the_portable_graph(
    plain: Path, image: Any, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(plain, tmp_path / "copy"))
    change_card(folder, built_for={"openvino": "2019.1.0"})
    cv2.imwrite(str(tmp_path / "image.png"), image)

    done = run(folder, "image.png", "--whole-image", cwd=tmp_path)

    assert "built for openvino 2019.1.0, but here it is" in done.stderr
    assert "install that version (requirements.txt), or run with --portable" in done.stderr
    assert run(folder, "image.png", "--whole-image", "--portable", cwd=tmp_path).returncode == 0


def test_another_size_is_refused(plain: Path, image: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(plain, tmp_path / "copy"))
    card = json.loads((folder / "engine.json").read_text())
    card["model"]["crop"] |= {"height": 96, "width": 48}
    change_card(folder, model=card["model"])
    cv2.imwrite(str(tmp_path / "image.png"), image)

    done = run(folder, "image.png", "--whole-image", cwd=tmp_path)

    assert done.returncode == 1
    assert done.stderr.startswith("pose.py: error: ")


def test_another_opencv_is_refused(plain: Path, image: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(plain, tmp_path / "copy"))
    (folder / "check/check.json").write_text('{"opencv": "5.0.0"}')
    archive.write_sums(folder)
    cv2.imwrite(str(tmp_path / "image.png"), image)

    done = run(folder, "image.png", "--whole-image", cwd=tmp_path)

    assert "cuts persons out with other pixels than 5.0.0" in done.stderr


def test_a_zip_is_the_same_whenever_it_is_made(plain: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(plain, tmp_path / "copy", copy_function=shutil.copyfile))
    digests = {
        archive.write_zip(folder, tmp_path / name / "mine.zip")
        for folder, name in ((plain, "one"), (copy, "two"))
    }
    assert len(digests) == 1
