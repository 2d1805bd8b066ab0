"""Calibration images, downloaded one by one: as many as are needed, and always the same ones."""

import hashlib
import json
import logging
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hrnetpose import files
from hrnetpose.artifacts.fetched import FetchedImage, FetchedImages
from hrnetpose.data import coco
from hrnetpose.data.annotations import Image, ground_truth
from hrnetpose.data.images import ImageStore
from hrnetpose.fetching import fetch, transfer
from hrnetpose.fetching.transfer import RetryPolicy
from hrnetpose.progress import Progress
from hrnetpose.stage import StageError

CONNECTIONS = 8
"""Images downloaded at a time."""
FAILURES = 2 * CONNECTIONS
"""Failed images after which the others are not asked for any more."""


def fetch_images(
    pool: Path,
    count: int,
    identity: str,
    archive: Path,
    annotations: Path,
    manifest: Path,
    policy: RetryPolicy,
) -> None:
    """Download images from the `coco_url` of their annotations.

    Images that came before a failure are kept beside `archive` and not downloaded again.

    Args:
        pool: the annotations to choose from.
        count: how many images; all that hold persons if there are fewer.
        identity: what the manifest calls `pool`.
        archive: the zip for the images.
        annotations: the part of `pool` that is about them.
        manifest: their list, with hashes.
        policy: when to retry and to give up on a server.

    Raises:
        StageError: the annotations are invalid, or an image is not available.
    """
    content = coco.load(pool)
    images = choose(ground_truth(coco.parse(content, pool)), count)
    urls = _read_urls(content, pool, images)
    folder = archive.with_name(f".{archive.stem}.partial")
    with fetch.exclusive(archive):
        folder.mkdir(exist_ok=True)
        fetched = _fetch_all(images, urls, folder, policy)
        # The bytes of the zip depend on the images alone.
        with files.atomic_path(archive) as temporary, zipfile.ZipFile(temporary, "w") as target:
            for image in fetched:
                member = zipfile.ZipInfo(image.file_name)
                member.external_attr = 0o644 << 16
                target.writestr(member, (folder / image.file_name).read_bytes())
        part = content | {
            "images": [entry for entry in content["images"] if entry["id"] in urls],
            "annotations": [e for e in content["annotations"] if e["image_id"] in urls],
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


def choose(images: list[Image], count: int) -> list[Image]:
    """Return `count` of the images, by the hash of their id.

    They are spread over the dataset, and a larger count only adds images.
    """
    spread = sorted(images, key=lambda image: hashlib.sha256(str(image.id).encode()).digest())
    return sorted(spread[:count], key=lambda image: image.id)


def _read_urls(content: dict[str, Any], path: Path, images: list[Image]) -> dict[int, str]:
    """Return the URL of each image, by id; neither URLs nor file names are trusted."""
    given = {entry["id"]: entry.get("coco_url") for entry in content["images"]}
    for image in images:
        url, name = given[image.id], image.file_name
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise StageError(
                f"{path}: image {image.id}: coco_url is {url!r}, expected an http(s) URL; name a "
                "folder or a zip in the dataset's `calibration.images` instead"
            )
        if Path(name).name != name or name.startswith("."):
            raise StageError(f"{path}: image {image.id}: file_name {name!r} is no plain name")
    return {image.id: given[image.id] for image in images}


def _fetch_all(
    images: list[Image], urls: dict[int, str], folder: Path, policy: RetryPolicy
) -> list[FetchedImage]:
    failures: list[str] = []

    def attempt(image: Image) -> FetchedImage | None:
        if len(failures) < FAILURES:
            try:
                return _fetch_one(image, urls[image.id], folder, policy)
            except StageError as error:
                failures.append(str(error))
                logging.info("%s", error)
        return None

    fetched = []
    with (
        Progress("calibration images", len(images), in_bytes=False) as progress,
        ThreadPoolExecutor(CONNECTIONS) as pool,
    ):
        for one in filter(None, pool.map(attempt, images)):
            fetched.append(one)
            progress.advance(1)
    if failures:
        failures.sort()
        raise StageError(
            f"{failures[0]}; {len(fetched)} of {len(images)} calibration images are here: run "
            "again for the others, or, on a machine without internet, copy "
            f"{folder.parent} from one that has it, or name a folder of images in the dataset's "
            "`calibration.images`",
            failures if len(failures) > 1 else [],
        )
    return fetched


def _fetch_one(image: Image, url: str, folder: Path, policy: RetryPolicy) -> FetchedImage:
    path, partial = folder / image.file_name, folder / f".{image.id}.partial"
    if not path.is_file():
        transfer.download(url, partial, policy)
        partial.replace(path)
        transfer.discard(partial)
    try:
        ImageStore(folder).decode(image.file_name, image.width, image.height)
    except StageError:
        path.unlink()
        raise
    return FetchedImage(
        id=image.id,
        file_name=image.file_name,
        url=url,
        sha256=files.sha256(path),
        bytes=path.stat().st_size,
    )
