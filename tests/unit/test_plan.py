"""Files that the configuration names and that are not there are refused when a run is planned."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from hrnetpose import plan
from hrnetpose.config import ConfigError
from hrnetpose.resolve import resolve

Raw = dict[str, Any]

CONTENT = b"weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def checked(raw: Raw, *made_by_rules: str) -> None:
    sample = ("resources/datasets/sample/", *made_by_rules)
    plan.check_given(resolve(raw, "openvino"), lambda path: path.startswith(sample))


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
        resolve(given, "openvino")


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
    assert resolve(given, "openvino").resources.downloads["resources/weights/sample.pth"].own == own

    given["models"]["sample"]["weights"] = [Path("data/w.pth").absolute().as_uri()]
    assert resolve(given, "openvino").resources.downloads["resources/weights/sample.pth"].own == [
        str(Path("data/w.pth").absolute())
    ]


def test_what_the_workflow_writes_is_no_input(given: Raw) -> None:
    given["datasets"]["sample"]["annotations"] = "build/annotations.json"
    run = resolve(given, "openvino")

    with pytest.raises(ConfigError, match=r"^datasets\.sample\.annotations: .* writes this file"):
        plan.check_given(run, lambda path: path.startswith("build/"))


@pytest.mark.parametrize("absolute", [False, True])
def test_a_checkpoint_that_lies_at_its_place_is_no_copy(given: Raw, absolute: bool) -> None:
    place = Path("resources/weights/sample.pth")
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    given["models"]["sample"]["weights"] = str(place.absolute() if absolute else place)

    checked(given)

    assert resolve(given, "openvino").resources.to_fetch() == []
    assert "resources/weights/sample.pth" in resolve(given, "openvino").needed
    place.unlink()
    assert "there is no such file" in refusal(given)
