"""What a run takes from elsewhere, where it lies, and what is left as it is."""

import copy
import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from hrnetpose import engines, plan
from hrnetpose.artifacts.fetched import FetchedImages
from hrnetpose.config import ConfigError
from hrnetpose.plan import Plan

Raw = dict[str, Any]


@pytest.fixture
def raw(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Raw:
    """The default configuration, whose paths start at the repository's root."""
    monkeypatch.chdir(repository)
    return copy.deepcopy(yaml.safe_load(Path("config.yaml").read_text(encoding="utf-8")))


def made(raw: Raw) -> Plan:
    return plan.make(raw, engines.rules(), lambda name: "openvino" if name == "auto" else name)


def test_what_a_url_names_lies_among_the_resources(raw: Raw) -> None:
    sample = raw["datasets"]["sample"]
    planned = made(raw)
    assert planned.images("sample") == sample["images"]
    assert planned.annotations("sample") == sample["annotations"]
    assert planned.detections("sample") is None

    for key in ("images", "annotations", "detections"):
        sample[key] = f"https://host/{key}"
    planned = made(raw)
    assert planned.images("sample") == "resources/datasets/sample/images.zip"
    assert planned.annotations("sample") == "resources/datasets/sample/annotations.json"
    assert planned.detections("sample") == "resources/datasets/sample/detections.json"
    assert set(planned.downloads) == {
        "resources/weights/sample.pth",
        *(f"resources/datasets/sample/{name}" for name in LYING),
    }


LYING = ("images.zip", "annotations.json", "detections.json")


def test_a_path_with_a_hash_is_copied_and_checked(raw: Raw) -> None:
    raw["datasets"]["sample"]["images"] = {"source": "val.zip", "sha256": "0123456789"}

    planned = made(raw)

    assert planned.images("sample") == "resources/datasets/sample/images.zip"
    download = planned.downloads["resources/datasets/sample/images.zip"]
    assert download.input == ["val.zip"]
    assert download.flags == ["--source", "val.zip", "--sha256", "0123456789"]


def test_mirrors_are_kept_in_their_order(raw: Raw) -> None:
    raw["models"]["sample"]["weights"] = ["https://b/w.pth", "w.pth", "https://a/w.pth"]

    download = made(raw).downloads["resources/weights/sample.pth"]

    assert download.flags == ["--source", "https://b/w.pth", "w.pth", "https://a/w.pth"]
    assert download.input == []


def coco(raw: Raw) -> Raw:
    """Makes the sample a dataset such as COCO: annotations in one zip, images by coco_url."""
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
    planned = made(coco(raw))

    folder = "resources/datasets/sample"
    assert planned.archives == {
        f"{folder}/annotations.json": (f"{folder}/annotations.zip", "val.json"),
        f"{folder}/calibration/all_annotations.json": (f"{folder}/annotations.zip", "train.json"),
    }
    assert set(planned.downloads) == {
        "resources/weights/sample.pth", f"{folder}/annotations.zip",
    }  # fmt: skip
    assert planned.calibration("sample").images == f"{folder}/calibration/images.zip"
    assert planned.calibration("sample").annotations == f"{folder}/calibration/annotations.json"
    assert planned.calibration_to_fetch() == ["sample"]


def test_a_run_takes_from_elsewhere_what_its_variants_need(raw: Raw) -> None:
    raw["datasets"]["sample"]["detections"] = "https://host/boxes.json"
    needed = made(coco(raw)).needed()
    assert needed == [
        "resources/weights/sample.pth",
        "resources/datasets/sample/val.zip",
        "resources/datasets/sample/annotations.json",
        "resources/datasets/sample/calibration/images.zip",
        "resources/datasets/sample/calibration/annotations.json",
    ]

    raw["variants"]["int8"] = None
    raw["protocols"]["boxes"] = ["det"]
    assert made(raw).needed() == [*needed[:3], "resources/datasets/sample/detections.json"]


def test_another_zip_for_calibration_lies_elsewhere(raw: Raw) -> None:
    coco(raw)["datasets"]["sample"]["calibration"]["annotations"]["source"] = "https://other/a.zip"

    place = made(raw).archives["resources/datasets/sample/calibration/all_annotations.json"][0]

    assert place == "resources/datasets/sample/calibration/annotations.zip"


def test_annotations_are_taken_out_of_a_zip_in_place(raw: Raw) -> None:
    raw["datasets"]["sample"]["annotations"] = {"source": "my.zip", "member": "val.json"}

    planned = made(raw)

    assert planned.archives == {planned.annotations("sample"): ("my.zip", "val.json")}
    assert set(planned.downloads) == {"resources/weights/sample.pth"}


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
    assert made(raw).to_fetch() == []

    filled.unlink()
    assert made(raw).to_fetch() == ["resources/weights/sample.pth"]


def test_a_file_of_unknown_hash_keeps_its_rule(raw: Raw, filled: Path) -> None:
    raw["models"]["sample"]["sha256"] = None

    assert made(raw).to_fetch() == ["resources/weights/sample.pth"]


def test_a_wrong_file_that_is_there_is_refused_and_left(raw: Raw, filled: Path) -> None:
    planned = made(raw)
    assert planned.to_fetch() == []
    filled.write_bytes(b"other")

    with pytest.raises(ConfigError) as error:
        planned.to_fetch()

    assert str(error.value) == (
        f"resources/weights/sample.pth: sha256 is {hashlib.sha256(b'other').hexdigest()}, but the "
        f"configuration says {SHA256[:8]}: it is another file, or damaged; delete it, or correct "
        "the configuration"
    )
    assert filled.read_bytes() == b"other"


def test_calibration_images_that_are_there_are_not_fetched(raw: Raw, filled: Path) -> None:
    planned = made(coco(raw))
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
    assert planned.calibration_to_fetch() == []

    raw["datasets"]["sample"]["calibration"]["count"] = 21
    assert made(raw).calibration_to_fetch() == ["sample"]
    (folder / "images.zip").write_bytes(b"others")
    assert planned.calibration_to_fetch() == ["sample"]


def test_boxes_that_cannot_be_had_are_left_out_with_a_note(raw: Raw, filled: Path) -> None:
    raw["datasets"]["sample"]["detections"] = {"source": [], "sha256": SHA256}
    raw["protocols"]["boxes"] = ["det", "gt"]
    planned = made(raw)

    assert planned.config.protocols.boxes == ["gt"]
    (note,) = planned.notes
    assert note.startswith("resources/datasets/sample/detections.json: the detector's boxes are ")
    assert f"put the file there (sha256 {SHA256}) by hand" in note
    raw["protocols"]["boxes"] = ["det"]
    with pytest.raises(ConfigError, match=r"or evaluate with ground-truth boxes: `protocols: \{bo"):
        made(raw)

    place = filled.parents[1] / "datasets/sample/detections.json"
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    assert made(raw).config.protocols.boxes == ["det"]
    assert made(raw).notes == ()


def test_boxes_with_an_address_are_fetched(raw: Raw, filled: Path) -> None:
    raw["datasets"]["sample"]["detections"] = "https://host/boxes.json"
    raw["protocols"]["boxes"] = ["gt", "det"]

    planned = made(raw)

    assert planned.config.protocols.boxes == ["gt", "det"]
    download = planned.downloads["resources/datasets/sample/detections.json"]
    assert download.flags[-2:] == [
        "--otherwise", "evaluate with ground-truth boxes: `protocols: {boxes: [gt]}`",
    ]  # fmt: skip


# --- what is named is there -----------------------------------------------------------------------


def checked(raw: Raw, *made_by_rules: str) -> None:
    planned = made(raw)
    sample = ("resources/datasets/sample/", *made_by_rules)
    planned.check_given(planned.crops, lambda path: path.startswith(sample))


def refusal(raw: Raw) -> str:
    with pytest.raises(ConfigError) as error:
        checked(raw)
    assert str(error.value).isprintable()
    return str(error.value)


@pytest.fixture
def given(raw: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Raw:
    """A configuration whose files lie in a folder of the user's, all of them there."""
    raw["models"]["sample"]["config"] = str(
        Path("resources/sample/hrnet_sample_128x96.py").resolve()
    )
    monkeypatch.chdir(tmp_path)
    for name in ("w.pth", "val.json", "det.json", "train.json", "images/a.jpg", "train/a.jpg"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(CONTENT)
    raw["models"]["sample"]["weights"] = "data/w.pth"
    raw["datasets"]["sample"] = {
        "images": "data/images", "annotations": "data/val.json", "detections": "data/det.json",
        "calibration": {"images": "data/train", "annotations": "data/train.json"},
    }  # fmt: skip
    raw["protocols"]["boxes"] = ["gt", "det"]
    return raw


def test_files_that_are_there_are_taken(given: Raw) -> None:
    checked(given)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("models.sample.weights", "gone.pth"),
        ("models.sample.weights", "file:///gone.pth"),
        ("models.sample.weights", ["gone.pth", "/gone/too.pth"]),
        ("datasets.sample.images", "gone"),
        ("datasets.sample.annotations", "gone.json"),
        ("datasets.sample.annotations", {"source": "gone.zip", "member": "val.json"}),
        ("datasets.sample.annotations", {"source": "gone.json", "sha256": "01234567"}),
        ("datasets.sample.detections", "gone.json"),
        ("datasets.sample.calibration.images", "gone"),
        ("datasets.sample.calibration.annotations", "gone.json"),
    ],
)
def test_a_file_that_is_not_there_is_refused_by_its_key(given: Raw, key: str, value: Any) -> None:
    *parents, last = key.split(".")
    section = given
    for parent in parents:
        section = section[parent]
    section[last] = value

    said = refusal(given)

    assert said.startswith(f"{key}: ")
    assert "gone" in said
    assert "there is no such file" in said


def test_a_config_that_is_not_there_is_refused_by_its_key(given: Raw) -> None:
    given["models"]["sample"] |= {"config": "~/config.py", "crop": "64x32"}

    with pytest.raises(ConfigError, match=r"^models\.sample\.config: ~/config\.py: .*not expanded"):
        made(given)


def test_only_what_the_run_uses_is_looked_for(given: Raw) -> None:
    given["models"]["other"] = {"config": "gone.py", "weights": "gone.pth"}
    given["datasets"]["other"] = {"images": "gone", "annotations": "gone.json"}
    sample = given["datasets"]["sample"]
    sample["detections"] = "gone.json"
    given["protocols"]["boxes"] = ["gt"]
    sample["calibration"]["images"] = "gone"
    given["variants"]["int8"] = None

    checked(given)


def test_a_copy_is_used_without_its_source_only_if_its_hash_is_given(given: Raw) -> None:
    copy = Path("resources/weights/sample.pth")
    copy.parent.mkdir(parents=True)
    copy.write_bytes(CONTENT)
    given["models"]["sample"]["weights"] = "gone.pth"
    assert f"the copy at {copy} is used if its `sha256` is given" in refusal(given)

    given["models"]["sample"]["sha256"] = SHA256
    checked(given)


@pytest.mark.parametrize(
    "sources",
    [
        "https://host/a.pth",
        ["gone.pth", "https://host/a.pth"],
        ["gone.pth", "data/w.pth"],
        ["data/w.pth", "gone.pth"],
    ],
)
def test_one_source_that_may_have_it_is_enough(given: Raw, sources: Any) -> None:
    given["models"]["sample"]["weights"] = sources

    checked(given)


def test_a_file_that_a_rule_makes_need_not_be_there(given: Raw) -> None:
    given["datasets"]["sample"]["images"] = "resources/datasets/sample/val.zip"

    checked(given)


@pytest.mark.parametrize(
    ("sources", "own"),
    [
        (["data/w.pth"], ["data/w.pth"]),
        (["gone.pth", "data/w.pth"], ["data/w.pth"]),
        (["https://host/w.pth", "data/w.pth"], []),
        (["gone.pth"], []),
    ],
)
def test_the_file_that_is_copied_is_known(given: Raw, sources: list[str], own: list[str]) -> None:
    given["models"]["sample"]["weights"] = sources
    assert made(given).downloads["resources/weights/sample.pth"].own == own

    given["models"]["sample"]["weights"] = [Path("data/w.pth").absolute().as_uri()]
    assert made(given).downloads["resources/weights/sample.pth"].own == [
        str(Path("data/w.pth").absolute())
    ]


def test_what_the_workflow_writes_is_no_input(given: Raw) -> None:
    given["datasets"]["sample"]["annotations"] = "build/annotations.json"
    planned = made(given)

    with pytest.raises(ConfigError, match=r"^datasets\.sample\.annotations: .* writes this file"):
        planned.check_given(planned.crops, lambda path: path.startswith("build/"))


@pytest.mark.parametrize("absolute", [False, True])
def test_a_checkpoint_that_lies_at_its_place_is_no_copy(given: Raw, absolute: bool) -> None:
    place = Path("resources/weights/sample.pth")
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    given["models"]["sample"]["weights"] = str(place.absolute() if absolute else place)

    checked(given)

    assert made(given).to_fetch() == []
    assert "resources/weights/sample.pth" in made(given).needed()
    place.unlink()
    assert "there is no such file" in refusal(given)
