"""What a stage said when it failed is found in its log, and is fit to be shown."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hrnetpose.artifacts.engine import ENGINE_CARD
from hrnetpose.limits import Limits
from hrnetpose.report import failures, page, rows, table
from hrnetpose.report.failures import Failure, Part, Variant
from hrnetpose.report.page import Report
from hrnetpose.report.rows import Row
from hrnetpose.stage import StageError

MakeRow = Callable[..., Row]
PARTS: tuple[Part, ...] = ("engine", "accuracy", "speed", "parity")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "stage.log"


def failed(name: str, log: Path | None, *parts: Part, model: str = "sample") -> Variant:
    return Variant(
        name=name,
        model=model,
        backend="tensorrt",
        precision="fp16",
        failures=[Failure(part=part, stage="build_engine", log=log) for part in parts or PARTS],
    )


def absent(variant: Variant) -> Row:
    return Row(variant=variant, engine=None, perf=None, accuracy=None)


def test_the_last_error_counts(log: Path) -> None:
    log.write_text("build_engine: error: first\nTraceback\nbuild_engine: error: last\n  a detail\n")

    assert failures.read_reason("build_engine", log) == "last"


def test_an_error_behind_a_long_log_is_found(log: Path) -> None:
    log.write_text("[TRT] verbose\n" * 100_000 + "build_engine: error: no memory\n")

    assert failures.read_reason("build_engine", log) == "no memory"


@pytest.mark.parametrize("content", [b"", b"loading ...\n", b"\xff\xfe\x00 other: error: not mine"])
def test_a_job_that_was_killed_left_no_message(log: Path, content: bytes) -> None:
    log.write_bytes(content)

    reason = failures.read_reason("build_engine", log)

    assert reason == f"no message: it was killed, perhaps for its memory or time; see {log}"


def test_a_job_that_never_started_left_no_log(log: Path) -> None:
    assert "did not start, or it was killed" in failures.read_reason("build_engine", log)


def test_what_was_not_run_says_so() -> None:
    (line,) = failed("trt", None, "speed", "parity").reasons()

    assert line == "no speed, parity: not run, since the run was stopped"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("\x1b[31mred\x1b[0m alert", "red alert"),
        ("\x1b]0;a title\x07\x1b]8;;https://example.org\x1b\\a link", "a link"),
        ("a\x08b\x00c\u202ed", "a\ufffdb\ufffdc\ufffdd"),
        ("half \x1b", "half "),
        ("naïve 人", "naïve 人"),
    ],
)
def test_what_a_terminal_would_act_on_is_not_shown(log: Path, said: str, shown: str) -> None:
    log.write_text(f"build_engine: error: {said}\n")

    assert failures.read_reason("build_engine", log) == shown


def test_a_very_long_reason_is_cut_and_names_its_log(log: Path) -> None:
    log.write_text(f"build_engine: error: {'x' * 50_000}\n")

    reason = failures.read_reason("build_engine", log)

    assert reason.endswith(f"xxx... (see {log})")
    assert len(reason) < 1000


def test_parts_that_lack_for_the_same_reason_are_told_in_one_line(log: Path) -> None:
    log.write_text("build_engine: error: no GPU\n")

    (line,) = failed("trt", log).reasons()

    assert line == "no engine, accuracy, speed, parity: build_engine: no GPU"


def test_a_failed_row_stands_in_the_summary_with_its_reason_above(
    make_row: MakeRow, log: Path
) -> None:
    log.write_text("build_engine: error: no GPU\n")
    rows = [make_row("fp32", ap=0.5), absent(failed("trt", log)), make_row("int8", ap=0.4)]

    heading, reason, _, *lines = table.as_text(rows).splitlines()

    assert heading.startswith("NOT COMPLETE: 1 of 3 rows ")
    assert reason == "  trt: no engine, accuracy, speed, parity: build_engine: no GPU"
    assert [line.split()[0] for line in lines[2:]] == ["fp32", "trt", "int8"]
    assert lines[3].split()[:4] == ["trt", "tensorrt", "fp16", "FAILED"]
    assert "NOT COMPLETE" not in table.as_text([make_row("fp32")])


@pytest.mark.parametrize("part", PARTS[1:])
def test_one_missing_part_leaves_the_others(make_row: MakeRow, log: Path, part: Part) -> None:
    whole = make_row("fp16", fps=123.4, ap=0.6543, drift=0.1)
    field = {"speed": "perf"}.get(part, part)
    row = replace(whole, variant=failed("fp16", log, part), **{field: None})

    line = table.as_text([row]).splitlines()[5]
    text = page.render(Report([row], []))

    assert ("0.6543" in line, "123.4" in line) == (part != "accuracy", part != "speed")
    assert line.count("FAILED") == (part != "parity")
    assert f"no {part}: build_engine: " in text
    for name, there in (("accuracy", "accuracy"), ("speed", "speed"), ("parity", "parity")):
        assert (f'<table id="{name}"' in text) == (there != part)


def test_a_page_of_nothing_but_failures_is_a_page(log: Path) -> None:
    rows = [absent(failed("a", log)), absent(failed("b", None, model="other"))]

    text = page.render(Report(rows, []))

    assert text.count('<tr data-variant="') == 2
    assert "NOT COMPLETE: 2 of 2 rows" in text
    assert "Machine and versions" not in text
    assert table.as_text(rows).count("FAILED") == 4


def test_a_hostile_reason_is_escaped_in_the_page(log: Path) -> None:
    log.write_text("build_engine: error: <script>alert('\x1b[2J')</script> & more\n")

    text = page.render(Report([absent(failed("<b>", log))], []))

    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(&#39;&#39;)&lt;/script&gt; &amp; more" in text
    assert "<b>&lt;b&gt;</b>" in text


def test_figures_that_are_missing_without_a_failure_are_refused(
    make_row: MakeRow, tmp_path: Path
) -> None:
    row = make_row("fp16")
    assert row.engine
    row.engine.write(tmp_path / ENGINE_CARD)

    with pytest.raises(StageError, match="none of the files is of variant 'fp16'"):
        rows.join(None, [tmp_path], [], [], [], {}, Limits(), {})
    (joined,) = rows.join([failed("fp16", None, "speed")], [tmp_path], [], [], [], {}, Limits(), {})
    assert joined.perf is None
    assert joined.engine == row.engine
