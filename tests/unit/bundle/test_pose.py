"""pose.py beside the pipeline: the same keypoints, and nothing else of this project."""

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
        assert pose.draw(image, whole * 1e12, scores=np.ones((1, 17))).shape == image.shape
        for wrong in ([[5, 5, 5, 9]], [[9, 9, 2, 2]], [[0, 0, float("nan"), 4]]):
            with pytest.raises(pose.StageError, match="is not x1, y1, x2, y2"):
                model(image, wrong)
        no_boxes: list[Any] = [[[0, 0, 9, 9, 0.5]] * 4, [[1, 2, 3, 4], [1, 2]], [["a", 2, 3, 4]]]
        for wrong in no_boxes:
            with pytest.raises(pose.StageError, match=r"boxes: .*\[N, 4\]"):
                model(image, wrong)
        for no_image in (image[..., 0], None, image[:0], image / 255):
            with pytest.raises(pose.StageError, match="expected uint8"):
                model(no_image, [[0, 0, 9, 9]])


def test_a_closed_pose_and_numbers_below_1_are_refused(
    bundle: Bundle, load: Load, image: Any
) -> None:
    pose = load(bundle("plain", "onnxruntime"))
    for name in ("batch", "streams", "threads"):
        with pytest.raises(pose.StageError, match=f"{name}: -2; expected a number from 1 on"):
            pose.Pose(**{name: -2})
    with pose.Pose() as model:
        model.close()
        with pytest.raises(pose.StageError, match="this Pose is closed"):
            model(image)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_threads_that_share_a_pose_get_their_own_keypoints(
    bundle: Bundle, load: Load, image: Any, backend: str
) -> None:
    pose = load(bundle("plain", backend))
    images = [np.roll(image, 40 * shift, axis=1) for shift in range(4)]
    with pose.Pose() as model, ThreadPoolExecutor(4) as pool:
        alone = [model(one)[0] for one in images]
        together = list(pool.map(lambda one: model(one)[0], images * 50))
    for found, expected in zip(together, alone * 50, strict=True):
        assert np.array_equal(found, expected)


def test_a_folder_is_that_of_the_working_directory(
    bundle: Bundle, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    pose = load(bundle("plain", "openvino"))
    found = []
    for codec in ("plain", "megvii"):
        monkeypatch.chdir(bundle(codec, "openvino").parent)
        with pose.Pose("packed") as model:
            found.append(model.card.model.codec.type)
    assert found == ["MSRAHeatmap", "MegviiHeatmap"]


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


@pytest.mark.parametrize(
    ("name", "listed", "found", "says"),
    [
        ("b.png", [{"id": 8, "file_name": "images/b.png"}], [8], "1 persons (1 boxes of other im"),
        ("b.png", [{"id": n, "file_name": f"{n}/b.png"} for n in (7, 8)], None, "2 of its images"),
        ("7.png", [], [7], "1 persons (1 boxes of other images are left out)"),
        ("9.png", [], [], "0 persons (2 boxes of other images are left out)"),
        ("b.png", [], None, "2 of its images may be b.png; call it by its image_id, such as 7.png"),
    ],
)
def test_boxes_of_several_images(
    plain: Path, image: Any, tmp_path: Path,
    name: str, listed: list[Any], found: list[int] | None, says: str,
) -> None:  # fmt: skip
    cv2.imwrite(str(tmp_path / name), image)
    boxes = [{"image_id": number, "bbox": [10, 20, 100, 200]} for number in (7, 8)]
    coco = {"images": listed, "annotations": boxes}
    (tmp_path / "boxes.json").write_text(json.dumps(coco), encoding="utf-8-sig")

    done = run(plain, name, "--boxes", "boxes.json", "--output", "out.png", cwd=tmp_path)

    assert says in done.stdout + done.stderr
    assert (tmp_path / "out.json").exists() == (found is not None)
    if found is not None:
        people = json.loads((tmp_path / "out.json").read_text())
        assert [one["image_id"] for one in people] == found


def test_boxes_that_look_like_corners_are_told(plain: Path, image: Any, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "image.png"), image)
    (tmp_path / "boxes.json").write_text("[[200, 100, 300, 230], [100, 120, 310, 220]]")

    done = run(plain, "image.png", "--boxes", "boxes.json", cwd=tmp_path)

    assert done.stdout.startswith("2 persons: image_pose.jpg")
    assert "warning: boxes.json: the boxes look like x1, y1, x2, y2, but are" in done.stderr


@pytest.fixture
def video(image: Any, tmp_path: Path) -> Path:
    """A video of five images, 12 a second."""
    codec = cv2.VideoWriter.fourcc(*"MJPG")
    video = cv2.VideoWriter(str(tmp_path / "video.avi"), codec, 12.0, (320, 240))
    for shift in range(5):
        video.write(np.roll(image, 3 * shift, axis=1))
    video.release()
    return tmp_path / "video.avi"


@pytest.mark.parametrize("given", ["nothing", "first", "each", "later", "numbered"])
def test_a_video_is_followed_or_has_its_boxes(
    plain: Path, video: Path, tmp_path: Path, given: str
) -> None:
    box = [100, 20, 100, 200]
    boxes = {
        "first": [box],
        "each": [[box], [box, box], [], [box], [box]],
        "later": [[], [box, box], [], [box], [box]],
        "numbered": [{"bbox": box, "image_id": number} for number in (0, 1, 1, 3, 4)],
    }
    flags = []
    if given in boxes:
        (tmp_path / "boxes.json").write_text(json.dumps(boxes[given]))
        flags = ["--boxes", "boxes.json"]

    done = run(plain, video, *flags, "--output", "drawn.avi", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "5 images, " in done.stdout
    assert " images/s" in done.stdout
    found = json.loads((tmp_path / "drawn.json").read_text())
    expected = [0, 1, 2, 3, 4] if given in ("nothing", "first") else [0, 1, 1, 3, 4]
    expected = expected[1:] if given == "later" else expected
    assert [one["image_id"] for one in found] == expected
    drawn = cv2.VideoCapture(str(tmp_path / "drawn.avi"))
    assert (drawn.get(cv2.CAP_PROP_FRAME_COUNT), drawn.get(cv2.CAP_PROP_FPS)) == (5, 12)


def test_whole_image_is_each_image_of_a_video(
    plain: Path, load: Load, video: Path, tmp_path: Path
) -> None:
    done = run(plain, video, "--whole-image", "--output", "drawn.avi", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "drawn.json").read_text())
    pose, images = load(plain), cv2.VideoCapture(str(video))
    with pose.Pose() as model:
        for one in found:
            keypoints, _ = model(images.read()[1])
            triples = np.reshape(one["keypoints"], (1, 17, 3))
            assert np.abs(triples[..., :2] - keypoints).max() < 1e-3


def test_who_is_not_seen_is_followed_all_the_same(plain: Path, load: Load) -> None:
    points = np.random.default_rng(1).uniform(0, 100, (3, 17, 2)).astype(np.float32)
    scores = np.stack([np.zeros(17), np.full(17, -1.0), np.linspace(-2, -1, 17)])
    boxes = load(plain).follow(points, scores.astype(np.float32))
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_what_is_wrong_is_said_in_a_line(
    plain: Path, image: Any, video: Path, tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "image.png"), image)
    cv2.imwrite(str(tmp_path / "whole.jpg"), image)
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:5000])
    wrong = {"bbox": [1, 2, 3, 4]}
    (tmp_path / "score.json").write_text(json.dumps([{**wrong, "score": None}]))
    (tmp_path / "id.json").write_text(json.dumps([{**wrong, "image_id": "image"}]))
    (tmp_path / "negative.json").write_text("[[9, 9, -5, 9]]")
    (tmp_path / "d.json").mkdir()
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
        ("half.jpg", "--whole-image"): "half.jpg: is damaged: it cannot be decoded whole",
        ("image.png", "--boxes", "score.json"): "score.json: score is None; expected a number",
        ("image.png", "--boxes", "id.json"): "id.json: image_id is 'image'; expected a whole",
        ("image.png", "--boxes", "negative.json"): "negative.json: [9, 9, -5, 9] is no box",
        ("image.png", "--whole-image", "--output", "a/b.png"): "there is no folder a; make it",
        ("image.png", "--whole-image", "--output", "image.png"): "image.png: is read, and would",
        ("image.png", "--boxes", "id.json", "--output", "id.png"): "id.json: is read, and would",
        ("image.png", "--whole-image", "--output", "d.png"): "d.json: cannot be written: Is a dir",
        ("image.png", "--whole-image", "--batch", "-2"): "batch: -2; expected a number from 1",
        (video, "--output", "a.jpg"): "a.jpg: is no video; give a .mp4 or .avi as --output",
        (video, "--output", video): "video.avi: is read, and would be written over",
        ("--check", "image.png"): "--check takes no image",
        ("--build",): "--build: an engine of openvino is not built on arrival",
    }.items():
        done = run(plain, *arguments, cwd=tmp_path)
        assert done.returncode == (2 if "--check" in arguments else 1), done.stdout
        last = done.stderr.splitlines()[-1]  # FFmpeg says something, too
        assert last.startswith("pose.py: error: ")
        assert said in last


@pytest.mark.parametrize(
    "file",
    ["engine.bin", "engine.json", "check/check.json", "models/portable/1/portable.onnx"],
)
def test_a_changed_byte_is_refused(plain: Path, tmp_path: Path, file: str) -> None:
    folder = Path(shutil.copytree(plain, tmp_path / "copy"))
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / file).write_bytes(content)
    flags = ["--portable"] if "portable" in file else []

    done = run(folder, ROOT / "docs/report.png", "--whole-image", *flags, cwd=tmp_path)

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


def test_a_runtime_that_is_broken_is_refused_but_for_another_one(
    plain: Path, image: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cv2.imwrite(str(tmp_path / "image.png"), image)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "openvino.py").write_text("raise ImportError('DLL load failed')")

    done = run(plain, "image.png", "--whole-image", cwd=tmp_path)

    assert "openvino is installed, but cannot be imported: DLL load failed; `pip" in done.stderr
    assert run(plain, "image.png", "--whole-image", "--portable", cwd=tmp_path).returncode == 0
    (tmp_path / "onnxruntime.py").write_text("import no_such_package")
    done = run(plain, "image.png", "--whole-image", "--portable", cwd=tmp_path)
    assert "onnxruntime is installed, but cannot be imported: No module named" in done.stderr


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
