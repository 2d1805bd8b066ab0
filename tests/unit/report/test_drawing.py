"""Skeletons are drawn where they are, in the colours of their sides."""

import base64

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from hrnetpose.artifacts.model import Keypoints, ModelCard
from hrnetpose.report import drawing

Image = npt.NDArray[np.uint8]

WHITE = [255, 255, 255]


@pytest.fixture
def info(model_card: ModelCard) -> Keypoints:
    """Nose, left eye and right eye; the nose is linked with both."""
    return model_card.keypoints


@pytest.fixture
def image() -> Image:
    return np.full((240, 320, 3), 90, np.uint8)


@pytest.fixture
def person() -> npt.NDArray[np.float64]:
    return np.array([[[100.0, 120.0, 0.9], [200.0, 60.0, 0.9], [40.0, 60.0, 0.9]]])


def changed(drawn: Image, image: Image) -> npt.NDArray[np.bool_]:
    """Where something was drawn, as [H, W]."""
    return (drawn != image).any(axis=2)


def test_the_image_given_is_not_changed(
    image: Image, person: npt.NDArray[np.float64], info: Keypoints
) -> None:
    before = image.copy()

    drawn = drawing.skeletons(image, person, info)

    assert np.array_equal(image, before)
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8


def test_keypoints_and_their_links_are_drawn(
    image: Image, person: npt.NDArray[np.float64], info: Keypoints
) -> None:
    marks = changed(drawing.skeletons(image, person, info), image)

    for x, y in person[0, :, :2].astype(int):
        assert marks[y, x]
    assert marks[90, 150]  # half way from the nose to the left eye
    assert not marks[200, 300]
    assert marks.mean() < 0.05


def test_left_is_warm_and_right_is_cool(
    image: Image, person: npt.NDArray[np.float64], info: Keypoints
) -> None:
    drawn = drawing.skeletons(image, person, info)

    blue, _, red = drawn[60, 200].astype(int)
    assert red > blue + 100
    blue, _, red = drawn[60, 40].astype(int)
    assert blue > red + 100


def test_keypoints_that_are_not_sure_are_left_out_with_their_links(
    image: Image, person: npt.NDArray[np.float64], info: Keypoints
) -> None:
    person[0, 1, 2] = 0.2

    marks = changed(drawing.skeletons(image, person, info, threshold=0.2), image)

    assert not marks[60, 200]
    assert not marks[90, 150]
    assert marks[60, 40]


@pytest.mark.parametrize("persons", [np.zeros((0, 3, 3)), np.zeros((2, 3, 3))])
def test_nobody_is_drawn_as_nothing(
    image: Image, info: Keypoints, persons: npt.NDArray[np.float64]
) -> None:
    assert np.array_equal(drawing.skeletons(image, persons, info), image)


def test_positions_far_outside_the_image_do_no_harm(image: Image, info: Keypoints) -> None:
    far = np.array([[[-5000.0, 120.0, 0.9], [9000.0, 120.0, 0.9], [np.nan, np.nan, 0.0]]])

    marks = changed(drawing.skeletons(image, far, info), image)

    assert marks[120, 160]


def test_an_image_becomes_a_jpeg_of_the_width_asked_for(image: Image) -> None:
    image[:, :160] = WHITE

    url = drawing.data_url(image, width=80)

    prefix, _, content = url.partition(",")
    assert prefix == "data:image/jpeg;base64"
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (60, 80, 3)
    assert decoded[30, 20].min() > 240
    assert abs(int(decoded[30, 60, 0]) - 90) < 10
