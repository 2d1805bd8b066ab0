"""Run a pose model: the keypoints of persons in an image or a video.

    python pose.py image.jpg --boxes boxes.json     keypoints as COCO's JSON, and drawn
    python pose.py image.jpg --whole-image          one person fills the image
    python pose.py video.mp4 --output drawn.mp4     follows the person; --boxes may give boxes
    python pose.py --check                          does this machine give the measured result?

As a library:

    from pose import Pose, draw

    pose = Pose()                              # the bundle that pose.py lies in
    keypoints, scores = pose(image, boxes)     # image: uint8 BGR, as OpenCV reads it
    picture = draw(image, keypoints, scores)

Boxes are x1, y1, x2, y2 in pixels; without boxes the whole image is one.  Keypoints are float32
[persons, keypoints, 2], x and y in pixels of the image, scores float32 [persons, keypoints]; names
and order are in model.json.  In JSON files boxes are COCO's: x, y, width, height.

It needs Python 3.11 or newer, numpy, OpenCV and the engine's own runtime (requirements.txt).

Of this file the last part, from `class Runner` on, is the program; what stands before it are the
functions of the project that has built the engine (hrnetpose), under the names of their modules.
"""

import argparse
import hashlib
import importlib.util
import itertools
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hrnetpose import batches
from hrnetpose.artifacts.engine import ENGINE_CARD, ENGINE_FILE
from hrnetpose.artifacts.model import HeatmapCodec, SimCCCodec
from hrnetpose.batches import Crops
from hrnetpose.data.cutting import center_and_scale, cut
from hrnetpose.data.findings import are_corners
from hrnetpose.data.images import decode_whole
from hrnetpose.data.values import is_number
from hrnetpose.engines.base import Engine, OpenRequest
from hrnetpose.engines.onnxruntime import OnnxRuntimeEngine
from hrnetpose.engines.openvino import OpenVinoEngine
from hrnetpose.engines.plugin import package_version
from hrnetpose.pose import finite, predict
from hrnetpose.report.drawing import skeletons
from hrnetpose.stage import StageError

HERE = Path(__file__).resolve().parent
PORTABLE_FILE = "models/portable/1/portable.onnx"
GRAPH_FILE = "graph.onnx"
CHECK_FILE = "check/check.json"
SUMS_FILE = "SHA256SUMS"
PORTABLE = "run with --portable, which takes the fp32 graph on the CPU"
ELSEWHERE = 0.1
"""Pixels of the crop: other CPUs round differently."""
DRAWN_ABOVE = 0.3
"""Keypoints are drawn, and followed in a video, if they are surer than this share of the surest."""
GROWN = 1.25
"""A followed box is so many times as large as the keypoints of the last pose."""

Floats = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Runner:
    """What runs the engines of a backend.

    Attributes:
        open: returns an engine, which a `with` statement loads.
        packages: what it imports.
        environment: returns what an engine is tied to, by name, as it is here; takes the options.
            By default the versions of the packages.
        build: builds the engine from a graph: takes the graph's file, the engine card and the
            engine's file.
    """

    open: Callable[[OpenRequest[Any]], Engine[Any]]
    packages: tuple[str, ...]
    environment: Callable[[Any], dict[str, str]] | None = None
    build: Callable[[Path, Any, Path], None] | None = None


RUNNERS = {
    "openvino": Runner(OpenVinoEngine, ("openvino",)),
    "onnxruntime": Runner(OnnxRuntimeEngine, ("onnxruntime",)),
}
ON_CPU = tuple(RUNNERS)
"""What runs an ONNX graph on a CPU, at any batch that it takes."""
PORTABLE_OPTIONS = {"streams": None, "provider": "cpu", "tf32": False}


class Pose:
    """A model that is ready to run.

    It may be called from several threads, which then wait for each other; a `Pose` for each thread
    runs at the same time.

    Args:
        folder: the bundle, unpacked.
        flip: average with the mirrored image, which takes twice as long.
        portable: run the fp32 graph instead of the engine, on the CPU.
        batch: persons per inference; by default those of the engine, with which it was measured.
        streams: batches at a time; by default the backend's choice.
        threads: of the CPU; by default all.

    Raises:
        StageError: a file is missing or damaged, or the engine is for another machine or version.
    """

    def __init__(
        self,
        folder: Path | str = HERE,
        *,
        flip: bool = False,
        portable: bool = False,
        batch: int | None = None,
        streams: int | None = None,
        threads: int | None = None,
    ) -> None:
        for name, number in (("batch", batch), ("streams", streams), ("threads", threads)):
            if number is not None and number < 1:
                raise StageError(f"{name}: {number}; expected a number from 1 on")
        self.folder, self.flip = Path(folder), flip
        self.card = read_card(self.folder)
        self.file = self.folder / (PORTABLE_FILE if portable else ENGINE_FILE)
        check_files(self.folder, [self.file])
        self.backend = find_portable(self.card.backend) if portable else self.card.backend
        card, options = self.card, self.card.options
        if portable:
            card = copy_with(card, requested="fp32")
            options = copy_with(options, **PORTABLE_OPTIONS)
        else:
            check_place(self.card)
        is_fixed = isinstance(card.model.input.shape[0], int) or self.backend not in ON_CPU
        if batch and batch != card.batch and is_fixed:
            raise StageError(f"--batch: {self.file} is built for {card.batch}; leave it out")
        check_opencv(self.folder)
        self.engine = RUNNERS[self.backend].open(
            OpenRequest(
                file=self.file,
                card=card,
                batch=batch or card.batch,
                options=copy_with(options, **({"streams": streams} if streams else {})),
                threads=threads or options.threads or count_cpus(),
                remedy=f"unpack the bundle again, or {PORTABLE}",
            )
        )
        self.engine.__enter__()
        self._is_open, self._lock = True, threading.Lock()

    def __call__(self, image: Image, boxes: npt.ArrayLike | None = None) -> tuple[Floats, Floats]:
        """Find the keypoints of the persons in an image.

        Args:
            image: uint8 [height, width, 3] BGR.
            boxes: [N, 4], x1, y1, x2, y2 in pixels; the whole image if it is left out.

        Returns:
            Keypoints float32 [N, K, 2], x and y in pixels of the image, and scores float32 [N, K].
        """
        image = np.asarray(image)
        if image.shape[2:] != (3,) or not image.size or image.dtype != np.uint8:
            raise StageError(
                f"image: is {image.dtype} {list(image.shape)}; expected uint8 [height, width, 3] "
                "BGR, as cv2.imread gives it"
            )
        height, width = image.shape[:2]
        whole = [[0, 0, width, height]]
        corners = read_corners(whole if boxes is None else boxes)
        crop = self.card.model.crop
        centers, scales = center_and_scale(corners, crop)
        shape = (0, crop.height, crop.width, 3)
        crops = [cut(image, *place, crop) for place in zip(centers, scales, strict=True)]
        return self.run(np.stack(crops) if crops else np.zeros(shape, np.uint8), centers, scales)

    def run(self, crops: Crops, centers: Floats, scales: Floats) -> tuple[Floats, Floats]:
        """Find the keypoints of persons that are cut out.

        Args:
            crops: uint8 [N, height, width, 3] RGB.
            centers: float32 [N, 2] of the boxes.
            scales: float32 [N, 2], their padded sizes.

        Returns:
            As a call does.
        """
        model, count = self.card.model, len(self.card.model.keypoints.names)
        found = [np.zeros((0, count, 2), np.float32)]
        surely = [np.zeros((0, count), np.float32)]
        split = batches.split(crops, self.engine.batch)
        with self._lock:
            if not self._is_open:
                raise StageError("this Pose is closed; make another one")
            for plain, mirrored in predict.infer(self.engine.stream, split, self.flip):
                for outputs in (plain, mirrored):
                    if outputs is not None:
                        finite.require(outputs.values(), self.file, self.card.requested)
                start = sum(map(len, found))
                rows = slice(start, start + batches.count_images(plain))
                places = centers[rows], scales[rows]
                flips = [int(self.flip)]
                positions, scores = predict.keypoints(plain, mirrored, flips, model, *places)
                found.append(positions[0])
                surely.append(scores[0])
        return np.concatenate(found), np.concatenate(surely)

    def close(self) -> None:
        """Free what the engine holds; a second time does nothing."""
        with self._lock:
            if self._is_open:
                self._is_open = False
                self.engine.__exit__(None, None, None)

    def __enter__(self) -> "Pose":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def read_corners(boxes: npt.ArrayLike) -> Floats:
    """Return boxes as float32 [N, 4].

    Raises:
        StageError: they are no x1, y1, x2, y2.
    """
    try:
        given = np.asarray(boxes, np.float32)
    except (TypeError, ValueError) as error:
        raise StageError(f"boxes: no array of numbers [N, 4] ({error})") from error
    if given.size and given.shape[-1:] != (4,):
        raise StageError(
            f"boxes: are {list(given.shape)}; expected [N, 4], x1, y1, x2, y2, without scores or "
            "classes"
        )
    corners = given.reshape(-1, 4)
    usable = np.isfinite(corners).all(axis=1) & (corners[:, 2:] > corners[:, :2]).all(axis=1)
    if not usable.all():
        raise StageError(
            f"boxes: {corners[~usable][0].tolist()} is not x1, y1, x2, y2 with x1 < x2 and y1 < y2"
        )
    return corners


def draw(image: Image, keypoints: Floats, scores: Floats, folder: Path | str = HERE) -> Image:
    """Draw skeletons over an image.

    Args:
        image: uint8 [height, width, 3] BGR; it is not changed.
        keypoints: float32 [N, K, 2].
        scores: float32 [N, K].
        folder: the bundle, which says what is linked.

    Returns:
        uint8 [height, width, 3] BGR.
    """
    persons = np.concatenate([keypoints, scores[..., None]], axis=-1)
    info = read_card(Path(folder)).model.keypoints
    return skeletons(image, persons, info, DRAWN_ABOVE * float(scores.max(initial=0)))


# The bundle


def read_card(folder: Path) -> Any:
    """Read the engine card.

    Raises:
        StageError: it is missing or damaged.
    """
    check_files(folder, [folder / ENGINE_CARD])
    return read_json(folder / ENGINE_CARD, as_objects=True)


def read_json(path: Path, as_objects: bool = False) -> Any:
    """Read JSON; `as_objects` makes keys attributes.

    Raises:
        StageError: it is missing, or is no JSON.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # as Windows' editors write it
        return json.loads(text, object_hook=to_object if as_objects else None)
    except OSError as error:
        raise StageError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise StageError(f"{path}: is no JSON ({error})") from error


def to_object(values: dict[str, Any]) -> Any:
    """Return an object whose attributes are the keys of a JSON object."""
    if "sigma" not in values:
        return SimpleNamespace(**values)
    return (SimCCCodec if values["type"] == "SimCCLabel" else HeatmapCodec)(**values)


def copy_with(values: Any, **changes: object) -> Any:
    """Return an object of attributes with some of them changed."""
    return type(values)(**{**vars(values), **changes})


def read_sums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of the bundle, by its path in it.

    Raises:
        StageError: there is no list.
    """
    try:
        lines = (folder / SUMS_FILE).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise StageError(
            f"{folder}: no bundle, {SUMS_FILE} is not there; name the folder that it is unpacked in"
        ) from error
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def check_files(folder: Path, files: Sequence[Path]) -> None:
    """Check that files are those that the bundle came with.

    Raises:
        StageError: one is missing or has changed.
    """
    sums = read_sums(folder)
    for path in files:
        name = path.relative_to(folder).as_posix()
        if not path.is_file():
            raise StageError(f"{path}: missing; unpack the bundle again")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sums.get(name):
            raise StageError(
                f"{path}: damaged, its SHA-256 is {found[:16]}..., but {SUMS_FILE} has "
                f"{sums.get(name, 'none')[:16]}...; unpack the bundle again"
            )


def check_place(card: Any) -> None:
    """Check that the engine is for this machine.

    Raises:
        StageError: the runtime or the device is another, or is missing.
    """
    runner = RUNNERS[card.backend]
    check_packages(runner)
    if runner.environment:
        here = runner.environment(card.options)
    else:
        here = {name: package_version(name) for name in runner.packages}
    built = vars(card.built_for)
    remedy = "build the engine here with --build" if runner.build else "install that version"
    for name, value in here.items():
        if built.get(name) != value:
            raise StageError(
                f"{ENGINE_FILE}: built for {name} {built.get(name)}, but here it is {value}; "
                f"{remedy} (requirements.txt), or {PORTABLE}"
            )


def check_packages(runner: Runner) -> None:
    """Check that what a backend imports is there.

    Raises:
        StageError: a package is missing or broken.
    """
    for package in runner.packages:
        if reason := import_error(package):
            raise StageError(f"{reason}; `pip install -r requirements.txt`, or {PORTABLE}")


def import_error(package: str) -> str | None:
    """Return why a package cannot be imported; None if it can."""
    if importlib.util.find_spec(package) is None:
        return f"{package} is not installed"
    try:
        importlib.import_module(package)
    except Exception as error:  # its own library, or one that the system lacks
        return f"{package} is installed, but cannot be imported: {error}"
    return None


def check_opencv(folder: Path) -> None:
    """Check OpenCV: another major version cuts other pixels.

    Raises:
        StageError: it is another.
    """
    check_files(folder, [folder / CHECK_FILE])
    cut_with = str(read_json(folder / CHECK_FILE)["opencv"])
    if cv2.__version__.partition(".")[0] != cut_with.partition(".")[0]:
        raise StageError(
            f"OpenCV {cv2.__version__} cuts persons out with other pixels than {cut_with}, with "
            "which this was measured; `pip install -r requirements.txt`"
        )


def find_portable(preferred: str) -> str:
    """Return what runs ONNX here, rather the backend that is named.

    Raises:
        StageError: nothing does.
    """
    for name in sorted(ON_CPU, key=lambda name: name != preferred):
        if not import_error(name):
            return name
    reasons = "; ".join(filter(None, map(import_error, ON_CPU)))
    raise StageError(f"--portable: {reasons}; `pip install onnxruntime`")


def count_cpus() -> int:
    """Return how many CPUs this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def build(folder: Path) -> None:
    """Build the engine on this machine, from its graph and with the options of its card.

    Raises:
        StageError: it cannot be built, or need not be.
    """
    card = read_card(folder)
    runner = RUNNERS[card.backend]
    if runner.build is None:
        raise StageError(
            f"--build: an engine of {card.backend} is not built on arrival; it runs as it is"
        )
    check_packages(runner)
    graph = folder / GRAPH_FILE
    check_files(folder, [graph])
    start = time.perf_counter()
    runner.build(graph, card, folder / ENGINE_FILE)
    content = read_json(folder / ENGINE_CARD)
    digest = hashlib.sha256((folder / ENGINE_FILE).read_bytes()).hexdigest()
    content["built_for"] |= runner.environment(card.options) if runner.environment else {}
    content |= {"sha256": digest, "bytes": (folder / ENGINE_FILE).stat().st_size}
    (folder / ENGINE_CARD).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    sums = read_sums(folder) | {ENGINE_FILE: digest}
    sums[ENGINE_CARD] = hashlib.sha256((folder / ENGINE_CARD).read_bytes()).hexdigest()
    (folder / SUMS_FILE).write_text(
        "".join(f"{digest}  {name}\n" for name, digest in sums.items()), encoding="utf-8"
    )
    print(
        f"built in {time.perf_counter() - start:.0f} s; the figures in README.md are those of the "
        "engine that the bundle came with: run --check"
    )


# The self-test


def check(folder: Path, portable: bool) -> bool:
    """Say whether this machine gives the measured result, and how fast; return whether it does.

    Raises:
        StageError: a file is damaged, or the engine cannot run here.
    """
    check_files(folder, [folder / name for name in read_sums(folder)])
    print("files: as they came")
    expected = read_json(folder / CHECK_FILE)
    allowed = ELSEWHERE if portable else expected["allowed_px"]
    holds = True
    for case, shifts in run_cases(folder, expected, portable):
        worst = float(shifts.max(initial=0))
        holds = holds and worst <= allowed
        print(
            f"{'with' if case['flip'] else 'without'} flip test: keypoints are within "
            f"{worst:.4f} px of the measured ones, {allowed:g} are allowed: "
            f"{'the measured result' if worst <= allowed else 'NOT the measured result'}"
        )
    if not portable:
        for line in compare_speed(folder, expected["speed"], read_crops(folder, expected)):
            print(line)
    return holds


def run_cases(folder: Path, expected: Any, portable: bool) -> Iterator[tuple[Any, Floats]]:
    """Yield each case of the self-test, and how far the keypoints are that were sure, in pixels."""
    crops = read_crops(folder, expected)
    height, width = crops.shape[1:3]
    centers = np.full((len(crops), 2), [width / 2, height / 2], np.float32)
    scales = np.full((len(crops), 2), [width, height], np.float32)
    for case in expected["portable" if portable else "cases"]:
        with Pose(folder, flip=case["flip"], portable=portable) as pose:
            keypoints, _ = pose.run(crops, centers, scales)
        sure = np.array(case["scores"], np.float32) > expected["minimum_score"]
        yield case, np.linalg.norm(keypoints - np.array(case["keypoints"]), axis=-1)[sure]


def read_crops(folder: Path, expected: Any) -> Crops:
    """Read the crops of the self-test: uint8 [N, height, width, 3] RGB.

    Raises:
        StageError: one is of another size than the model's.
    """
    crop = read_card(folder).model.crop
    size = [crop.height, crop.width, 3]
    crops = []
    for name in expected["crops"]:
        path = folder / "check" / name
        pixels = cv2.imread(str(path))
        if pixels is None or list(pixels.shape) != size:
            raise StageError(
                f"{path}: is {None if pixels is None else list(pixels.shape)}, but the crops of "
                f"{ENGINE_CARD} are {size}; unpack the bundle again"
            )
        crops.append(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
    return np.stack(crops)


def compare_speed(folder: Path, measured: Any, crops: Crops) -> Iterator[str]:
    """Yield how long an inference takes here, beside what was measured."""
    here = f"here: {cpu_name()}, {count_cpus()} CPUs"
    yield f"measured on {measured['device']}, {measured['threads']} threads; {here}"
    one, many = measured["latency"], measured["throughput"]
    threads = min(measured["threads"], count_cpus())
    with Pose(folder, batch=one["batch"], streams=one["streams"], threads=threads) as pose:
        full = batches.fill(crops, one["batch"], 1)[0]
        times = time_calls(lambda: pose.engine.infer(full), seconds=1.5)
    yield _beside(float(np.median(times)) * 1e3, one["ms"], "ms", f"batch of {one['batch']}")
    with Pose(folder, batch=many["batch"], streams=many["streams"], threads=threads) as pose:
        full = batches.fill(crops, many["batch"], 1)[0]
        size = max(8, 2 * pose.engine.requests)

        def run() -> None:
            for _ in pose.engine.stream(itertools.repeat(full, size)):
                pass

        times = time_calls(run, seconds=1.5)
    rate = size * many["batch"] / float(np.median(times))
    yield _beside(rate, many["fps"], "persons/s", f"batches of {many['batch']}")
    if measured["invalid"]:
        yield f"the measured speed is INVALID: {measured['invalid']}"


def time_calls(call: Callable[[], object], seconds: float) -> list[float]:
    """Return the seconds of each call; those of the first half second do not count."""
    times: list[float] = []
    start = time.perf_counter()
    while not times or time.perf_counter() - start < seconds + 0.5:
        before = time.perf_counter()
        call()
        after = time.perf_counter()
        if after - start > 0.5 or not times:
            times.append(after - before)
    return times


def _beside(here: float, there: float, unit: str, what: str) -> str:
    return f"{what}: {here:.2f} {unit} here, {there:.2f} measured ({here / there - 1:+.0%})"


def cpu_name() -> str:
    """Return what the CPU is called."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


# The command line


def read_boxes(path: Path) -> tuple[list[Any], dict[str, set[int]]]:
    """Read boxes: x, y, width, height, as lists or as `bbox` of COCO's objects.

    Returns:
        The entries, as they are in the file, and the ids of images by their names, if it has any.

    Raises:
        StageError: it is not such a file.
    """
    content, ids = read_json(path), dict[str, set[int]]()
    if isinstance(content, dict):  # COCO's annotations
        images = content.get("images")
        for image in images if isinstance(images, list) else []:
            if isinstance(image, dict) and isinstance(image.get("id"), int):
                name = PurePosixPath(str(image.get("file_name")).replace("\\", "/")).name
                ids.setdefault(name, set()).add(image["id"])
        content = content.get("annotations")
    if not isinstance(content, list):
        raise StageError(f"{path}: expected a list of boxes, [x, y, width, height] each")
    return content, ids


def to_corners(entries: Any, path: Path) -> Floats:
    """Return boxes [N, 4], x1, y1, x2, y2.

    Raises:
        StageError: an entry is no box.
    """
    corners = []
    for entry in entries if isinstance(entries, list) else [entries]:
        is_object = isinstance(entry, dict)
        box: Any = entry.get("bbox") if is_object else entry
        try:
            x, y, width, height = map(float, () if isinstance(box, str) else box)
            corner = np.array([x, y, x + width, y + height], np.float32)
            if not np.isfinite(corner).all() or (corner[2:] <= corner[:2]).any():
                raise ValueError("empty")
        except (TypeError, ValueError, OverflowError) as error:
            raise StageError(
                f"{path}: {str(entry)[:80]} is no box; expected [x, y, width, height] in pixels"
            ) from error
        if is_object and not is_number(entry.get("score", 1)):
            raise StageError(f"{path}: score is {entry['score']!r}; expected a number, or no key")
        if is_object and not isinstance(entry.get("image_id", 1), int):
            raise StageError(
                f"{path}: image_id is {entry['image_id']!r}; expected a whole number, or no key"
            )
        corners.append(corner)
    return np.array(corners, np.float32).reshape(-1, 4)


def warn_of_corners(corners: Floats, shape: Sequence[int], path: Path) -> None:
    """Say so if boxes that are read as x, y, width, height look like x1, y1, x2, y2."""
    given = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    if are_corners(given, np.array([[shape[1], shape[0]]])):
        print(
            f"pose.py: warning: {path}: the boxes look like x1, y1, x2, y2, but are taken as x, y, "
            "width, height",
            file=sys.stderr,
        )


def find_image_id(
    source: Path, entries: Sequence[Any], ids: dict[str, set[int]], path: Path | None
) -> int:
    """Return the id of an image.

    It is that of its name in the file of the boxes, else the number that it is called, else the
    only one that boxes have.

    Args:
        source: the image.
        entries: the boxes.
        ids: of images, by their names.
        path: of the boxes.

    Raises:
        StageError: boxes have several, and nothing says which.
    """
    found = ids.get(source.name)
    if not found and source.stem.isdecimal():
        return int(source.stem)
    found = found or {entry["image_id"] for entry in entries if "image_id" in entry} or {1}
    if len(found) > 1:
        raise StageError(
            f"{path}: {len(found)} of its images may be {source.name}; call it by its image_id, "
            f"such as {min(found)}{source.suffix}, or leave the others out"
        )
    return min(found)


def entries_of(image_id: int, entries: Sequence[Any]) -> list[Any]:
    """Return the boxes of an image: those without an `image_id`, and those with its own."""
    return [
        entry
        for entry in entries
        if not isinstance(entry, dict) or entry.get("image_id", image_id) == image_id
    ]


def to_coco(
    image_id: int, keypoints: Floats, scores: Floats, entries: Sequence[Any] = ()
) -> list[dict[str, Any]]:
    """Return COCO's results of an image.

    Args:
        image_id: of the image.
        keypoints: float32 [N, K, 2].
        scores: float32 [N, K].
        entries: the boxes that they come from, which may have scores.
    """
    found = []
    for number, (points, sure) in enumerate(zip(keypoints, scores, strict=True)):
        entry = entries[number] if number < len(entries) else None
        box_score = float(entry.get("score", 1)) if isinstance(entry, dict) else 1.0
        triples = np.column_stack([points, sure]).astype(float)
        found.append(
            {
                "image_id": image_id,
                "category_id": 1,
                "keypoints": [round(value, 4) for value in triples.ravel().tolist()],
                "score": round(box_score * float(sure.mean()), 6),
            }
        )
    return found


def follow(keypoints: Floats, scores: Floats) -> Floats:
    """Return the boxes [N, 4] in which to look for the same persons in the next image."""
    boxes = []
    for points, sure in zip(keypoints, scores, strict=True):
        seen = points[sure >= min(DRAWN_ABOVE * sure.max(), sure.max())]  # none may be above 0
        low, high = seen.min(axis=0), seen.max(axis=0)
        half = np.maximum((high - low) / 2 * GROWN, 8)
        middle = (low + high) / 2
        boxes.append([*(middle - half), *(middle + half)])
    return np.array(boxes, np.float32).reshape(-1, 4)


def run_image(pose: Pose, source: Path, boxes: Path | None, output: Path) -> None:
    """Write the keypoints of an image, and the image with them drawn in.

    Raises:
        StageError: the image is damaged, the boxes are none, or the output cannot be written.
    """
    image = decode_whole(source.read_bytes())
    if image is None:
        raise StageError(f"{source}: is damaged: it cannot be decoded whole")
    if not cv2.haveImageWriter(str(output)):
        raise StageError(f"{output}: OpenCV cannot write it; give a .jpg or .png as --output")
    check_output(output, source, boxes)
    corners = None
    listed, ids = read_boxes(boxes) if boxes else ([], {})
    if boxes:
        to_corners(listed, boxes)
    image_id = find_image_id(source, listed, ids, boxes)
    entries = entries_of(image_id, listed)
    if boxes:
        corners = to_corners(entries, boxes)
        warn_of_corners(corners, image.shape, boxes)
    keypoints, scores = pose(image, corners)
    write_json(output, to_coco(image_id, keypoints, scores, entries))
    if not cv2.imwrite(str(output), draw(image, keypoints, scores, pose.folder)):
        raise StageError(f"{output}: cannot be written")
    left = _left_out(len(listed) - len(entries))
    print(f"{len(keypoints)} persons{left}: {output}, {output.with_suffix('.json')}")


def run_video(pose: Pose, source: Path, boxes: Path | None, follows: bool, output: Path) -> None:
    """Write the keypoints of each image of a video, and the video with them drawn in.

    Args:
        pose: the model.
        source: the video.
        boxes: a file of them; None for the whole image.
        follows: look for the persons of an image where they were in the one before.
        output: the video to write.

    Raises:
        StageError: the video cannot be read or written, or the boxes are none.
    """
    video = cv2.VideoCapture(str(source))
    if not video.isOpened():
        raise StageError(f"{source}: neither an image nor a video that OpenCV reads")
    if not output.suffix or cv2.haveImageWriter(str(output)):
        raise StageError(f"{output}: is no video; give a .mp4 or .avi as --output")
    check_output(output, source, boxes)
    rate = video.get(cv2.CAP_PROP_FPS) or 25.0
    entries = read_boxes(boxes)[0] if boxes else []
    is_per_frame = any(
        isinstance(entry, list) and (not entry or isinstance(entry[0], list | dict))
        for entry in entries
    )
    numbered = any(isinstance(entry, dict) and "image_id" in entry for entry in entries)
    if boxes:
        lists = entries if is_per_frame else [entries]
        corners = np.concatenate([to_corners(one, boxes) for one in lists])
    writer, results, where, taken = None, [], None, 0
    start = time.perf_counter()
    for number in itertools.count():
        there, image = video.read()
        if not there:
            break
        own: list[Any] = []
        if boxes and number == 0:
            warn_of_corners(corners, image.shape, boxes)
        if boxes and (is_per_frame or numbered):
            listed = entries[number : number + 1] if is_per_frame else [entries]
            own = [entry for one in listed for entry in entries_of(number, one)]
            where, taken = to_corners(own, boxes), taken + len(own)
        elif boxes and number == 0:
            where, taken = corners, len(corners)
        keypoints, scores = pose(image, where)
        results += to_coco(number, keypoints, scores, own)
        if writer is None:
            writer = open_writer(output, rate, image.shape)
        writer.write(draw(image, keypoints, scores, pose.folder))
        if follows and not (is_per_frame or numbered):
            where = follow(keypoints, scores)
        seconds = time.perf_counter() - start
        print(f"\r{number + 1} images, {(number + 1) / seconds:.1f} images/s", end="", flush=True)
    video.release()
    if writer is None:
        raise StageError(f"{source}: neither an image nor a video that OpenCV reads")
    writer.release()
    write_json(output, results)
    left = _left_out(len(corners) - taken) if boxes else ""
    print(f"{left}: {output}, {output.with_suffix('.json')}")


def _left_out(boxes: int) -> str:
    return f" ({boxes} boxes of other images are left out)" if boxes > 0 else ""


def check_output(output: Path, *inputs: Path | None) -> None:
    """Check that what is drawn, and the keypoints beside it, can be written.

    Raises:
        StageError: there is no such folder, or what is read would be written over.
    """
    if not output.parent.is_dir():
        raise StageError(f"{output}: there is no folder {output.parent}; make it first")
    for path in (output, output.with_suffix(".json")):
        if any(one and path.resolve() == one.resolve() for one in inputs):
            raise StageError(f"{path}: is read, and would be written over; give another --output")


def open_writer(output: Path, rate: float, shape: Sequence[int]) -> Any:
    """Return what writes a video.

    Raises:
        StageError: OpenCV does not write such a file.
    """
    codec = cv2.VideoWriter.fourcc(*("MJPG" if output.suffix.lower() == ".avi" else "mp4v"))
    writer = cv2.VideoWriter(str(output), codec, rate, (shape[1], shape[0]))
    if not writer.isOpened():
        raise StageError(f"{output}: OpenCV cannot write it; give a .mp4 or .avi as --output")
    return writer


def write_json(output: Path, results: list[dict[str, Any]]) -> None:
    """Write COCO's results beside an output.

    Raises:
        StageError: they cannot be written.
    """
    path = output.with_suffix(".json")
    try:
        path.write_text(json.dumps(results) + "\n", encoding="utf-8")
    except OSError as error:
        raise StageError(f"{path}: cannot be written: {error.strerror}") from error


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("source", type=Path, nargs="?", help="an image or a video")
    where = command.add_mutually_exclusive_group()
    where.add_argument(
        "--boxes", type=Path, metavar="FILE",
        help="JSON: [[x, y, width, height], ...], or COCO's objects with `bbox`; for a video those "
        "of its first image, a list for each image, or objects whose `image_id` counts from 0",
    )  # fmt: skip
    where.add_argument("--whole-image", action="store_true", help="one person fills the image")
    command.add_argument(
        "--output", type=Path, metavar="FILE",
        help="what is drawn; beside it the keypoints as .json (default: NAME_pose.jpg or .mp4)",
    )  # fmt: skip
    command.add_argument("--flip", action="store_true", help="average with the mirrored image")
    command.add_argument("--batch", type=int, help="persons per inference")
    command.add_argument("--threads", type=int, help="of the CPU; by default all")
    command.add_argument("--portable", action="store_true", help="the fp32 graph, on the CPU")
    command.add_argument("--check", action="store_true", help="compare with what was measured")
    command.add_argument("--build", action="store_true", help="build the engine here (TensorRT)")
    return command


def main(arguments: Sequence[str] | None = None, folder: Path = HERE) -> int:
    """Run the command line; return the exit status."""
    command = parser()
    given = command.parse_args(arguments)
    try:
        if given.build:
            build(folder)
        if given.check and given.source:
            command.error("--check takes no image")
        if given.check:
            return 0 if check(folder, given.portable) else 1
        if given.source is None:
            return 0 if given.build else command.error("name an image or a video")
        if not given.source.is_file():
            raise StageError(f"{given.source}: there is no such file")
        is_image = cv2.haveImageReader(str(given.source))
        if is_image and not (given.boxes or given.whole_image):
            raise StageError(f"{given.source}: give --boxes FILE, or --whole-image")
        chosen: dict[str, Any] = {"batch": given.batch, "threads": given.threads}
        with Pose(folder, flip=given.flip, portable=given.portable, **chosen) as pose:
            suffix = ".jpg" if is_image else ".mp4"
            output = given.output or Path(f"{given.source.stem}_pose{suffix}")
            if is_image:
                run_image(pose, given.source, given.boxes, output)
            else:
                run_video(pose, given.source, given.boxes, not given.whole_image, output)
    except StageError as error:
        print("\n  ".join([f"pose.py: error: {error}", *error.details]), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
