"""What all variants on one machine share: its peaks, and how long an image takes to a crop."""

import platform
import time
from collections.abc import Sequence

import cv2

from hrnetpose.artifacts.engine import Device
from hrnetpose.artifacts.machine import Cutting, Machine, Peaks
from hrnetpose.artifacts.measured import Host
from hrnetpose.artifacts.model import Crop
from hrnetpose.data import cutting
from hrnetpose.data.annotations import Image
from hrnetpose.data.images import ImageStore
from hrnetpose.speed import host, limit, timing, validity
from hrnetpose.speed.monitor import Monitor
from hrnetpose.speed.patience import Measured, Patience
from hrnetpose.speed.timing import Limits


def measure(
    device: Device,
    threads: int,
    images: Sequence[Image],
    store: ImageStore,
    crop: Crop,
    seconds: float,
    patience: Patience,
) -> Machine:
    """Measure what the machine does whatever engine runs on it.

    What was disturbed to the end is left out: who needs it measures it again.

    Args:
        device: what engines run on.
        threads: CPU threads.
        images: with their persons.
        store: where they are.
        crop: how persons are cut out.
        seconds: about how long each part takes.
        patience: for all of them.
    """
    machine = host.describe(device)
    peaks = {
        precision: measure_peaks(precision, device, threads, seconds, patience)
        for precision in limit.native_precisions(device, machine)
    }
    cut = measure_cutting(images, store, crop, seconds, patience)
    return Machine(
        name=platform.node(),
        host=machine,
        device=device,
        threads=threads,
        peaks={name: found.value for name, found in peaks.items() if not found.disturbed},
        cutting=None if cut.disturbed else cut.value,
        attempts=patience.attempts,
    )


def difference(shared: Machine, here: Host, device: Device, threads: int) -> str | None:
    """Return in what the machine is another one than this; None if it is the same."""
    found = {
        "host": (shared.name, platform.node()),
        "CPU": (shared.host.cpu, here.cpu),
        "number of cores": (shared.host.cores, here.cores),
        "number of threads": (shared.threads, threads),
        "device": (shared.device.kind, device.kind),
        # Without NVML only the backend of an engine knows its name.
        "GPU": (shared.host.gpu or here.gpu, here.gpu),
    }
    return next(
        (f"the {name} was {one}, and is {two}" for name, (one, two) in found.items() if one != two),
        None,
    )


def measure_peaks(
    precision: str, device: Device, threads: int, seconds: float, patience: Patience
) -> Measured[Peaks]:
    """Measure the most that the device can do in a precision: the best of all attempts."""
    found: list[Peaks] = []

    def attempt() -> Measured[Peaks]:
        with Monitor(device) as watched:
            found.append(limit.measure(precision, device, threads, seconds))
        disturbed = validity.disturbances(watched.report)
        return Measured(limit.best(found), (found[-1].flops or 0.0) / 1e9, "GFLOP/s", disturbed)

    return patience.settle(f"peak of {precision}", attempt)


def measure_cutting(
    images: Sequence[Image], store: ImageStore, crop: Crop, seconds: float, patience: Patience
) -> Measured[Cutting]:
    """Measure how long decoding an image and cutting its persons out take, on one thread."""
    cv2.setNumThreads(1)

    def attempt() -> Measured[Cutting]:
        decode = cut = 0.0
        persons = 0
        with Monitor() as watched:
            for image in timing.in_turns(images, Limits(seconds, len(images))):
                begun = time.perf_counter()
                pixels = store.decode(image.file_name, image.width, image.height)
                decoded = time.perf_counter()
                persons += len(cutting.cut_persons(pixels, image, crop))
                decode += decoded - begun
                cut += time.perf_counter() - decoded
        found = Cutting(decode_ms=decode / persons * 1e3, crop_ms=cut / persons * 1e3)
        disturbed = validity.disturbances(watched.report)
        return Measured(found, found.decode_ms + found.crop_ms, "ms a person", disturbed)

    return patience.settle("image to crop", attempt)
