"""The limit: what the machine could do at most, and the fraction of it that was reached.

Roofline model (Williams et al., CACM 2009): an image takes at least its operations divided by the
peak of a matrix product, and at least the bytes that must cross memory divided by the bandwidth of
a copy.  Both are the best of several on the machine that they judge: a peak that was measured in a
slow minute would be too low, and a figure above it no wonder.
"""

import importlib.util
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from hrnetpose.artifacts.engine import Device
from hrnetpose.artifacts.machine import Peaks
from hrnetpose.artifacts.measured import Host, Roofline
from hrnetpose.artifacts.model import ModelCard

_NVIDIA = {
    "fp32": (0, 0), "tf32": (8, 0), "fp16": (7, 0), "int8": (7, 5), "bf16": (8, 0), "fp8": (8, 9),
}  # fmt: skip
"""Precision -> the compute capability from which on a GPU has units for it."""
_BYTES = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "int8": 1, "fp8": 1}
_FASTEST_FIRST = ("int8", "fp8", "fp16", "bf16", "fp32")
_SIZES = (256, 512, 1024)
"""Sizes of PyTorch's square matrices on a CPU; the best counts."""
_CONVOLUTIONS = ((1024, 1, 32), (1024, 3, 16), (512, 5, 32))
"""Channels, kernel size and side of the image of OpenVINO's products; the best counts."""
_ROUNDS = 3
_AT_A_TIME = 8
"""Products or copies that a GPU is given before the host waits for it."""
_SHARED = 128 * 2**20
"""Bytes that are copied, more than a cache holds."""


def precision_of(layers: dict[str, int], executed: str) -> str:
    """Return the precision whose peak bounds an engine: the fastest that it uses.

    Args:
        layers: heavy layers by precision.
        executed: the precision of most of them.
    """
    return next((name for name in _FASTEST_FIRST if layers.get(name)), executed)


def native_precisions(device: Device, machine: Host) -> list[str]:
    """Return the precisions that a device has units for, and so runs at its peak."""
    if device.kind == "cpu":
        return [name for name in _BYTES if machine.is_native(name)]
    if not _has_cuda():
        return []
    import torch

    capability = torch.cuda.get_device_capability()
    return [name for name, least in _NVIDIA.items() if capability >= least]


def best(found: Iterable[Peaks]) -> Peaks:
    """Return the most of several measurements: what disturbs one makes it less, and never more."""
    one = list(found)
    return Peaks(
        flops=max((peaks.flops for peaks in one if peaks.flops), default=None),
        bandwidth=max((peaks.bandwidth for peaks in one if peaks.bandwidth), default=None),
        measured_with=one[-1].measured_with,
    )


def measure(precision: str, device: Device, threads: int, seconds: float = 1.0) -> Peaks:
    """Measure the peaks of a device.

    Args:
        precision: of the matrix product.
        device: what the engine runs on.
        threads: CPU threads, as many as the engine has.
        seconds: about how long the products may take in all.
    """
    if device.kind == "cpu":
        bandwidth = copy_bandwidth(threads)
        if importlib.util.find_spec("openvino"):
            products, library = _openvino_products(precision, threads), "OpenVINO"
        elif importlib.util.find_spec("torch") and precision in ("fp32", "bf16"):
            products, library = _torch_products(precision, threads), "PyTorch"
        else:
            reason = f"not available: no library here multiplies {precision} matrices on a CPU"
            return Peaks(flops=None, bandwidth=bandwidth, measured_with=reason)
    else:
        if not _has_cuda():
            reason = "not available: PyTorch with CUDA is needed to measure a GPU"
            return Peaks(flops=None, bandwidth=None, measured_with=reason)
        bandwidth = _cuda_bandwidth()
        if precision not in _BYTES:
            reason = f"not available: the executed precision is {precision}"
            return Peaks(flops=None, bandwidth=bandwidth, measured_with=reason)
        products, library = _cuda_products(precision), "PyTorch"
    return Peaks(
        flops=best_rate(products, seconds),
        bandwidth=bandwidth,
        measured_with=f"a matrix product of {library}, a copy of {_SHARED >> 20} MiB",
    )


def roofline(
    card: ModelCard, precision: str, batch: int, cache: int | None, peaks: Peaks, fps: float
) -> Roofline:
    """Hold a throughput against the limit.

    Args:
        card: operations, parameters and the sizes of both ends of the graph.
        precision: of the peak.
        batch: images among which the weights are shared.
        cache: bytes of the last-level cache; weights that fit are not read again.
        peaks: what was measured.
        fps: the throughput.
    """
    flops = 2.0 * card.macs
    fewest = fewest_bytes(card, precision, batch, cache)
    limits: dict[Any, float] = {}
    if peaks.flops:
        limits["compute"] = peaks.flops / flops
    if peaks.bandwidth:
        limits["memory"] = peaks.bandwidth / fewest
    # Without the peak of the product a limit would be too high to say anything.
    known = peaks.flops is not None
    bound = min(limits, key=lambda name: limits[name]) if known else None
    limit = limits[bound] if bound else None
    return Roofline(
        flops_per_image=flops,
        bytes_per_image=fewest,
        precision=precision,
        peak_flops=peaks.flops,
        bandwidth_bytes_s=peaks.bandwidth,
        measured_with=peaks.measured_with,
        bound=bound,
        limit_fps=limit,
        fraction=fps / limit if limit else None,
    )


def fewest_bytes(card: ModelCard, precision: str, batch: int, cache: int | None) -> float:
    """Return the bytes for an image that must cross memory whatever an engine does.

    The uint8 crop is read, the float32 outputs are written, and the weights are read once for a
    batch, but for what the cache can keep.  Everything in between may stay in the cache.
    """
    ends = 3 * card.crop.height * card.crop.width
    for output in card.outputs:
        ends += 4 * int(np.prod([size for size in output.shape[1:] if isinstance(size, int)]))
    weights = card.parameters * _BYTES.get(precision, 4)
    return ends + max(0, weights - (weights if cache is None else cache)) / batch


def best_rate(products: Iterator[tuple[float, Callable[[], None]]], seconds: float) -> float:
    """Return the most operations per second of any product in any window.

    Args:
        products: each with its operations for a call.
        seconds: for all of them.
    """
    best = 0.0
    window = seconds / (_ROUNDS * 2 * len(_SIZES))
    for operations, call in products:
        call()
        for _ in range(_ROUNDS):
            calls, start = 0, time.perf_counter()
            while calls == 0 or time.perf_counter() - start < window:
                call()
                calls += 1
            best = max(best, calls * operations / (time.perf_counter() - start))
    return best


def copy_bandwidth(threads: int) -> float:
    """Return the bytes per second, read and written, of the best copy by all threads."""
    source = np.ones(_SHARED // 8)
    target = np.zeros_like(source)
    parts = list(zip(np.array_split(source, threads), np.array_split(target, threads), strict=True))
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            list(pool.map(lambda part: np.copyto(part[1], part[0]), parts))
            best = max(best, 2 * source.nbytes / (time.perf_counter() - start))
    return best


def _openvino_products(precision: str, threads: int) -> Iterator[tuple[float, Callable[[], None]]]:
    """Yield products in OpenVINO, as one call on all threads and as one call on each.

    A product is written as a convolution, whose kernels are those of the engines; for its plain
    fp32 product OpenVINO has others, which are slower on some CPUs.  Larger kernels have a longer
    inner dimension (their area times the channels) and come closer to the peak than 1x1.
    Operations are counted as a model's are: with those on the border's zeros, which kernels may
    leave out.
    """
    import openvino

    core = openvino.Core()
    hint = {"fp32": "f32", "fp16": "f16"}.get(precision, "bf16")
    if precision == "fp16" and "FP16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        hint = "f32"
    for channels, kernel, side in _CONVOLUTIONS:
        for streams in dict.fromkeys((1, threads)):
            compiled = core.compile_model(
                _openvino_product(channels, kernel, side, precision == "int8"),
                "CPU",
                {
                    "INFERENCE_PRECISION_HINT": hint,
                    "INFERENCE_NUM_THREADS": threads,
                    "NUM_STREAMS": streams,
                },
            )
            requests = [compiled.create_infer_request() for _ in range(streams)]

            def call(requests: list[Any] = requests) -> None:
                for request in requests:
                    request.start_async()
                for request in requests:
                    request.wait()

            yield 2.0 * (channels * kernel * side) ** 2 * streams, call


def _openvino_product(channels: int, kernel: int, side: int, quantized: bool) -> Any:
    """Return weights [channels, n] times pixels [n, side^2], where n is kernel^2 x channels."""
    import openvino
    from openvino import opset13 as op

    def quantize(node: Any, low: float, high: float, levels: int) -> Any:
        ends = [np.full((1, 1, 1, 1), end, np.float32) for end in (low, high)]
        return op.fake_quantize(node, *ends, *ends, levels)

    random = np.random.default_rng(0)
    shape, border = (channels, channels, kernel, kernel), [kernel // 2] * 2
    if quantized:
        pixels = op.parameter([1, channels, side, side], np.uint8)
        left = quantize(op.convert(pixels, np.float32), 0, 255, 256)
        weights = op.constant(random.integers(-127, 128, shape).astype(np.float32))
        right = quantize(weights, -127, 127, 255)
    else:
        left = pixels = op.parameter([1, channels, side, side], np.float32)
        right = op.constant(random.standard_normal(shape, np.float32))
    product = op.convolution(left, right, [1, 1], border, border, [1, 1])
    return openvino.Model([op.result(product)], [pixels], "product")


def _torch_products(precision: str, threads: int) -> Iterator[tuple[float, Callable[[], None]]]:
    import torch

    torch.set_num_threads(threads)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    for size in _SIZES:
        left, right = (torch.randn(size, size).to(dtype) for _ in range(2))
        yield 2.0 * size**3, partial(torch.mm, left, right)


def _cuda_products(precision: str) -> Iterator[tuple[float, Callable[[], None]]]:
    """Yield products on a GPU, several at a time: a small one is done before the next is started.

    The names of those in eight bits begin with an underscore, but PyTorch has no other.
    """
    import torch

    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    one = torch.ones((), device="cuda")
    for size in (2048, 4096, 8192):
        # Random: equal digits cost a GPU less power, and so make it faster than it is at work.
        numbers = [torch.randn(size, size, device="cuda") for _ in range(2)]
        match precision:
            case "int8":
                left, right = ((matrix * 32).to(torch.int8) for matrix in numbers)
                product = partial(torch._int_mm, left, right.t())
            case "fp8":
                left, right = (matrix.to(torch.float8_e4m3fn) for matrix in numbers)
                product = partial(
                    torch._scaled_mm, left, right.t(), one, one, out_dtype=torch.bfloat16
                )
            case _:
                dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision)
                left, right = (matrix.to(dtype or torch.float32) for matrix in numbers)
                product = partial(torch.mm, left, right)

        def call(product: Callable[[], Any] = product) -> None:
            for _ in range(_AT_A_TIME):
                product()
            torch.cuda.synchronize()

        yield 2.0 * size**3 * _AT_A_TIME, call


def _has_cuda() -> bool:
    if not importlib.util.find_spec("torch"):
        return False
    import torch

    return bool(torch.cuda.is_available())


def _cuda_bandwidth() -> float:
    import torch

    source = torch.ones(_SHARED, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)

    def copy() -> None:
        for _ in range(_AT_A_TIME):
            target.copy_(source)
        torch.cuda.synchronize()

    return best_rate(iter([(2.0 * _SHARED * _AT_A_TIME, copy)]), seconds=0.5)
