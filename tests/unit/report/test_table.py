"""The summary for a terminal is complete and in columns."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from hrnetpose.artifacts.accuracy import Delta
from hrnetpose.artifacts.verdicts import Verdict
from hrnetpose.report import numbers, table
from hrnetpose.report.failures import Failure
from hrnetpose.report.rows import Row

MakeRow = Callable[..., Row]


def test_every_row_has_all_of_its_figures(make_row: MakeRow) -> None:
    text = table.as_text([make_row("fp16", fps=123.45, ap=0.6543, change=-0.0021)])

    header, _, line = text.splitlines()
    assert header.split()[:4] == ["variant", "backend", "precision", "AP"]
    assert line.split()[:4] == ["fp16", "openvino", "fp16", "0.6543"]
    for figure in (
        "\u22120.0021 [\u22120.0121, +0.0079]",
        "123.5",
        "11.50",
        "17.25",
        "50 %",
        "3.5",
    ):
        assert figure in line
    assert line.split()[-2:] == ["VALID", "3.5"]


def test_the_columns_are_aligned(make_row: MakeRow) -> None:
    rows = [
        make_row("fp16", fps=3.0, ap=0.5, change=0.01),
        make_row("a_variant_with_a_long_name", fps=12345.6),
        make_row("int8", executed="bf16", ap=0.25),
    ]

    header, rule, *lines = table.as_text(rows).splitlines()

    ends = [index for index, (a, b) in enumerate(zip(rule, rule[1:] + " ", strict=True))
            if a == "-" and b == " "]  # fmt: skip
    assert len(lines) == len(rows)
    assert len(ends) == 11
    for line in (header, *lines):
        assert len(line) <= len(rule)
        padded = line.ljust(len(rule))
        for end in ends[:-1]:
            assert padded[end + 1 : end + 3] == "  "
        # From the fourth column on, figures end where their column ends.
        for end in ends[3:]:
            assert padded[end] != " "


def test_a_missing_figure_is_a_dash(make_row: MakeRow) -> None:
    line = table.as_text([make_row("fp16")]).splitlines()[2]

    assert line.split()[3:5] == ["\u2013", "\u2013"]


def test_an_engine_that_is_far_from_its_graph_is_told(make_row: MakeRow) -> None:
    text = table.as_text([make_row("near", drift=0.1), make_row("far", drift=0.8, cosine=0.31)])

    assert "engines:\n  far: its engine does not compute what it was built from: " in text
    assert "near: " not in text


def test_another_precision_than_asked_for_is_told(make_row: MakeRow) -> None:
    assert make_row("fp16").precision == "fp16"
    assert make_row("fp16", executed="fp32").precision == "fp16, ran fp32"


def test_the_fastest_row_is_that_with_the_highest_throughput(make_row: MakeRow) -> None:
    rows = [make_row("a", fps=1), make_row("b", fps=3), make_row("c", fps=2)]

    assert table.fastest(rows).name == "b"


@pytest.mark.parametrize(
    ("value", "digits", "sign", "text"),
    [
        (0.12345, 4, False, "0.1235"),
        (-0.5, 1, False, "\u22120.5"),
        (0.5, 2, True, "+0.50"),
        (-0.5, 2, True, "\u22120.50"),
        (None, 4, True, "\u2013"),
        (0, 1, False, "0.0"),
    ],
)  # fmt: skip
def test_figures_are_written_with_a_true_minus(
    value: float | None, digits: int, sign: bool, text: str
) -> None:
    assert numbers.number(value, digits, sign) == text


def test_a_change_is_written_with_its_interval() -> None:
    delta = Delta(reference="r", AP=-0.01, ci95=(-0.02, 0.0), verdict="worse", resamples=10)

    assert table.interval(delta) == "\u22120.0100 [\u22120.0200, +0.0000]"
    assert table.interval(None) == "\u2013"


def test_figures_that_cannot_be_believed_say_so_with_their_reasons(make_row: MakeRow) -> None:
    rows = [make_row("a"), make_row("b", reasons=("latency: too short", "throughput: unstable"))]

    text = table.as_text(rows)

    assert text.splitlines()[3].split()[-2] == "INVALID"
    assert text.count("INVALID") == 1
    assert "speed that cannot be believed:\n  b: latency: too short; throughput: unstable\n" in text


def test_a_figure_that_does_not_add_up_is_invalid_whatever_the_file_says(make_row: MakeRow) -> None:
    row = make_row("a", fps=100.0)
    perf = row.perf.model_copy(update={"batch": 1024})

    assert row.perf.invalid == []
    assert perf.invalid == [
        "batch arithmetic: 50 batches of 1024 are 51200 images, but 1600 came back"
    ]


def verdict(text: str | None) -> Verdict:
    return Verdict(
        variant="fp16", precision="fp16", pays=None, compared_with=None, speedup=None, text=text
    )


def test_what_is_to_be_said_of_a_precision_is_said(make_row: MakeRow) -> None:
    text = table.as_text([make_row("fp16", verdict=verdict("fp16 on this CPU: no native units"))])

    assert "precisions:\n  fp16: fp16 on this CPU: no native units\n" in text
    assert "precisions:" not in table.as_text([make_row("fp16", verdict=verdict(None))])


def test_what_was_disturbed_is_told_though_the_figure_is_valid(make_row: MakeRow) -> None:
    row = make_row("fp16")
    (last,) = row.perf.attempts
    first, second = (
        last.model_copy(update={"disturbed": reasons})
        for reasons in (["others took 0.5 of 2 CPUs", "steal"], ["others took 0.7 of 2 CPUs"])
    )
    perf = row.perf.model_copy(update={"attempts": [first, second, last]})

    text = table.as_text([replace(row, perf=perf)])

    assert text.splitlines()[2].split()[-2] == "VALID"
    assert (
        f"{table.DISTURBED}:\n  fp16: latency (2 of 3): others took 0.5 of 2 CPUs; steal\n" in text
    )
    assert table.DISTURBED not in table.as_text([row])


def test_models_with_different_decoders_compare(make_row: MakeRow) -> None:
    """How a model is decoded is a part of it: HRNet's AP compares with RTMPose's."""
    one, other = make_row("one", ap=0.5), make_row("other", ap=0.6)
    rows = []
    for row, decode in ((one, "dark"), (other, "simcc")):
        assert row.accuracy is not None
        update = {"decode": decode, "label": f"gt boxes, no flip, {decode} decoding, few"}
        protocol = row.accuracy.protocol.model_copy(update=update)
        rows.append(replace(row, accuracy=row.accuracy.model_copy(update={"protocol": protocol})))

    assert table.labels(rows) == {}
    assert table.headline(rows) == "gt boxes, no flip, few"
    assert table.headline(rows[:1]) == "gt boxes, no flip, dark decoding, few"


def test_markdown_names_failures_as_they_are(make_row: MakeRow) -> None:
    row = make_row("a_b")
    failed = row.variant.model_copy(update={"failures": [Failure(part="speed")]})

    text = table.as_markdown([replace(row, variant=failed, perf=None)], [], None, {})

    assert "1 failure:" in text
    assert "- **a\\_b**: no speed" in text


def test_figures_of_different_protocols_are_told_apart(make_row: MakeRow) -> None:
    one, other = make_row("one", ap=0.5), make_row("other", ap=0.6)
    assert other.accuracy is not None
    protocol = other.accuracy.protocol.model_copy(update={"label": "another protocol"})
    accuracy = other.accuracy.model_copy(update={"protocol": protocol})
    other = replace(other, accuracy=accuracy)

    text = table.as_text([one, other])

    assert "0.5000 a" in text
    assert "0.6000 b" in text
    assert "AP of different protocols, which do not compare:" in text
    assert "  b: another protocol" in text
    assert "which do not compare" not in table.as_text([one, one])
