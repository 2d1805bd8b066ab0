"""The page holds all that is known, needs nothing else and trusts no name."""

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from hrnetpose.artifacts.model import Evaluation, MmposeOrigin, ModelCard
from hrnetpose.report import drawing, numbers, page
from hrnetpose.report.pictures import Picture
from hrnetpose.report.rows import Row
from hrnetpose.report.stages import Stage

MakeRow = Callable[..., Row]
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects tags, checks that they are closed, and keeps the text of tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.name = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        values = dict(attributes)
        self.addresses += [values[key] or "" for key in ("src", "href") if key in values]
        if tag == "table":
            self.name = values["id"] or ""
            self.tables[self.name] = []
        elif tag == "tr":
            self.tables[self.name].append([])
        elif tag in ("td", "th"):
            self.tables[self.name][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            self.tables[self.name][-1][-1] += data.strip()


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    (tmp_path / "model.onnx").write_bytes(bytes(2_340_000))
    return Stage("export", tmp_path / "model.onnx", "5" * 64, "opset 17")


@pytest.fixture
def picture() -> Picture:
    return Picture("a.jpg", [("true", drawing.data_url(np.zeros((4, 4, 3), np.uint8)))])


def test_the_page_tells_everything_of_scored_variants(
    make_row: MakeRow, model_card: ModelCard, stage: Stage, picture: Picture
) -> None:
    rows = [
        make_row("pytorch", fps=50.0, ap=0.6612),
        make_row("fp16", fps=100.0, ap=0.6598, change=-0.0014, executed="fp32", drift=0.0034),
    ]

    text = page.render(rows, [model_card], [stage], [picture])

    parsed = Page(text)
    header, first, second = parsed.tables["variants"]
    assert len(header) == len(first) == len(second)
    assert first[0] == "pytorch"
    assert second[:5] == ["fp16", "paper", "openvino", "fp16, ran fp32", "0.6598"]
    assert "\u22120.0014" in second[5]
    assert "100.0" in second
    assert "--share: 50.0%" in text
    assert "--share: 100.0%" in text
    # Both protocols of both variants, with ten metrics each.
    header, *lines = parsed.tables["accuracy"]
    assert len(lines) == 4
    assert {len(line) for line in lines} == {len(header)}
    assert "gt boxes, flip test, plain" in lines[1]
    assert "0.6698" in lines[3]
    assert parsed.tables["stages"][1][2:4] == ["2.34", "5" * 12]
    assert parsed.tables["parity"][1][:3] == ["fp16", "engine", "3.4e-03"]
    for known in ("HRNet + HeatmapHead", "64 x 32", "1.50 million", "0.250 GMAC", "Abacus 3000"):
        assert known in text
    assert parsed.tags.count("img") == 1


def test_the_page_needs_neither_accuracy_nor_parity_nor_pictures(
    make_row: MakeRow, model_card: ModelCard
) -> None:
    untrained = model_card.model_copy(
        update={"origin": MmposeOrigin(config="paper.py", weights_sha256=None)}
    )

    parsed = Page(page.render([make_row("fp16")], [untrained], [], []))

    assert parsed.tables["variants"][1][4:6] == ["\u2013", "\u2013"]
    assert "accuracy" not in parsed.tables
    assert "parity" not in parsed.tables
    assert "img" not in parsed.tags


def test_variants_with_and_without_accuracy_stand_together(
    make_row: MakeRow, model_card: ModelCard
) -> None:
    rows = [make_row("bare"), make_row("fp16", ap=0.5)]

    parsed = Page(page.render(rows, [model_card], [], []))

    assert len(parsed.tables["variants"]) == 3
    assert len(parsed.tables["accuracy"]) == 3


def test_the_page_loads_nothing_from_elsewhere(
    make_row: MakeRow, model_card: ModelCard, stage: Stage, picture: Picture
) -> None:
    text = page.render([make_row("fp16", ap=0.5)], [model_card], [stage], [picture])

    parsed = Page(text)
    assert parsed.addresses
    assert all(address.startswith(("data:", "#")) for address in parsed.addresses)
    assert not {"script", "link", "iframe"} & set(parsed.tags)
    assert not re.search(r"url\(|@import|https?://", text)


def test_speed_is_told_with_its_validity_its_limit_and_its_parts(
    make_row: MakeRow, model_card: ModelCard
) -> None:
    rows = [make_row("a", whole=True), make_row("b", reasons=("latency: too short",))]

    text = page.render(rows, [model_card], [], [])

    tables = Page(text).tables
    assert [line[:2] for line in tables["speed"][1:]] == [["a", "VALID"], ["b", "INVALID"]]
    assert tables["speed"][1][2:8] == ["100.0", "1.5 %", "32", "2", "200.0", "compute"]
    assert {len(line) for line in tables["speed"]} == {len(tables["speed"][0])}
    assert tables["parts"][0][2:] == ["decode ms", "crop ms", "inference ms", "total ms"]
    assert tables["parts"][1] == ["a", "77.7", "1.500", "0.500", "12.000", "14.000"]
    assert tables["sweep"][1:3] == [["a", "8", "2", "25.0"], ["", "32", "2", "100.0"]]
    assert "b is INVALID</b>: latency: too short." in text
    assert "not available: no RAPL" in text


def test_names_are_escaped(make_row: MakeRow, model_card: ModelCard, stage: Stage) -> None:
    bad = '<script>alert("1")</script>'
    model = model_card.model_copy(
        update={
            "name": bad,
            "origin": MmposeOrigin(config=bad, weights_sha256=None),
            "architecture": bad,
        }
    )
    note = Stage(bad, stage.file, stage.sha256, bad)
    pictures = [Picture(bad, [(bad, "data:image/jpeg;base64,")])]

    text = page.render([make_row(bad, ap=0.5, cpu=bad)], [model], [note], pictures)

    assert "script" not in Page(text).tags
    assert text.count("&lt;script&gt;") >= 8
    assert 'alt="<' not in text


def test_benchmarks_of_different_machines_are_told_apart(
    make_row: MakeRow, model_card: ModelCard
) -> None:
    warning = "The benchmarks ran on different machines"
    same = [make_row("a"), make_row("b")]
    other = [make_row("a"), make_row("b", cpu="Slide rule")]

    assert warning not in page.render(same, [model_card], [], [])
    assert f"{warning}: Abacus 3000, Slide rule" in page.render(other, [model_card], [], [])


def test_a_published_figure_stands_beside_its_own_protocol_only(
    make_row: MakeRow, model_card: ModelCard
) -> None:
    figures = {"gt+flip": {"AP": 0.683, "fps": 1831.2}, "det+flip": {"AP": 0.749}}
    row = replace(make_row("fp16", ap=0.5), published=figures)

    shown = Page(page.render([row], [model_card], [], [])).tables["accuracy"]

    column = shown[0].index("published")
    protocols = {line[1].rpartition(", ")[0]: line[column] for line in shown[1:]}
    assert protocols == {
        "gt boxes, no flip": numbers.MISSING,
        "gt boxes, flip test": "AP 0.683, images/s 1831.2",
    }


def test_rows_of_different_protocols_are_told_apart(
    make_row: MakeRow, model_card: ModelCard
) -> None:
    one, other = make_row("one", ap=0.5), make_row("other", ap=0.6)
    assert other.accuracy is not None
    protocol = other.accuracy.protocol.model_copy(update={"label": "another protocol"})
    other = replace(other, accuracy=other.accuracy.model_copy(update={"protocol": protocol}))

    both = page.render([one, other], [model_card], [], [])

    assert "rows of different letters do not compare" in both
    assert "b: another protocol." in both
    cells = [line[4] for line in Page(both).tables["variants"][1:]]
    assert cells == ["0.5000a", "0.6000b"]
    assert "do not compare" not in page.render([one], [model_card], [], [])


def test_a_warning_of_a_stage_and_what_a_config_has_without_effect_are_shown(
    make_row: MakeRow, model_card: ModelCard, tmp_path: Path
) -> None:
    (tmp_path / "simplified.onnx").write_bytes(b"x")
    kept = Stage("simplify", tmp_path / "simplified.onnx", "5" * 64, "kept & why", warning=True)
    evaluation = Evaluation(nms_mode="none", use_area=False)
    told = model_card.model_copy(update={"notes": ["indices is <3>"], "evaluation": evaluation})

    shown = page.render([make_row("fp32")], [told], [kept], [])

    assert '<td class="worse">kept &amp; why</td>' in shown
    assert '<dd class="worse">indices is &lt;3&gt;</dd>' in shown
    assert "no NMS, areas of the boxes, as the config says" in shown
    plain = page.render([make_row("fp32")], [model_card], [replace(kept, warning=False)], [])
    assert "as the config says" not in plain
    assert "<td>kept &amp; why</td>" in plain
