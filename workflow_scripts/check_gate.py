"""Hold every variant against the limits of the configuration; fail and list what is outside.

    python workflow_scripts/check_gate.py --limits '{"int8": {"ap_drop": 0.01}}' \\
        --accuracy results/int8_accuracy.json --perf results/int8_perf.json \\
        --parity results/int8_parity.json --output results/gate.txt
"""

import argparse
from pathlib import Path

from hrnetpose import files, stage
from hrnetpose.artifacts.accuracy import Accuracy
from hrnetpose.artifacts.parity import Parity
from hrnetpose.artifacts.perf import Perf
from hrnetpose.artifacts.verdicts import Verdicts
from hrnetpose.limits import Limits
from hrnetpose.stage import StageError


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument(
        "--limits", type=stage.Json(dict[str, Limits]), required=True, help="JSON: by variant"
    )
    command.add_argument("--accuracy", type=Path, nargs="*", default=[], help="accuracies (JSON)")
    command.add_argument("--perf", type=Path, nargs="*", default=[], help="speeds (JSON)")
    command.add_argument("--parity", type=Path, nargs="*", default=[], help="drifts (JSON)")
    command.add_argument("--verdicts", type=Path, help="with a comparison with an older run (JSON)")
    command.add_argument("--output", type=Path, required=True, help="what was checked (text)")
    return command


def main(
    *,
    limits: dict[str, Limits],
    accuracy: list[Path],
    perf: list[Path],
    parity: list[Path],
    verdicts: Path | None,
    output: Path,
) -> None:
    """Run the stage."""
    accuracies = {found.engine.variant: found for found in map(Accuracy.read, accuracy)}
    perfs = {found.engine.variant: found for found in map(Perf.read, perf)}
    parities = {found.engine.variant: found for found in map(Parity.read, parity)}
    held: list[str] = []
    violated: list[str] = []
    for name, limit in limits.items():
        for text, holds in checks(limit, accuracies.get(name), perfs[name], parities[name]):
            (held if holds else violated).append(f"{name}: {text}")
    for text, holds in compare(verdicts) if verdicts else []:
        (held if holds else violated).append(text)
    if violated:
        raise StageError(f"{len(violated)} outside the limits", violated)
    files.write_text(output, "".join(f"{line}\n" for line in held))


def compare(path: Path) -> list[tuple[str, bool]]:
    """Return each figure that was compared with an older run, and whether it is no worse."""
    baseline = Verdicts.read(path).baseline
    if baseline is None:
        return []
    return [
        (
            f"{change.variant}: {change.figure} is {change.now:.6g}, and was {change.before:.6g} "
            f"in {baseline.source}: {change.verdict}",
            change.verdict != "worse",
        )
        for change in baseline.changes
        if change.now is not None and change.before is not None and change.verdict != "refused"
    ]


def checks(
    limit: Limits, accuracy: Accuracy | None, perf: Perf, parity: Parity
) -> list[tuple[str, bool]]:
    """Return each check that applies, as a sentence and whether it holds."""
    found: list[tuple[str, bool]] = []

    def at_least(what: str, value: float | None, least: float | None) -> None:
        if least is not None and value is not None:
            found.append((f"{what} is {value:.6g}, at least {least:.9g} is asked", value >= least))

    def at_most(what: str, value: float | None, most: float | None) -> None:
        if most is not None and value is not None:
            found.append((f"{what} is {value:.6g}, at most {most:.9g} is allowed", value <= most))

    if accuracy is not None:
        at_least("AP", accuracy.metrics.AP, limit.ap)
        drop = -accuracy.delta.AP if accuracy.delta else None
        at_most("loss of AP", drop, limit.ap_drop)
    shift = parity.stages["engine"].keypoint_shift_px.p99
    at_most("keypoint shift (p99, pixels)", shift, limit.keypoint_shift_px)
    at_least("images/s", perf.throughput.fps, limit.fps)
    at_most("latency (p99, ms)", perf.latency_ms.p99, limit.latency_p99_ms)
    if perf.invalid and (limit.fps is not None or limit.latency_p99_ms is not None):
        found.append((f"speed has a limit, but its figures are INVALID: {perf.invalid[0]}", False))
    return found


if __name__ == "__main__":
    stage.run(parser(), main)
