"""What is written is read back; what is damaged is refused with its file and key."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrnetpose.artifacts.model import Crop, Keypoints, ModelCard
from hrnetpose.stage import StageError

CROPS = st.builds(
    Crop,
    height=st.integers(1, 4096),
    width=st.integers(1, 4096),
    padding=st.floats(1e-6, 100),
    udp=st.booleans(),
)


@pytest.fixture
def card_file(model_card: ModelCard, tmp_path: Path) -> Path:
    path = tmp_path / "model.json"
    model_card.write(path)
    return path


def change(path: Path, **values: object) -> None:
    """Set keys of a JSON file; None removes one."""
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def refusal(path: Path) -> str:
    with pytest.raises(StageError) as error:
        ModelCard.read(path)
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value).removeprefix(f"{path}: ")


def test_a_card_is_read_back_as_it_was_written(model_card: ModelCard, card_file: Path) -> None:
    assert ModelCard.read(card_file) == model_card


def test_writing_the_same_twice_gives_the_same_bytes(card_file: Path) -> None:
    before = card_file.read_bytes()

    ModelCard.read(card_file).write(card_file)

    assert card_file.read_bytes() == before


def test_a_card_says_its_schema_version(card_file: Path) -> None:
    assert json.loads(card_file.read_text())["schema"] == 1


def test_another_schema_version_is_refused(card_file: Path) -> None:
    change(card_file, schema=2)

    assert refusal(card_file).startswith("schema: ")


def test_an_unknown_key_is_refused(card_file: Path) -> None:
    change(card_file, colour="blue")

    assert refusal(card_file).startswith("colour: ")


def test_a_missing_key_is_named(card_file: Path) -> None:
    change(card_file, macs=None)

    assert refusal(card_file).startswith("macs: ")


def test_a_key_inside_a_key_is_named_with_its_path(card_file: Path) -> None:
    change(card_file, crop={"height": "tall", "width": 32})

    assert refusal(card_file).startswith("crop.height: ")


def test_a_hash_that_is_none_is_refused(card_file: Path) -> None:
    change(card_file, onnx_sha256="c78dce93")

    assert refusal(card_file).startswith("onnx_sha256: ")


@pytest.mark.parametrize("keep", [0, 1, 100])
def test_a_truncated_file_is_refused(card_file: Path, keep: int) -> None:
    card_file.write_bytes(card_file.read_bytes()[:keep])

    said = refusal(card_file)

    assert said.startswith("content: Invalid JSON")
    assert "delete the file and run again" in said


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "model.json") == "No such file or directory"


def test_a_figure_that_is_not_a_number_is_refused(card_file: Path) -> None:
    card_file.write_text(card_file.read_text().replace("123.675", "NaN"))

    assert refusal(card_file).startswith("mean.0: ")


@given(CROPS)
def test_the_name_of_a_crop_says_all_of_it(crop: Crop) -> None:
    assert Crop.parse(str(crop)) == crop


@given(CROPS, CROPS)
def test_different_crops_have_different_names(one: Crop, other: Crop) -> None:
    assert (str(one) == str(other)) == (one == other)


@pytest.mark.parametrize(
    ("crop", "name"),
    [
        (Crop(height=256, width=192), "256x192"),
        (Crop(height=384, width=288, udp=True), "384x288-udp"),
        (Crop(height=256, width=192, padding=1.0), "256x192-pad1.0"),
        (Crop(height=256, width=192, padding=1.1, udp=True), "256x192-pad1.1-udp"),
    ],
)
def test_crops_have_plain_names(crop: Crop, name: str) -> None:
    assert str(crop) == name


@pytest.mark.parametrize(
    "name",
    [
        "", "256", "256x", "256×192", "0x192", "256x192-pad0", "-1x2", "4097x192",  # noqa: RUF001
        "256x192-pad101", f"256x{'9' * 5000}", "256x192\n",
    ],
)  # fmt: skip
def test_what_is_no_name_of_a_crop_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ValueError, match="is not HEIGHTxWIDTH") as error:
        Crop.parse(name)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 300


def test_a_keypoint_set_without_oks_constants_has_no_ap(model_card: ModelCard) -> None:
    without = model_card.keypoints.model_copy(update={"sigmas": []})

    assert Keypoints.model_validate(without.model_dump()) == without
    with pytest.raises(StageError, match=r"a keypoint set of 3 \(nose, .*so AP is not defined"):
        without.oks_sigmas()
    assert model_card.keypoints.oks_sigmas() == model_card.keypoints.sigmas
