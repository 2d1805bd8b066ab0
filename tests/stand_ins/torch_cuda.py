"""A stand-in for torch.cuda: it records the calls, and the work is done at once on the CPU."""

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hrnetpose.engines.base import Engine
from hrnetpose.engines.pytorch import GpuSlot


class Event:
    """An event; two of them are 4 ms apart."""

    def __init__(self, enable_timing: bool = False) -> None:
        assert enable_timing

    def record(self, stream: object) -> None: ...

    def elapsed_time(self, end: object) -> float:
        return 4.0


class Graph:
    """A CUDA graph; `replay` runs the engine into the results of the capture."""

    def __init__(self, calls: list[str]) -> None:
        self._calls = calls

    def replay(self) -> None:
        self._calls.append("replay")
        for name, values in self.run(self.slot._crops).items():
            self.slot._results[name].copy_(values)


def install(patch: pytest.MonkeyPatch) -> list[str]:
    """Replace torch.cuda; return the calls."""
    calls: list[str] = []

    def enter(stream: object) -> Any:
        calls.append("step")
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def capture(graph: object, stream: object) -> Iterator[None]:
        yield

    patch.setattr(torch.cuda, "Event", Event)
    patch.setattr(
        torch.cuda, "Stream", lambda: SimpleNamespace(synchronize=lambda: calls.append("wait"))
    )
    patch.setattr(torch.cuda, "stream", enter)
    patch.setattr(torch.cuda, "CUDAGraph", lambda: Graph(calls))
    patch.setattr(torch.cuda, "graph", capture)
    return calls


def use_gpu_slots(engine: Engine[Any], buffers: int = 2, graph: bool = False) -> None:
    """Give an engine that was opened on the CPU the slots of a GPU."""
    engine._slots = [
        GpuSlot(
            engine._run,
            engine.crops_shape,
            engine.output_shapes,
            "cpu",
            engine._run if graph else None,
        )
        for _ in range(buffers)
    ]
    for slot in engine._slots if graph else ():
        slot._graph.slot, slot._graph.run = slot, engine._run
