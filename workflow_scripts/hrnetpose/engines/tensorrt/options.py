"""Options of TensorRT and TensorRT-RTX, and the optimization profile that follows from them."""

from typing import Literal, Self

from pydantic import Field, model_validator

from hrnetpose.backend_rules import Options
from hrnetpose.recipes import Precision
from hrnetpose.stage import StageError

RUNTIME_OPTIONS = {"threads", "timing_cache", "buffers", "cuda_graphs"}
"""Options that do not affect the plan."""


class TensorRtOptions(Options):
    """Options of `backend: tensorrt` and `backend: tensorrt_rtx`."""

    min_batch: int | None = Field(None, ge=1)
    """The smallest batch of the optimization profile; by default the variant's `batch`."""
    opt_batch: int | None = Field(None, ge=1)
    """The batch that kernels are chosen for; by default the variant's `batch`."""
    max_batch: int | None = Field(None, ge=1)
    """The largest batch of the optimization profile; by default the variant's `batch`."""
    workspace_mib: int | None = Field(None, ge=1)
    """Limit of the scratch memory of layers, MiB; by default all device memory."""
    optimization_level: int = Field(3, ge=0, le=5)
    """How thoroughly the builder searches, from 0 to 5."""
    tf32: bool = False
    """Whether fp32 layers may run in TF32, which has 10 bits of mantissa."""
    hardware_compatibility: Literal["none", "same_compute_capability", "ampere_plus"] = "none"
    """On which other GPUs the engine may run; anything but `none` costs speed."""
    version_compatible: bool = False
    """Whether later versions of the same major version may run the engine."""
    timing_cache: bool = True
    """Whether measured kernels are kept for the next build, in build/timing_cache/."""
    buffers: int = Field(2, ge=1, le=16)
    """Batches in flight: while one is computed, others are copied."""
    cuda_graphs: bool = False
    """Whether a batch is launched as one CUDA graph; needs cuda-bindings."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        given = [n for n in (self.min_batch, self.opt_batch, self.max_batch) if n is not None]
        if given != sorted(given):
            raise ValueError("min_batch <= opt_batch <= max_batch does not hold")
        return self

    def check(self, batch: int, precision: Precision) -> None:
        profile(self, batch)


def profile(options: TensorRtOptions, batch: int) -> tuple[int, int, int]:
    """Return the smallest, the optimal and the largest batch of the optimization profile.

    Args:
        options: of the engine.
        batch: images per inference.

    Raises:
        StageError: they are out of order, or `batch` is not between the ends.
    """
    given = options.min_batch, options.opt_batch, options.max_batch
    low, best, high = (n or batch for n in given)
    if not (low <= best <= high and low <= batch <= high):
        raise StageError(
            "options: the optimization profile needs min_batch <= opt_batch <= max_batch with "
            f"batch {batch} between the ends, not {low} <= {best} <= {high}"
        )
    return low, best, high
