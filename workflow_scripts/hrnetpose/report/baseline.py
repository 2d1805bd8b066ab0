"""Compare a run with an older one: improved, worse or within noise, as the intervals tell.

Figures of another protocol or another machine are not compared, by name.  The interval of an AP is
that of its change against its run's reference; the AP of a reference, which has none, is the same
as far as 0.001.
"""

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, TypeVar

from hrnetpose import archives
from hrnetpose.artifacts.accuracy import Accuracy
from hrnetpose.artifacts.perf import Perf
from hrnetpose.artifacts.verdicts import Baseline, Change
from hrnetpose.report.rows import Row
from hrnetpose.stage import StageError, name

SAME_AP = 5e-4
"""Half of the width within which the AP of a reference is the same."""
LARGEST = 1 << 26
"""Bytes of an artifact."""
KINDS = ("_accuracy.json", "_perf.json")

Figures = TypeVar("Figures", Accuracy, Perf)
Interval = tuple[float, float]


def compare(path: Path, rows: Sequence[Row]) -> Baseline:
    """Compare all rows with those of an older run.

    Args:
        path: its results folder, or a zip of it.
        rows: of this run.

    Raises:
        StageError: there are no results in it, or they cannot be read.
    """
    found = dict(_read(path))
    accuracies = _parse(Accuracy, path, found)
    perfs = _parse(Perf, path, found)
    old = {*accuracies, *perfs}
    now = {row.name for row in rows}
    changes = [
        change
        for row in rows
        if row.name in old
        for change in _compare_row(row, accuracies.get(row.name), perfs.get(row.name))
    ]
    return Baseline(
        source=str(path),
        changes=changes,
        new=sorted(now - old),
        gone=sorted(old - now),
    )


def _read(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the artifacts of a folder or a zip, those that lie together with the fewest parents."""
    if path.is_dir():
        files = {str(file.relative_to(path)): file for file in path.glob("*.json")}
        contents: Mapping[str, Callable[[], bytes]] = {
            file: place.read_bytes for file, place in files.items()
        }
        yield from _choose(path, contents)
        return
    if not path.exists():
        raise StageError(f"{path}: there is no such folder or zip of results; see `baseline`")
    with archives.open_zip(path) as archive:

        def reader(member: zipfile.ZipInfo) -> Callable[[], bytes]:
            def read() -> bytes:
                if member.file_size > LARGEST:
                    raise StageError(f"{path}: {name(member.filename)} is too large for results")
                with archives.reading(path, name(member.filename)):
                    return archive.read(member)

            return read

        yield from _choose(path, {m.filename: reader(m) for m in archive.infolist()})


def _choose(path: Path, contents: Mapping[str, Callable[[], bytes]]) -> Iterator[tuple[str, bytes]]:
    files = [PurePosixPath(file) for file in contents if file.endswith(KINDS)]
    if not files:
        raise StageError(
            f"{path}: holds no results: a folder or zip with NAME_perf.json or NAME_accuracy.json "
            "is expected"
        )
    folder = min((file.parent for file in files), key=lambda parent: len(parent.parts))
    for file in files:
        if file.parent == folder:
            yield file.name, contents[str(file)]()


def _parse(kind: type[Figures], path: Path, contents: Mapping[str, bytes]) -> dict[str, Figures]:
    ending = KINDS[0] if kind is Accuracy else KINDS[1]
    figures = {}
    for file, content in contents.items():
        if file.endswith(ending):
            try:
                figures[file.removesuffix(ending)] = kind.parse(content, f"{path}/{file}")
            except StageError as error:
                raise StageError(
                    f"{path}: {name(file)} is not an artifact of this version, so the run cannot "
                    "be a `baseline`"
                ) from error
    return figures


def _compare_row(row: Row, accuracy: Accuracy | None, perf: Perf | None) -> Iterator[Change]:
    if row.accuracy and accuracy:
        yield _compare_ap(row.name, accuracy, row.accuracy)
    if row.perf and perf:
        refusal = _find_refusal(perf, row.perf)
        old, new = perf.throughput, row.perf.throughput
        ranges = _around(old.fps, old.interval), _around(new.fps, new.interval)
        yield _judge(row.name, "images/s", (old.fps, new.fps), ranges, refusal)
        before, after = perf.latency_ms.p50, row.perf.latency_ms.p50
        # The faster the better: the judge's ends change places.
        widths = perf.latency.interval, row.perf.latency.interval
        ranges = _around(-before, widths[0]), _around(-after, widths[1])
        yield _judge(row.name, "p50 ms", (before, after), ranges, refusal)


def _compare_ap(variant: str, old: Accuracy, new: Accuracy) -> Change:
    before, after = old.metrics.AP, new.metrics.AP
    refusal = None
    if old.protocol.label != new.protocol.label:
        refusal = f"another protocol: {old.protocol.label}; now {new.protocol.label}"
    elif before is None or after is None:
        refusal = "there is no AP"
    ranges = _ap_range(old), _ap_range(new)
    return _judge(variant, "AP", (before, after), ranges, refusal)


def _ap_range(accuracy: Accuracy) -> Interval:
    ap, delta = accuracy.metrics.AP or 0.0, accuracy.delta
    if delta is None:
        return ap - SAME_AP, ap + SAME_AP
    return ap + delta.ci95[0] - delta.AP, ap + delta.ci95[1] - delta.AP


def _around(value: float, share: float | None) -> Interval:
    width = abs(value) * (share or 0.0)
    return value - width, value + width


def _find_refusal(old: Perf, new: Perf) -> str | None:
    """Return why two speeds do not compare; None if they do."""
    pairs = {
        "CPU": (old.host.cpu, new.host.cpu),
        "number of cores": (old.host.cores, new.host.cores),
        "number of threads": (old.threads, new.threads),
        "GPU": (old.host.gpu, new.host.gpu),
        "device": (old.device.kind, new.device.kind),
    }
    for what, (before, now) in pairs.items():
        if before != now:
            return f"another host: the {what} was {before}, and is {now}"
    for perf, which in ((old, "the older"), (new, "this")):
        if perf.invalid:
            return f"{which} speed is INVALID: {perf.invalid[0]}"
    return None


def _judge(
    variant: str,
    figure: Literal["AP", "images/s", "p50 ms"],
    values: tuple[float | None, float | None],
    ranges: tuple[Interval, Interval],
    refusal: str | None,
) -> Change:
    (low, high), (new_low, new_high) = ranges
    verdict: Literal["improved", "worse", "within noise", "refused"] = "within noise"
    if refusal:
        verdict = "refused"
    elif new_low > high:
        verdict = "improved"
    elif new_high < low:
        verdict = "worse"
    return Change(
        variant=variant, figure=figure, before=values[0], now=values[1], verdict=verdict,
        reason=refusal,
    )  # fmt: skip
