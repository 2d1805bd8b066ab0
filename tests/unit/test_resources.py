"""What a run takes from elsewhere, where it lies, and what is left as it is."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from hrnetpose.artifacts.fetched import FetchedImages
from hrnetpose.config import ConfigError
from hrnetpose.resolve import resolve
from hrnetpose.resources import Dataset, Resources

Raw = dict[str, Any]


def resources_of(raw: Raw) -> Resources:
    return resolve(raw, "openvino").resources


def sample_of(raw: Raw) -> Dataset:
    return resolve(raw, "openvino").datasets["sample"]


def test_what_a_url_names_lies_among_the_resources(raw: Raw) -> None:
    sample = raw["datasets"]["sample"]
    found = sample_of(raw)
    assert found.images.place == sample["images"]
    assert found.annotations.place == sample["annotations"]
    assert found.detections is None

    for key in ("images", "annotations", "detections"):
        sample[key] = f"https://host/{key}"
    assert [given.place for given in sample_of(raw).given[:3]] == [
        f"resources/datasets/sample/{name}" for name in LYING
    ]
    assert set(resources_of(raw).downloads) == {
        "resources/weights/sample.pth",
        *(f"resources/datasets/sample/{name}" for name in LYING),
    }


LYING = ("images.zip", "annotations.json", "detections.json")


def test_a_path_with_a_hash_is_copied_and_checked(raw: Raw) -> None:
    raw["datasets"]["sample"]["images"] = {"source": "val.zip", "sha256": "0123456789"}

    assert sample_of(raw).images.place == "resources/datasets/sample/images.zip"
    download = resources_of(raw).downloads["resources/datasets/sample/images.zip"]
    assert download.input == ["val.zip"]
    assert download.flags == ["--source", "val.zip", "--sha256", "0123456789"]


def test_mirrors_are_kept_in_their_order(raw: Raw) -> None:
    raw["models"]["sample"]["weights"] = ["https://b/w.pth", "w.pth", "https://a/w.pth"]

    download = resources_of(raw).downloads["resources/weights/sample.pth"]

    assert download.flags == ["--source", "https://b/w.pth", "w.pth", "https://a/w.pth"]
    assert download.input == []


def coco(raw: Raw) -> Raw:
    """Make the sample a dataset such as COCO: annotations in one zip, images by coco_url."""
    source = {"source": "https://host/annotations.zip", "sha256": "0123456789"}
    raw["datasets"]["sample"] |= {
        "annotations": {**source, "member": "val.json"},
        "calibration": {
            "images": "coco_url",
            "annotations": {**source, "member": "train.json"},
            "count": 20,
        },
    }
    return raw


def test_one_zip_holds_the_annotations_of_both_splits(raw: Raw) -> None:
    resources = resources_of(coco(raw))

    folder = "resources/datasets/sample"
    assert resources.archives == {
        f"{folder}/annotations.json": (f"{folder}/annotations.zip", "val.json"),
        f"{folder}/calibration/all_annotations.json": (f"{folder}/annotations.zip", "train.json"),
    }
    assert set(resources.downloads) == {
        "resources/weights/sample.pth", f"{folder}/annotations.zip",
    }  # fmt: skip
    chosen = sample_of(raw).subset("calibration")
    assert chosen.images == f"{folder}/calibration/images.zip"
    assert chosen.annotations == f"{folder}/calibration/annotations.json"
    assert resources.calibration_to_fetch() == ["sample"]


def test_a_run_takes_from_elsewhere_what_its_variants_need(raw: Raw) -> None:
    raw["datasets"]["sample"]["detections"] = "https://host/boxes.json"
    needed = resolve(coco(raw), "openvino").needed
    assert needed == [
        "resources/weights/sample.pth",
        "resources/datasets/sample/val.zip",
        "resources/datasets/sample/annotations.json",
        "resources/datasets/sample/calibration/images.zip",
        "resources/datasets/sample/calibration/annotations.json",
    ]

    raw["variants"]["int8"] = None
    raw["protocols"]["boxes"] = ["det"]
    assert resolve(raw, "openvino").needed == [
        *needed[:3],
        "resources/datasets/sample/detections.json",
    ]


def test_another_zip_for_calibration_lies_elsewhere(raw: Raw) -> None:
    coco(raw)["datasets"]["sample"]["calibration"]["annotations"]["source"] = "https://other/a.zip"

    place = resources_of(raw).archives[
        "resources/datasets/sample/calibration/all_annotations.json"
    ][0]

    assert place == "resources/datasets/sample/calibration/annotations.zip"


def test_annotations_are_taken_out_of_a_zip_in_place(raw: Raw) -> None:
    raw["datasets"]["sample"]["annotations"] = {"source": "my.zip", "member": "val.json"}

    resources = resources_of(raw)

    assert resources.archives == {sample_of(raw).annotations.place: ("my.zip", "val.json")}
    assert set(resources.downloads) == {"resources/weights/sample.pth"}


CONTENT = b"weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def filled(raw: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose `resources/` somebody has filled by hand."""
    raw["models"]["sample"] |= {"crop": "128x96", "sha256": SHA256[:8]}
    config = Path(raw["models"]["sample"]["config"]).resolve()
    raw["models"]["sample"]["config"] = str(config)
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "resources/weights/sample.pth"
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    return place


def test_a_file_that_is_there_and_right_is_not_fetched(raw: Raw, filled: Path) -> None:
    assert resources_of(raw).to_fetch() == []

    filled.unlink()
    assert resources_of(raw).to_fetch() == ["resources/weights/sample.pth"]


def test_a_file_of_unknown_hash_keeps_its_rule(raw: Raw, filled: Path) -> None:
    raw["models"]["sample"]["sha256"] = None

    assert resources_of(raw).to_fetch() == ["resources/weights/sample.pth"]


def test_a_wrong_file_that_is_there_is_refused_and_left(raw: Raw, filled: Path) -> None:
    assert resources_of(raw).to_fetch() == []
    filled.write_bytes(b"other")

    with pytest.raises(ConfigError) as error:
        resources_of(raw).to_fetch()

    assert str(error.value) == (
        f"resources/weights/sample.pth: sha256 is {hashlib.sha256(b'other').hexdigest()}, but the "
        f"configuration says {SHA256[:8]}: it is another file, or damaged; delete it, or correct "
        "the configuration"
    )
    assert filled.read_bytes() == b"other"


def test_calibration_images_that_are_there_are_not_fetched(raw: Raw, filled: Path) -> None:
    resources = resources_of(coco(raw))
    folder = filled.parents[1] / "datasets/sample/calibration"
    folder.mkdir(parents=True)
    (folder / "images.zip").write_bytes(b"images")
    (folder / "annotations.json").write_bytes(b"annotations")
    FetchedImages(
        source="0123456789:train.json",
        count=20,
        images=[],
        archive_sha256=hashlib.sha256(b"images").hexdigest(),
        annotations_sha256=hashlib.sha256(b"annotations").hexdigest(),
    ).write(folder / "manifest.json")
    assert resources.calibration_to_fetch() == []

    raw["datasets"]["sample"]["calibration"]["count"] = 21
    assert resources_of(raw).calibration_to_fetch() == ["sample"]
    (folder / "images.zip").write_bytes(b"others")
    assert resources.calibration_to_fetch() == ["sample"]


def test_boxes_that_cannot_be_had_are_left_out_with_a_note(raw: Raw, filled: Path) -> None:
    raw["datasets"]["sample"]["detections"] = {"source": [], "sha256": SHA256}
    raw["protocols"]["boxes"] = ["det", "gt"]
    run = resolve(raw, "openvino")

    assert run.config.protocols.boxes == ["gt"]
    (note,) = run.notes
    assert note.startswith("resources/datasets/sample/detections.json: the detector's boxes are ")
    assert f"put the file there (sha256 {SHA256}) by hand" in note
    raw["protocols"]["boxes"] = ["det"]
    with pytest.raises(ConfigError, match=r"or evaluate with ground-truth boxes: `protocols: \{bo"):
        resolve(raw, "openvino")

    place = filled.parents[1] / "datasets/sample/detections.json"
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    run = resolve(raw, "openvino")
    assert run.config.protocols.boxes == ["det"]
    assert run.notes == ()


def test_boxes_with_an_address_are_fetched(raw: Raw, filled: Path) -> None:
    raw["datasets"]["sample"]["detections"] = "https://host/boxes.json"
    raw["protocols"]["boxes"] = ["gt", "det"]

    run = resolve(raw, "openvino")

    assert run.config.protocols.boxes == ["gt", "det"]
    download = run.resources.downloads["resources/datasets/sample/detections.json"]
    assert download.flags[-2:] == [
        "--otherwise", "evaluate with ground-truth boxes: `protocols: {boxes: [gt]}`",
    ]  # fmt: skip
