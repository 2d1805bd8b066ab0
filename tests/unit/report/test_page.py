"""The page holds all that is known, needs nothing else and trusts no name; see test_browser.py."""

import csv
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from hrnetpose.artifacts.model import Evaluation, MmposeOrigin, ModelCard
from hrnetpose.artifacts.perf import Layer, Perf
from hrnetpose.limits import Limits
from hrnetpose.report import charts, numbers, page, pictures, recommend, stages
from hrnetpose.report.page import Report
from hrnetpose.report.rows import Row
from hrnetpose.report.stages import Stage

MakeRow = Callable[..., Row]
Write = Callable[..., Path]
VOID = {"meta", "img", "br", "link", "input", "hr"}
HOSTILE = (
    '<script>alert("1")</script>',
    "</script><img src=x onerror=alert(1)>",
    'it\'s "quoted" & {{ 7 * 7 }} `${1}`',
    "人物・姿勢 \u202egnp.exe",
    "x" * 200,
    "</style>]]>\u2028--><!--",
)


class Page(HTMLParser):
    """Collects tags, checks that they are closed, and keeps the text of tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.name = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        values = dict(attributes)
        self.attributes += [(key, value or "") for key, value in attributes]
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


def test_the_page_tells_everything_of_scored_variants(
    make_row: MakeRow, model_card: ModelCard, stage: Stage
) -> None:
    rows = [
        make_row("pytorch", fps=50.0, ap=0.6612),
        make_row("fp16", fps=100.0, ap=0.6598, change=-0.0014, executed="fp32", drift=0.0034),
    ]

    text = page.render(Report(rows, [model_card], stages=[stage]))

    parsed = Page(text)
    header, first, second = parsed.tables["variants"]
    assert len(header) == len(first) == len(second)
    assert first[0].startswith("pytorch")
    assert second[0] == "fp16shippaper, openvino"
    assert second[1] == "fp16, ran fp3240 fp32 layers"
    assert second[2:4] == ["0.6598", "\u22120.0014\u22120.0114 to +0.0086"]
    assert "100.0" in second
    assert "--share: 50.0%" in text
    assert "--share: 100.0%" in text
    # Both protocols of both variants, with ten metrics each.
    header, *lines = parsed.tables["accuracy"]
    assert len(lines) == 4
    assert {len(line) for line in lines} == {len(header)}
    assert "gt boxes, flip test, plain" in lines[1]
    assert "0.670" in lines[3]
    assert parsed.tables["stages"][1][2:4] == ["2.34", "5" * 12]
    assert parsed.tables["parity"][1][:3] == ["fp16", "engine", "3.4e-03"]
    for known in ("HRNet + HeatmapHead", "64 x 32", "1.50 million", "0.250 GMAC", "Abacus 3000"):
        assert known in text


def test_the_page_needs_neither_accuracy_nor_parity_nor_pictures(
    make_row: MakeRow, model_card: ModelCard
) -> None:
    untrained = model_card.model_copy(
        update={"origin": MmposeOrigin(config="paper.py", weights_sha256=None)}
    )

    parsed = Page(page.render(Report([make_row("fp16")], [untrained])))

    assert parsed.tables["variants"][1][2:4] == ["\u2013", "\u2013"]
    assert "accuracy" not in parsed.tables
    assert "parity" not in parsed.tables
    assert "img" not in parsed.tags


def test_variants_with_and_without_accuracy_stand_together(
    make_row: MakeRow, model_card: ModelCard
) -> None:
    rows = [make_row("bare"), make_row("fp16", ap=0.5)]

    parsed = Page(page.render(Report(rows, [model_card])))

    assert len(parsed.tables["variants"]) == 3
    assert len(parsed.tables["accuracy"]) == 3


def test_nothing_can_be_loaded_from_elsewhere(make_row: MakeRow, written: Write) -> None:
    rows = [make_row("a", ap=0.5), make_row("b", ap=0.4, change=-0.1)]
    text = (written(rows, pictures=True) / "page.html").read_text()

    addresses = [value for key, value in Page(text).attributes if key in ("src", "href")]

    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import", text.partition("</style>")[0])


def test_each_rule_of_validity_has_its_evidence_and_its_remedy(
    make_row: MakeRow, model_card: ModelCard
) -> None:
    rows = [make_row("a", whole=True), make_row("b", reasons=("latency: too short",))]

    text = page.render(Report(rows, [model_card]))

    tables = Page(text).tables
    assert [line[-1] for line in tables["variants"][1:]] == ["VALID", "INVALID"]
    assert tables["speed"][1][1:7] == ["100.0", "1.5 %", "32", "2", "200.0", "compute"]
    assert {len(line) for line in tables["speed"]} == {len(tables["speed"][0])}
    assert tables["parts"][0][2:] == ["decode ms", "crop ms", "inference ms", "total ms"]
    assert tables["parts"][1] == ["a", "77.7", "1.500", "0.500", "12.000", "14.000"]
    assert tables["sweep"][1:3] == [["a", "8", "2", "25.0"], ["a", "32", "2", "100.0"]]
    assert text.count('class="passed"') == 2 * 4
    assert text.count('class="unknown"') == 2
    assert text.count('class="failed"') == 1
    assert "→ measure again" in text
    assert "not available: no RAPL" in text


def test_the_slowest_layers_are_told_where_a_profiler_tells_them(
    make_row: MakeRow, model_card: ModelCard
) -> None:
    row = make_row("a")
    assert row.perf
    layer = Layer(name="<conv>", kind="Convolution", precision="int8", ms=0.25, share=0.125)
    row.perf.layers = [layer]

    tables = Page(page.render(Report([row, make_row("b")], [model_card]))).tables

    assert tables["layers"][1:] == [["a", "<conv>", "Convolution", "int8", "0.2500", "12.5 %"]]


def test_names_are_escaped_wherever_they_stand(make_row: MakeRow, written: Write) -> None:
    rows = [
        make_row(
            name, ap=0.5, change=-0.01 * place, cpu=name, fps=100 + place, drift=0.1, whole=True
        )
        for place, name in enumerate(HOSTILE)
    ]
    folder = written(rows, pictures=True, dataset=HOSTILE[0], own_limits={HOSTILE[1]: {"fps": 9.0}})
    text = (folder / "page.html").read_text()

    parsed = Page(text)

    assert parsed.tags.count("script") == 4
    assert not [key for key, _ in parsed.attributes if key.startswith("on")]
    for name in HOSTILE[:2]:
        assert name not in text
    blob = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert blob
    found = json.loads(blob[1])
    assert [one["name"] for one in found["candidates"]] == list(HOSTILE)
    markdown = (folder / "summary.md").read_text()
    assert "<script" not in markdown.replace("\\<", "")
    assert len({line.count(" | ") for line in markdown.splitlines() if line[:1] == "|"}) == 1


def test_a_chart_of_hostile_names_is_svg_without_a_script(make_row: MakeRow) -> None:
    rows = [make_row(name, ap=0.5, fps=9.0 + place) for place, name in enumerate(HOSTILE)]

    for spec in charts.draw_all(rows, Limits(), {}, {}).values():
        parsed = Page(charts.draw_svg(spec))
        assert "script" not in parsed.tags
        assert "img" not in parsed.tags
        assert not [key for key, _ in parsed.attributes if key.startswith("on")]


def test_a_spreadsheet_is_given_no_formula(make_row: MakeRow, written: Write) -> None:
    folder = written([make_row("=1+1", ap=0.5), make_row("plain", ap=0.4, change=-0.1)])

    with (folder / "results.csv").open(newline="") as file:
        first, second = csv.DictReader(file)

    assert first["variant"] == "'=1+1"
    perf = json.loads((folder / "results/1_perf.json").read_text())
    accuracy = json.loads((folder / "results/1_accuracy.json").read_text())
    assert float(second["images_per_s"]) == perf["throughput"]["fps"]
    assert float(second["change_low"]) == accuracy["delta"]["ci95"][0]
    assert float(second["p99_ms"]) == perf["latency_ms"]["p99"]


def test_what_is_to_be_known_stands_at_the_top_once(
    make_row: MakeRow, model_card: ModelCard, written: Write
) -> None:
    rows = [
        make_row("a", reasons=("latency: too short",)),
        make_row("b", cpu="Slide rule", executed="fp32"),
        make_row("c", drift=1e-3),
        make_row("d", drift=0.8, cosine=0.31),
    ]
    told = model_card.model_copy(update={"notes": ["indices is <3>"]})
    folder = written(rows)
    told.write(folder / "model/model.json")

    text = (written(rows, models=[folder / "model"]) / "page.html").read_text()

    warnings = re.search(r'<details id="warnings".*?</details>', text, re.DOTALL)
    assert warnings
    for known in (
        "a is INVALID: latency: too short",
        "the benchmarks ran on different machines: Abacus 3000, Slide rule",
        "b: asked for fp16, ran fp32",
        "d: its engine does not compute what it was built from: the cosine of its outputs with the"
        " original&#39;s is 0.310, that of the stage before (original) 1.000",
    ):
        assert warnings[0].count(known) == 1
    assert "c: " not in warnings[0]


def test_a_published_figure_stands_beside_its_own_protocol_only(
    make_row: MakeRow, model_card: ModelCard
) -> None:
    figures = {"gt+flip": {"AP": 0.683, "fps": 1831.2}, "det+flip": {"AP": 0.749}}
    row = replace(make_row("fp16", ap=0.5), published=figures)

    shown = Page(page.render(Report([row], [model_card]))).tables["accuracy"]

    column = shown[0].index("published")
    protocols = {line[1].rpartition(", ")[0]: line[column] for line in shown[1:]}
    assert protocols == {
        "gt boxes, no flip": numbers.MISSING,
        "gt boxes, flip test": "AP 0.683, images/s 1831.2",
    }


def relabelled(row: Row, label: str) -> Row:
    assert row.accuracy is not None
    protocol = row.accuracy.protocol.model_copy(update={"label": label})
    return replace(row, accuracy=row.accuracy.model_copy(update={"protocol": protocol}))


def test_rows_of_different_protocols_are_told_apart(
    make_row: MakeRow, model_card: ModelCard
) -> None:
    one = make_row("one", ap=0.5, precision="fp32")
    other = relabelled(make_row("other", ap=0.6, precision="fp32"), "another protocol")

    both = page.render(Report([one, other], [model_card]))

    assert "rows of different letters do not compare" in both
    assert "b: another protocol." in both
    assert "Not shown, since their AP does not compare: other." in both
    cells = [line[2] for line in Page(both).tables["variants"][1:]]
    assert cells == ["0.5000a", "0.6000b"]
    assert "do not compare" not in page.render(Report([one], [model_card]))


def test_how_a_model_is_evaluated_is_shown(make_row: MakeRow, model_card: ModelCard) -> None:
    evaluation = Evaluation(nms_mode="none", use_area=False)
    told = model_card.model_copy(update={"evaluation": evaluation})

    assert "no NMS, areas of the boxes, as the config says" in page.render(
        Report([make_row("fp32")], [told])
    )


def plotted(rows: list[Row], limits: Limits | None = None) -> dict[str, Any]:
    spec = charts.draw_all(rows, limits or Limits(), {}, {})["plot"]
    layers = {
        layer.get("data", {}).get("name"): layer["data"]["values"]
        for layer in spec["layer"]
        if "data" in layer
    }
    return {"rows": spec["data"]["values"], **layers}


def test_the_front_joins_only_what_can_be_told_apart(make_row: MakeRow) -> None:
    rows = [
        make_row("slow", ap=0.70, fps=50.0),
        make_row("like_slow", ap=0.70, change=-0.001, fps=60.0),
        make_row("noise", ap=0.695, change=-0.005, fps=100.0),
        make_row("equally_fast", ap=0.5, change=-0.2, fps=201.0),
        make_row("better", ap=0.6, change=-0.1, fps=200.0),
        make_row("unbelieved", ap=0.7, change=0.0, fps=900.0, reasons=("short",)),
        make_row("fast", ap=0.4, change=-0.3, fps=400.0),
    ]
    drawn = plotted(rows)

    # Each interval is 0.01 wide to either side, and 1.5 % of the images/s.
    assert [value["variant"] for value in drawn["front"]] == ["fast", "better", "noise"] or sorted(
        value["variant"] for value in drawn["front"]
    ) == ["better", "fast", "noise"]
    assert {value["variant"]: value["valid"] for value in drawn["rows"]}["unbelieved"] is False


def test_the_band_is_the_allowed_loss_and_the_bars_are_the_intervals(make_row: MakeRow) -> None:
    rows = [
        make_row("a", ap=0.7, precision="fp32"),
        make_row("b", ap=0.68, change=-0.02, fps=200.0),
    ]

    drawn = plotted(rows, Limits(ap_drop=0.03))

    assert drawn["bands"] == [{"top": 0.0, "bottom": -0.03}]
    second = drawn["rows"][1]
    assert (second["low"], second["high"]) == pytest.approx((-0.03, -0.01))
    assert (second["fps_low"], second["fps_high"]) == pytest.approx((197.0, 203.0))
    assert plotted(rows, Limits(ap_drop=None))["bands"] == []


def test_several_models_stand_over_their_ap(make_row: MakeRow) -> None:
    other = make_row("large", ap=0.75, fps=20.0)
    other = replace(other, variant=other.variant.model_copy(update={"model": "large"}))

    drawn = plotted([make_row("small", ap=0.6), other])

    assert [value["height"] for value in drawn["rows"]] == [0.6, 0.75]


def test_pictures_begin_with_the_worst_and_stay_within_their_budget(
    make_row: MakeRow, written: Write, tmp_path: Path
) -> None:
    rows = [make_row("ref", ap=0.6), make_row("int8", ap=0.5, change=-0.1, fps=200.0)]
    rows[1].accuracy.delta.reference = "ref"
    folder = written(rows, pictures=True)
    predictions = sorted(folder.glob("predictions/*/*.npz"))
    annotations, images = folder / "annotations.npz", folder / "images"

    reference, int8 = pictures.draw(rows, predictions, annotations, images)
    (_, small) = pictures.draw(rows, predictions, annotations, images, budget=1)

    assert (reference.before, int8.before) == ("annotated", "ref")
    assert [round(pair.oks, 1) for pair in int8.worst] == [0.4, 0.5, 0.6, 0.7]
    assert int8.worst[0].image == "3 'a' <b>.png"
    assert {pair.reference for pair in int8.worst} == {0.95}
    assert len(int8.typical) == 2
    assert (len(small.worst), small.left_out) == (0, 6)


def test_a_person_whose_oks_did_not_fall_is_not_among_the_worst(
    make_row: MakeRow, written: Write
) -> None:
    row = make_row("int8", ap=0.5, change=0.0)
    assert row.accuracy
    for result in row.accuracy.protocols:
        assert result.keypoints
        for person in result.keypoints.worst:
            person.reference = person.oks + 0.0004

    text = (written([make_row("pytorch", ap=0.5), row], pictures=True) / "page.html").read_text()

    shown = text.partition("int8: worst against pytorch")[2].partition("int8: typical")[0]
    assert "No person's OKS falls by 0.0005 or more." in shown
    assert "<img" not in shown


def test_a_percentile_needs_its_requests(make_row: MakeRow, model_card: ModelCard) -> None:
    few, many = make_row("few"), make_row("many")
    assert many.perf
    many.perf.latency.samples = 1000

    tables = Page(page.render(Report([few, many], [model_card]))).tables

    place = tables["speed"][0].index("p99.9 ms")
    assert [line[place] for line in tables["speed"][1:]] == ["\u2013", "19.50"]


def test_the_roofline_is_the_best_of_a_precision_and_invalid_marks_are_hollow(
    make_row: MakeRow,
) -> None:
    rows = [make_row("a", fps=100.0), make_row("b", fps=200.0, reasons=("latency: short",))]

    roofs, marks = charts.draw_all(rows, Limits(), {}, {})["roofline"]["layer"]

    assert len({value["roof"] for value in roofs["data"]["values"]}) == 1
    assert max(value["rate"] for value in roofs["data"]["values"]) == 200.0
    assert marks["encoding"]["fill"]["condition"]["test"] == "!datum.valid"


def test_what_was_given_to_snakemake_and_how_long_stages_took_is_told(
    make_row: MakeRow, written: Write, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    for name, text in {
        "build_engine/fp16.log": "x\nfinished 2026-11-26T20:00:00+00:00 after 1.5 s\n",
        "build_engine/another.log": "finished 2026-11-26T20:00:00+00:00 after 99.0 s\n",
        "predict_keypoints/fp16_gt_1-of-2.log": "finished 2026-11-26T20:01:00+00:00 after 2.0 s\n",
        "predict_keypoints/fp16_gt_2-of-2.log": "finished 2026-11-26T20:02:00+00:00 after 2.5 s\n",
        "benchmark_engine/fp16.log": "benchmark_engine: error: no\n",
    }.items():
        (logs / name).parent.mkdir(parents=True, exist_ok=True)
        (logs / name).write_text(text)
    made = tmp_path / "run.json"
    made.write_text(json.dumps({"command": "snakemake <x>", "configuration": {"run": "y"}}))

    timings = stages.read_timings(logs, None, ["fp16"])
    text = (written([make_row("fp16")], logs=logs, made=made) / "page.html").read_text()

    assert list(timings) == ["engines", "measurements"]
    assert [
        (one.rule, one.jobs, one.seconds, one.last[11:16]) for one in timings["measurements"]
    ] == [("predict_keypoints", 2, 4.5, "20:02")]
    assert "predict_keypoints \u00d7 2" in text
    assert "snakemake &lt;x&gt;" in text


def test_the_recommendation_is_one_everywhere(make_row: MakeRow, written: Write) -> None:
    rows = [make_row("slow", ap=0.7), make_row("fast", ap=0.7, change=-0.001, fps=200.0)]
    folder = written(rows)

    (answer,) = json.loads((folder / "verdicts.json").read_text())["recommendations"]

    assert answer["variant"] == "fast"
    assert answer["text"] in (folder / "summary.txt").read_text()
    assert (
        f"<strong>Ship fast:</strong>{answer['text'][len('Ship fast:') :]}"
        in (folder / "page.html").read_text()
    )
    assert "**Ship fast: " in (folder / "summary.md").read_text()


def test_the_page_has_a_size_that_can_be_mailed(make_row: MakeRow, written: Write) -> None:
    rows = [
        make_row(f"variant_{number}", ap=0.5, change=-number / 1000, fps=100.0 + number, drift=0.1)
        for number in range(40)
    ]
    assert (written(rows, pictures=True) / "page.html").stat().st_size < 8_000_000


def test_every_perf_of_an_older_run_can_be_read(make_row: MakeRow) -> None:
    """The rules that were kept are new in the artifact; a baseline has only those broken."""
    perf = make_row("a").perf
    assert perf
    content = json.loads(perf.model_dump_json(by_alias=True))
    del content["validity"]["checks"]

    assert Perf.parse(json.dumps(content).encode(), "old").invalid == []
    assert recommend.of_rows([make_row("a")], {})[0].invalid is None
