"""Whether a measurement can be believed, as MLPerf's LoadGen says it: VALID, or INVALID and why.

The rules are fixed, and not part of the configuration: a figure that is VALID means the same
everywhere.
"""

import numpy as np

from hrnetpose.batches import Array, Outputs
from hrnetpose.speed.monitor import Report

MIN_SECONDS = 3.0
"""Latency and throughput must each be measured for this long."""
MIN_REQUESTS = 50
"""Latency needs this many samples, ..."""
MIN_BATCHES = 12
"""... throughput this many batches."""
MAX_SPREAD = 0.10
"""Windows of a measurement must not differ by more."""
MAX_OTHERS = 0.05
"""Other processes may take this share of the CPUs ..."""
MIN_OTHERS_CORES = 0.1
"""... or this much of one, if that is more: what a quiet system needs for itself."""
MAX_STEAL = 0.02
"""The hypervisor may take this share of the CPUs."""
RESOLUTION = 0.05
"""CPU seconds that counters, which count ticks of 10 ms, cannot tell; it matters below 1 s only."""
MAX_CLOCK_LOSS = 0.10
"""The clock must not fall by more between the ends of a measurement."""
MAX_DIFFERENCE = 0.3
"""Outputs for one image may differ by this share; low precision rounds by far less."""


def shortcomings(samples: int, fewest: int, seconds: float) -> list[str]:
    """Return why a measurement is too small to be believed; another one would be as small.

    Args:
        samples: how many it has.
        fewest: how many it needs.
        seconds: how long it took.
    """
    reasons = []
    if samples < fewest:
        reasons.append(f"too few samples: {samples}, at least {fewest} are needed")
    if seconds < MIN_SECONDS:
        reasons.append(f"too short: {seconds:.1f} s, at least {MIN_SECONDS:g} s are needed")
    return reasons


def unsteadiness(spread: float) -> list[str]:
    """Return a reason if the windows of a measurement differ by too much."""
    if spread <= MAX_SPREAD:
        return []
    return [f"unstable: windows differ by {spread:.0%}, at most {MAX_SPREAD:.0%} is allowed"]


def disturbances(machine: Report) -> list[str]:
    """Return what disturbed a measurement."""
    reasons = []
    capacity = machine.seconds * machine.cpus
    others, steal = machine.others, machine.steal
    allowed = max(MAX_OTHERS * capacity, MIN_OTHERS_CORES * machine.seconds, RESOLUTION)
    if others is not None and others > allowed:
        reasons.append(
            f"other processes took {others / machine.seconds:.2f} of {machine.cpus} CPUs"
        )
    if steal is not None and steal > max(MAX_STEAL * capacity, RESOLUTION):
        reasons.append(f"the hypervisor took {steal / capacity:.0%} of the CPUs (steal)")
    if machine.swapped:
        reasons.append(f"{machine.swapped} pages were swapped")
    if machine.thermal:
        reasons.append(f"the clock was throttled for heat {machine.thermal} times")
    if machine.quota:
        reasons.append(f"a CPU quota held the process back for {machine.quota:.2f} s")
    if machine.clocks_mhz:
        reasons += _clock_loss("the CPU", machine.clocks_mhz)
    if machine.gpu:
        if machine.gpu.throttled:
            reasons.append("the GPU's clock was throttled")
        if machine.gpu.others:
            reasons.append(f"{machine.gpu.others} other processes compute on the GPU")
        reasons += _clock_loss("the GPU", machine.gpu.clocks_mhz)
    return reasons


def batch_content(alone: Outputs, in_batch: Outputs) -> list[str]:
    """Return the reasons if the last image of a batch has other outputs than alone.

    An engine that computes fewer images than its batch declares is caught by it, even if it fills
    up what it returns.

    Args:
        alone: of a batch that repeats the image.
        in_batch: of a batch of others with the same image at the end.
    """
    errors = {name: _difference(in_batch[name][-1], alone[name][0]) for name in alone}
    return [
        f"batch: the last image of a batch has other {name} than alone (off by {error:.0%})"
        for name, error in errors.items()
        if error > MAX_DIFFERENCE
    ]


def _difference(values: Array, reference: Array) -> float:
    return float(np.linalg.norm(values - reference)) / (float(np.linalg.norm(reference)) or 1.0)


def _clock_loss(what: str, clocks: tuple[float, float]) -> list[str]:
    before, after = clocks
    if after >= before * (1 - MAX_CLOCK_LOSS):
        return []
    return [f"the clock of {what} fell from {before:.0f} to {after:.0f} MHz"]
