"""Calibration images are fetched one by one: always the same ones, listed with their hashes."""

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hrnetpose.artifacts.fetched import FetchedImages
from hrnetpose.data import coco
from hrnetpose.data.annotations import ground_truth
from hrnetpose.data.images import ImageStore
from hrnetpose.fetching import calibration
from hrnetpose.fetching.transfer import RetryPolicy
from hrnetpose.stage import StageError
from server import Answer, Server

WIDTH, HEIGHT = 40, 30


def jpeg(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


@pytest.fixture
def content(server: Server) -> dict[str, Any]:
    """Twelve images with a person and one without, served on this machine."""
    images, annotations = [], []
    for number in range(13):
        path = f"/train2017/{number:012}.jpg"
        url = server.serve(path, Answer(jpeg(number)))
        image = {"id": number, "file_name": f"{number:012}.jpg", "width": WIDTH, "height": HEIGHT}
        images.append({**image, "coco_url": url})
        person = {
            "id": number, "image_id": number, "category_id": 1, "bbox": [5, 5, 20, 20],
            "keypoints": [10, 10, 2] * 17, "num_keypoints": 17,
        }  # fmt: skip
        if number != 12:
            annotations.append(person)
    return {"images": images, "annotations": annotations, "categories": [{"id": 1}]}


class Place:
    """Where a run writes."""

    def __init__(self, folder: Path, content: dict[str, Any]) -> None:
        folder.mkdir(parents=True)
        self.pool = folder / "all.json"
        self.pool.write_text(json.dumps(content))
        self.folder = folder / "calibration"
        self.archive = self.folder / "images.zip"
        self.annotations = self.folder / "annotations.json"
        self.manifest = self.folder / "manifest.json"

    def fetch(self, count: int) -> FetchedImages:
        calibration.fetch_images(
            self.pool, count, "identity", self.archive, self.annotations, self.manifest,
            RetryPolicy(attempts=2, timeout=20, backoff=0.01),
        )  # fmt: skip
        return FetchedImages.read(self.manifest)

    def refusal(self, count: int) -> StageError:
        with pytest.raises(StageError) as error:
            self.fetch(count)
        assert not self.archive.exists()
        assert not self.manifest.exists()
        return error.value


@pytest.fixture
def place(tmp_path: Path, content: dict[str, Any]) -> Place:
    return Place(tmp_path / "one", content)


def test_as_many_as_are_wanted_are_fetched_as_a_dataset(
    place: Place, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    manifest = place.fetch(5)

    assert caplog.messages == ["calibration images: 5/5, 100%, 0:00:00"]
    assert len(server.requests) == len(manifest.images) == 5
    assert (manifest.source, manifest.count) == ("identity", 5)
    images = ground_truth(coco.read(place.annotations))
    assert [image.id for image in images] == [image.id for image in manifest.images]
    store = ImageStore(place.archive)
    for image in manifest.images:
        assert image.url == f"{server.url}/train2017/{image.file_name}"
        assert image.sha256 == hashlib.sha256(jpeg(image.id)).hexdigest()
        assert image.bytes == len(jpeg(image.id))
        assert store.read(image.file_name) == jpeg(image.id)
    assert manifest.archive_sha256 == hashlib.sha256(place.archive.read_bytes()).hexdigest()
    shown = {path.name for path in place.folder.iterdir() if not path.name.endswith(".sha256")}
    assert shown == {"images.zip", "annotations.json", "manifest.json"}


def test_several_are_fetched_at_a_time(place: Place, server: Server) -> None:
    for path, (answer,) in server.answers.items():
        server.serve(path, Answer(answer.content, pause=0.02))

    place.fetch(12)

    assert 1 < server.busiest <= calibration.CONNECTIONS


def test_the_choice_is_always_the_same_and_a_larger_one_contains_it(
    tmp_path: Path, content: dict[str, Any]
) -> None:
    first = Place(tmp_path / "1", content)
    few = {image.id for image in first.fetch(4).images}
    content["images"].reverse()
    again = Place(tmp_path / "2", content)
    many = {image.id for image in Place(tmp_path / "3", content).fetch(8).images}

    assert {image.id for image in again.fetch(4).images} == few
    assert again.archive.read_bytes() == first.archive.read_bytes()
    assert few < many
    assert few != set(range(4))


def test_all_are_taken_where_there_are_fewer(place: Place) -> None:
    assert [image.id for image in place.fetch(50).images] == list(range(12))


def test_images_that_cannot_be_had_are_listed_and_the_others_are_kept(
    place: Place, server: Server
) -> None:
    gone, html = "/train2017/000000000003.jpg", "/train2017/000000000007.jpg"
    server.serve(gone)
    server.serve(html, Answer(b"<html>log in</html>"))

    error = place.refusal(12)

    assert str(error).startswith(f"{server.url}{gone}: 404 Not Found; 10 of 12 calibration images ")
    assert f"copy {place.folder} from one that has it" in str(error)
    assert error.details == (
        f"{server.url}{gone}: 404 Not Found",
        f"{server.url}{html}: the server sent an HTML page in place of the file, as proxies and "
        "logins send it",
    )
    for number in (3, 7):
        server.serve(f"/train2017/{number:012}.jpg", Answer(jpeg(number)))
    server.requests.clear()
    assert len(place.fetch(12).images) == 12
    assert sorted(path for path, _ in server.requests) == [gone, html]


def test_a_server_that_has_nothing_is_not_asked_for_everything(
    tmp_path: Path, content: dict[str, Any], server: Server
) -> None:
    for number in range(13, 100):
        content["images"].append(content["images"][0] | {"id": number})
        content["annotations"].append(
            content["annotations"][0] | {"id": number, "image_id": number}
        )
        content["images"][-1]["file_name"] = f"{number}.jpg"
    server.answers.clear()

    error = Place(tmp_path / "none", content).refusal(99)

    assert "404 Not Found; 0 of 99 calibration images are here: run again" in str(error)
    assert len(error.details) >= calibration.FAILURES
    assert len(server.requests) < 50


TURNED = cv2.imencode(".jpg", np.zeros((WIDTH, HEIGHT, 3), np.uint8))[1].tobytes()


@pytest.mark.parametrize(
    ("sent", "says"),
    [(TURNED, "is 30x40, but its annotation says 40x30"), (jpeg(3)[:-50], "is damaged")],
)
def test_an_image_that_is_not_what_it_should_be_is_refused_and_not_kept(
    place: Place, server: Server, sent: bytes, says: str
) -> None:
    server.serve("/train2017/000000000003.jpg", Answer(sent))

    assert says in str(place.refusal(12))

    server.serve("/train2017/000000000003.jpg", Answer(jpeg(3)))
    place.fetch(12)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("coco_url", None, "coco_url is None, expected an http(s) URL"),
        ("coco_url", "file:///etc/passwd", "coco_url is 'file:///etc/passwd', expected an http"),
        ("file_name", "../../evil.jpg", "file_name '../../evil.jpg' is no plain name"),
        ("file_name", "/evil.jpg", "file_name '/evil.jpg' is no plain name"),
        ("file_name", ".evil", "file_name '.evil' is no plain name"),
    ],
)
def test_annotations_are_not_trusted(
    tmp_path: Path, content: dict[str, Any], server: Server, key: str, value: Any, message: str
) -> None:
    content["images"][3][key] = value

    error = Place(tmp_path / "bad", content).refusal(12)

    assert message in str(error)
    assert server.requests == []
