"""Slots on an NVIDIA GPU through pycuda, which is imported when an engine is opened."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hrnetpose.batches import Crops
from hrnetpose.engines.slots import CudaSlot
from hrnetpose.stage import StageError

Shape = tuple[int, ...]


class Streams:
    """The primary context of the device, shared with PyTorch and the CUDA runtime, and its streams.

    The device is the first that CUDA_VISIBLE_DEVICES leaves, which `cuda` describes.  Copies in,
    computation and copies out have one stream each, so that they overlap for different batches.
    """

    def __init__(self) -> None:
        # Otherwise pycuda heeds ~/.cuda_device, and takes the next GPU where the first is busy.
        os.environ["CUDA_DEVICE"] = "0"
        import pycuda.autoprimaryctx
        import pycuda.driver

        self.driver = pycuda.driver
        self.context = pycuda.autoprimaryctx.context
        self.upload, self.compute, self.download = (self.driver.Stream() for _ in range(3))


class PycudaSlot(CudaSlot):
    """Buffers of one batch on the host, page-locked, and on the device; events order its steps.

    Args:
        streams: shared by all slots.
        crops: shape of a full batch, uint8.
        outputs: shapes of the outputs of a full batch, float32, by name.
        enqueue: enqueues the computation on the buffers of a slot in the compute stream.

    Attributes:
        device_input: device memory of the crops.
        device_outputs: device memory of the outputs, by name.
    """

    def __init__(
        self,
        streams: Streams,
        crops: Shape,
        outputs: Mapping[str, Shape],
        enqueue: Callable[["PycudaSlot"], None],
    ) -> None:
        driver = streams.driver
        self._streams, self._enqueue = streams, enqueue
        self.compute = streams.compute
        self._input = driver.pagelocked_empty(crops, np.uint8)
        self.outputs = {
            name: driver.pagelocked_empty(shape, np.float32) for name, shape in outputs.items()
        }
        self.device_input = driver.mem_alloc(self._input.nbytes)
        self.device_outputs = {
            name: driver.mem_alloc(values.nbytes) for name, values in self.outputs.items()
        }
        no_timing = driver.event_flags.DISABLE_TIMING
        self._uploaded, self._computed, self._downloaded = (
            driver.Event(no_timing) for _ in range(3)
        )
        self._last: Any = self.compute
        self._graph: CudaGraph | None = None

    def capture(self) -> None:
        """Capture the computation into a CUDA graph, which `launch` uses from then on."""
        self.launch()  # a first run, because allocations cannot be captured
        self.wait()
        self._graph = CudaGraph(self.compute, lambda: self._enqueue(self))

    def copy_in(self, crops: Crops) -> None:
        streams = self._streams
        np.copyto(self._input, crops)
        streams.driver.memcpy_htod_async(self.device_input, self._input, stream=streams.upload)
        self._uploaded.record(streams.upload)
        self.compute.wait_for_event(self._uploaded)
        self._last = streams.upload

    def launch(self) -> None:
        if self._graph:
            self._graph.launch()
        else:
            self._enqueue(self)
        self._last = self.compute

    def copy_out(self) -> None:
        streams = self._streams
        self._computed.record(self.compute)
        streams.download.wait_for_event(self._computed)
        for name, values in self.outputs.items():
            streams.driver.memcpy_dtoh_async(
                values, self.device_outputs[name], stream=streams.download
            )
        self._downloaded.record(streams.download)
        self._last = self._downloaded

    def wait(self) -> None:
        # After `copy_out` it is an event: the stream may already hold batches of other slots.
        self._last.synchronize()

    def create_event(self) -> Any:
        return self._streams.driver.Event()

    def seconds_between(self, start: Any, end: Any) -> float:
        return end.time_since(start) / 1e3

    def free(self) -> None:
        self._streams.context.synchronize()
        if self._graph:
            self._graph.close()
        for buffer in (self.device_input, *self.device_outputs.values()):
            buffer.free()


class CudaGraph:
    """A computation captured from a stream into a CUDA graph: one call launches all its kernels.

    pycuda has no CUDA graphs; the CUDA runtime accepts the handle of its stream.

    Args:
        stream: a stream of pycuda.
        enqueue: enqueues the computation in the stream; it has run before.

    Raises:
        StageError: the computation cannot be captured.
    """

    def __init__(self, stream: Any, enqueue: Callable[[], None]) -> None:
        from cuda.bindings import runtime

        self._runtime = runtime
        self._stream = stream.handle
        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self._stream, mode)
        enqueue()
        graph = self._call("cudaStreamEndCapture", self._stream)
        self._graph = self._call("cudaGraphInstantiate", graph, 0)
        self._call("cudaGraphDestroy", graph)

    def launch(self) -> None:
        """Enqueue the computation."""
        self._call("cudaGraphLaunch", self._graph, self._stream)

    def close(self) -> None:
        """Free the graph."""
        self._call("cudaGraphExecDestroy", self._graph)

    def _call(self, name: str, *arguments: Any) -> Any:
        status, *values = getattr(self._runtime, name)(*arguments)
        if status != self._runtime.cudaError_t.cudaSuccess:
            raise StageError(f"CUDA graph: {name} returns {status.name}; run without `cuda_graphs`")
        return values[0] if values else None
