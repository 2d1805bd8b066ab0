"""Calibration images, fetched one by one: as many as are needed, and always the same ones."""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hrnetpose import files
from hrnetpose.artifacts.fetched import FetchedImage, FetchedImages
from hrnetpose.data import coco, fetch
from hrnetpose.data.annotations import Image, ground_truth
from hrnetpose.data.images import ImageStore
from hrnetpose.data.progress import Progress
from hrnetpose.data.transfer import Patience
from hrnetpose.stage import StageError

CONNECTIONS = 8
"""Images fetched at a time."""
FAILURES = 2 * CONNECTIONS
"""Images that cannot be had before the others are not asked for any more."""


def choose(content: dict[str, Any], path: Path, count: int) -> list[Image]:
    """Returns so many of the images that hold persons with keypoints, or all if there are fewer.

    The order is that of the hashes of their ids: all over the dataset, and a larger number only
    adds images.

    Args:
        content: annotations, as `coco.load` returns them.
        path: where they came from, for messages.
        count: how many.
    """
    images = ground_truth(coco.parse(content, path))
    images.sort(key=lambda image: hashlib.sha256(str(image.id).encode()).digest())
    return sorted(images[:count], key=lambda image: image.id)


def bring(
    pool: Path,
    count: int,
    identity: str,
    archive: Path,
    annotations: Path,
    manifest: Path,
    patience: Patience,
) -> None:
    """Fetches images from the `coco_url` of their annotations.

    Images that came before a failure are kept beside `archive`, and not fetched again.

    Args:
        pool: the annotations to choose from.
        count: how many images.
        identity: what the manifest says that they were chosen from.
        archive: the zip for the images.
        annotations: the part of `pool` that is about them.
        manifest: their list, with hashes.
        patience: when to give up on a server.

    Raises:
        StageError: the annotations are not as they should be, or an image cannot be had.
    """
    content = coco.load(pool)
    images = choose(content, pool, count)
    urls = _urls(content, pool, images)
    folder = archive.with_name(f".{archive.stem}.partial")
    with _alone(archive.parent):
        folder.mkdir(exist_ok=True)
        fetched = _fetch_all(images, urls, folder, patience)
        _pack(fetched, folder, archive)
        ids = {image.id for image in images}
        part = content | {
            "images": [entry for entry in content["images"] if entry["id"] in ids],
            "annotations": [e for e in content["annotations"] if e["image_id"] in ids],
        }
        files.write_text(annotations, json.dumps(part))
        FetchedImages(
            source=identity,
            count=count,
            images=fetched,
            archive_sha256=files.known_sha256(archive),
            annotations_sha256=files.known_sha256(annotations),
        ).write(manifest)
        shutil.rmtree(folder)


def _urls(content: dict[str, Any], path: Path, images: list[Image]) -> dict[int, str]:
    """Returns where each image is, by id; file names and URLs are as little trusted as images."""
    entries = {entry["id"]: entry for entry in content["images"]}
    found = {}
    for image in images:
        url = entries[image.id].get("coco_url")
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise StageError(
                f"{path}: image {image.id}: coco_url is {url!r}, expected an http(s) URL; name a "
                "folder or a zip in the dataset's `calibration.images` instead"
            )
        name = image.file_name
        if Path(name).name != name or name.startswith("."):
            raise StageError(f"{path}: image {image.id}: file_name {name!r} is no plain name")
        found[image.id] = url
    return found


def _fetch_all(
    images: list[Image], urls: dict[int, str], folder: Path, patience: Patience
) -> list[FetchedImage]:
    store = ImageStore(folder)

    def one(image: Image) -> FetchedImage:
        path = folder / image.file_name
        if not path.is_file():
            fetch.fetch([urls[image.id]], path, patience=patience, quiet=True)
        try:
            store.decode(image.file_name, image.width, image.height)
        except StageError:
            path.unlink()
            raise
        return FetchedImage(
            id=image.id,
            file_name=image.file_name,
            url=urls[image.id],
            sha256=files.sha256(path),
            bytes=path.stat().st_size,
        )

    fetched, failures = [], []
    with (
        Progress("calibration images", len(images), unit="images") as progress,
        ThreadPoolExecutor(CONNECTIONS) as pool,
    ):
        try:
            for future in as_completed([pool.submit(one, image) for image in images]):
                try:
                    fetched.append(future.result())
                    progress.advance(1)
                except StageError as error:
                    failures.append(str(error).partition("; on a machine")[0])
                    logging.info("%s", failures[-1])
                if len(failures) == FAILURES:
                    break
        finally:  # whatever ends the loop ends the waiting, too
            pool.shutdown(cancel_futures=True)
    if failures:
        failures.sort()
        raise StageError(
            f"{failures[0]}; {len(fetched)} of {len(images)} calibration images are here: run "
            "again for the others, or, on a machine without internet, copy "
            f"{folder.parent} from one that has it, or name a folder of images in the dataset's "
            "`calibration.images`",
            failures if len(failures) > 1 else [],
        )
    return sorted(fetched, key=lambda image: image.id)


def _pack(fetched: list[FetchedImage], folder: Path, archive: Path) -> None:
    """Writes a zip whose bytes depend on the images alone."""
    with files.atomic_path(archive) as temporary, zipfile.ZipFile(temporary, "w") as target:
        for image in fetched:
            member = zipfile.ZipInfo(image.file_name)
            member.external_attr = 0o644 << 16
            target.writestr(member, (folder / image.file_name).read_bytes())


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds a lock on a folder, so that two processes do not work in it at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
