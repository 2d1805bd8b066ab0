"""Batches on an NVIDIA GPU through pycuda, which is imported only when an engine is opened."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hrnetpose.batches import Crops, Outputs
from hrnetpose.engines.slots import CudaSlot
from hrnetpose.stage import StageError

Shape = tuple[int, ...]


class Streams:
    """The device's primary context, which PyTorch and the CUDA runtime share, and three streams.

    Copies in, work and copies out have a stream each, so that one batch is computed while the next
    comes in and the last goes out.
    """

    def __init__(self) -> None:
        import pycuda.autoprimaryctx
        import pycuda.driver

        self.driver = pycuda.driver
        self.context = pycuda.autoprimaryctx.context
        self.upload, self.compute, self.download = (self.driver.Stream() for _ in range(3))


class PycudaSlot(CudaSlot):
    """The buffers of one batch, pinned on the host and on the device; events order its steps.

    Args:
        streams: shared by all slots.
        crops: the shape of a full batch, uint8.
        outputs: the shapes of what comes out, float32, by name.
        enqueue: puts the work on this slot's buffers into the compute stream.

    Attributes:
        device_input: the address of the crops.
        device_outputs: the addresses of the outputs, by name.
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
        self._outputs = {
            name: driver.pagelocked_empty(shape, np.float32) for name, shape in outputs.items()
        }
        self.device_input = driver.mem_alloc(self._input.nbytes)
        self.device_outputs = {
            name: driver.mem_alloc(values.nbytes) for name, values in self._outputs.items()
        }
        no_timing = driver.event_flags.DISABLE_TIMING
        self._uploaded, self._computed, self._downloaded = (
            driver.Event(no_timing) for _ in range(3)
        )
        self._last: Any = self.compute
        self._graph: CudaGraph | None = None

    def capture(self) -> None:
        """Captures the work into a CUDA graph, which `launch` uses from then on."""
        self.launch()  # once before, so that nothing is allocated while it is captured
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
        for name, values in self._outputs.items():
            streams.driver.memcpy_dtoh_async(
                values, self.device_outputs[name], stream=streams.download
            )
        self._downloaded.record(streams.download)
        self._last = self._downloaded

    def wait(self) -> None:
        # After `copy_out` an event: the stream may have batches of other slots behind this one.
        self._last.synchronize()

    def take(self) -> Outputs:
        return {name: values.copy() for name, values in self._outputs.items()}

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
    """Work captured from a stream into a CUDA graph: one call launches all its kernels.

    pycuda has no graphs; the CUDA runtime takes its stream by the same handle.

    Args:
        stream: a stream of pycuda.
        enqueue: puts the work into the stream; it was run once before.

    Raises:
        StageError: the work cannot be captured.
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
        """Enqueues the work."""
        self._call("cudaGraphLaunch", self._graph, self._stream)

    def close(self) -> None:
        """Frees the graph."""
        self._call("cudaGraphExecDestroy", self._graph)

    def _call(self, name: str, *arguments: Any) -> Any:
        status, *values = getattr(self._runtime, name)(*arguments)
        if status != self._runtime.cudaError_t.cudaSuccess:
            raise StageError(f"CUDA graph: {name} answers {status.name}; run without `cuda_graphs`")
        return values[0] if values else None
