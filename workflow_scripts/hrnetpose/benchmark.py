"""How speed is measured: the `benchmark` of the configuration."""

from typing import Annotated

from pydantic import Field

from hrnetpose.section import Section

PERSONS = 128
"""About so many persons are measured with, the first of the dataset."""
MIDDLE = 1 / 6
"""Of the least seconds of latency and throughput: what a peak and the whole way take."""


class Benchmark(Section):
    """How speed is measured."""

    min_seconds: float = Field(3.0, gt=0, strict=True)
    """Latency and throughput are each measured for at least this long, and for up to twice as long
    until half of the 95 % interval is within 2 %; VALID needs 3."""
    min_samples: int = Field(50, ge=1, strict=True)
    """Latency is measured on at least this many requests; VALID needs 50."""
    patience: float = Field(60.0, ge=0, strict=True)
    """Seconds that a variant may take in addition, for pauses and for what was disturbed and is
    measured again; 0: everything is measured once."""
    batches: list[Annotated[int, Field(ge=1, le=4096, strict=True)]] = Field([1, 8])
    """Throughput is the best of these batch sizes, the variant's own, ..."""
    streams: list[Annotated[int, Field(ge=1, strict=True)]] = Field([])
    """... and, where a backend has them, these numbers of streams, one, and one for each thread."""
