"""How speed is measured: the `benchmark` of the configuration."""

from typing import Annotated

from pydantic import Field

from hrnetpose.limits import Section


class Benchmark(Section):
    """How speed is measured."""

    min_seconds: float = Field(4.0, gt=0, strict=True)
    """Each of latency and throughput is measured for at least this long; VALID needs 3."""
    min_samples: int = Field(50, ge=1, strict=True)
    """Latency is measured on at least this many requests; VALID needs 50."""
    batches: list[Annotated[int, Field(ge=1, le=4096, strict=True)]] = Field([1, 8])
    """Throughput is the best of these batch sizes, the variant's own, ..."""
    streams: list[Annotated[int, Field(ge=1, strict=True)]] = Field([])
    """... and, where a backend has them, these numbers of streams, one, and one for each thread."""
