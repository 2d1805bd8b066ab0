"""The page in a real browser: `pytest -m browser`, with Debian's chromium."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hrnetpose.limits import Limits
from hrnetpose.report import numbers
from hrnetpose.report.failures import Failure
from hrnetpose.report.rows import Row

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser

MakeRow = Callable[..., Row]
Write = Callable[..., Path]
Open = Callable[..., Any]
CASES = json.loads((Path(__file__).parent / "recommendations.json").read_text())
RULE = Path(__file__).parents[3] / "workflow_scripts/hrnetpose/report/templates/recommend.js"
CHARTS = {"plot", "joints", "oks", "precision", "drift", "latency", "sweep", "parts", "roofline"}


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("needs chromium: apt-get install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Open a file; a message on the console or a request fails the test."""
    heard: list[str] = []
    contexts = []

    def open_file(path: Path, width: int = 1400, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        context.set_default_timeout(120_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: heard.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: heard.append(f"error: {error}"))
        page.on(
            "request",
            lambda asked: (
                None if asked.url.startswith(("file:", "data:")) else heard.append(asked.url)
            ),
        )
        page.goto(path.as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert heard == []


def see_all(page: Any) -> None:
    """Scroll through the page, so that all charts are drawn."""
    for figure in page.query_selector_all("figure[data-chart]"):
        figure.scroll_into_view_if_needed()
        page.wait_for_selector(
            f"figure[data-chart={figure.get_attribute('data-chart')}].drawn .live svg"
        )


@pytest.fixture
def rows(make_row: MakeRow) -> list[Row]:
    """A reference, one as accurate, one that loses, one that is INVALID."""
    plain = {"drift": 0.1, "whole": True}
    rows = [
        make_row(
            "pytorch", ap=0.7, fps=50.0, backend="pytorch", precision="fp32", executed="fp32",
            **plain,
        ),
        make_row("fp16", ap=0.699, change=-0.001, fps=100.0, **plain),
        make_row(
            "int8", ap=0.66, change=-0.04, fps=400.0, precision="int8", executed="int8", **plain
        ),
        make_row(
            "bf16", ap=0.698, change=-0.002, fps=500.0, precision="bf16",
            reasons=("latency: short",), **plain,
        ),
    ]  # fmt: skip
    return rows


@pytest.fixture
def report(rows: list[Row], written: Write) -> Path:
    return written(rows, pictures=True) / "page.html"


def fill(page: Any, name: str, value: str) -> None:
    page.fill(f"#limits input[name={name}]", value)


def test_the_rule_is_that_of_python(open_page: Open, tmp_path: Path) -> None:
    path = tmp_path / "rule.html"
    path.write_text(f"<!doctype html><meta charset=utf-8><script>{RULE.read_text()}</script>")
    page = open_page(path)

    for case in CASES:
        limits = Limits(**case["limits"]).model_dump()
        found = page.evaluate(
            "([candidates, limits]) => recommend(candidates, limits)", [case["candidates"], limits]
        )
        for one in found:
            del one["models"]
        assert found == case["expected"], case["name"]


@pytest.mark.parametrize(
    "value", [0.0, 0.125, -0.125, 2.5, 1e-9, -1e-9, 17.25, 0.00005, 123456.75, 1 / 3]
)
def test_numbers_are_written_as_in_python(open_page: Open, tmp_path: Path, value: float) -> None:
    path = tmp_path / "rule.html"
    path.write_text(f"<!doctype html><meta charset=utf-8><script>{RULE.read_text()}</script>")
    page = open_page(path)

    found = page.evaluate(
        "(v) => [...[0, 1, 2, 4].map((n) => number(v, n)), number(v, 2, true), plain(v)]", value
    )

    assert found == [
        *(numbers.number(value, digits) for digits in (0, 1, 2, 4)),
        numbers.number(value, 2, sign=True),
        numbers.plain(value),
    ]


def test_all_charts_are_drawn_live(open_page: Open, report: Path) -> None:
    page = open_page(report)

    see_all(page)

    drawn = page.eval_on_selector_all(
        "figure.drawn", "figures => figures.map((one) => one.dataset.chart)"
    )
    assert set(drawn) == CHARTS
    assert page.is_hidden("figure[data-chart=plot] .static")


def test_sentence_table_and_plot_follow_the_limits(open_page: Open, report: Path) -> None:
    page = open_page(report)
    see_all(page)
    assert page.text_content("#answers").startswith("Ship fp16:")
    assert "loses 0.0400 AP, 0.0300 more than 0.01" in page.text_content("tr[data-variant=int8]")

    fill(page, "ap_drop", "0.05")
    assert page.text_content("#answers").startswith("Ship int8:")
    assert page.is_visible("tr[data-variant=int8] .ship")
    assert "outside" not in page.get_attribute("tr[data-variant=int8]", "class")
    drawn = page.evaluate(
        "async () => { await views.plot.runAsync(); return [views.plot.data('bands'),"
        " views.plot.data('rows').filter((one) => one.outside).map((one) => one.variant)]; }"
    )
    assert [drawn[0][0]["bottom"], drawn[1]] == [-0.05, ["bf16"]]

    fill(page, "fps", "1000")
    answer = page.text_content("#answers")
    assert answer.startswith("No variant is within the limits. The nearest is int8: ")
    assert answer.endswith("400.0 images/s, 600.0 fewer than 1000.")
    fill(page, "fps", "")
    fill(page, "latency_p99_ms", "17")
    assert "p99 17.25 ms, 0.25 ms more than 17" in page.text_content("tr[data-variant=fp16]")
    page.click("#limits button")
    page.wait_for_function("document.getElementById('answers').textContent.startsWith('Ship fp16')")


def test_a_click_selects_a_variant_everywhere(open_page: Open, report: Path) -> None:
    page = open_page(report)
    see_all(page)

    page.click("button.pick[data-variant=int8]")

    assert page.get_attribute("button.pick[data-variant=int8]", "aria-pressed") == "true"
    assert "selected" in page.get_attribute("#speed tr[data-variant=int8]", "class")
    assert page.evaluate("Object.values(views).every((view) => view.signal('selected') === 'int8')")
    assert page.is_visible("section.people[data-variant=int8]")
    assert page.is_hidden("section.people[data-variant=fp16]")
    assert page.eval_on_selector("details.audit[data-variant=int8]", "one => one.open")
    # The mark in the plot does the same, and once more takes it back.
    place = page.evaluate(
        "() => { const marks = [...document.querySelectorAll('figure[data-chart=plot] .live"
        " .mark-symbol path')]; const box = marks[1].getBoundingClientRect();"
        " return [box.x + box.width / 2, box.y + box.height / 2]; }"
    )
    page.evaluate("scrollTo(0, 0)")
    place = page.evaluate(
        "() => { const box = [...document.querySelectorAll('figure[data-chart=plot] .live"
        " .mark-symbol path')][1].getBoundingClientRect();"
        " return [box.x + box.width / 2, box.y + box.height / 2]; }"
    )
    page.mouse.click(*place)
    page.wait_for_function("selected === 'fp16'")
    page.click("button.pick[data-variant=fp16]")
    assert page.evaluate("selected") is None


def test_the_page_is_worked_by_keyboard(open_page: Open, report: Path) -> None:
    page = open_page(report)

    page.focus("button.pick[data-variant=int8]")
    page.keyboard.press("Enter")
    assert page.evaluate("selected") == "int8"
    page.focus("#variants thead th:nth-child(5) button")
    page.keyboard.press("Space")
    assert page.get_attribute("#variants thead th:nth-child(5)", "aria-sort") == "descending"
    page.focus("section.people:not([hidden]) .pair input")
    page.keyboard.press("End")
    cut = "one => getComputedStyle(one).getPropertyValue('--cut')"
    assert page.eval_on_selector("section.people:not([hidden]) .frames", cut) == "100%"


def test_columns_are_sorted_by_their_figures(open_page: Open, report: Path) -> None:
    page = open_page(report)
    order = "rows => rows.map((row) => row.dataset.variant)"

    def names() -> list[str]:
        return page.eval_on_selector_all("#variants tbody tr", order)

    page.click("#variants thead th:nth-child(5) button")
    assert names() == ["bf16", "int8", "fp16", "pytorch"]
    page.click("#variants thead th:nth-child(5) button")
    assert names() == ["pytorch", "fp16", "int8", "bf16"]
    page.click("#variants thead th:nth-child(1) button")
    assert names() == ["bf16", "fp16", "int8", "pytorch"]
    # What is missing stands last, whichever way.
    page.click("#variants thead th:nth-child(4) button")
    assert names()[-1] == "pytorch"


def test_every_number_is_that_of_its_artifact(
    open_page: Open, report: Path, rows: list[Row]
) -> None:
    page = open_page(report)
    figures = {
        "AP": ("accuracy", lambda one: one["metrics"]["AP"]),
        "change": ("accuracy", lambda one: one["delta"] and one["delta"]["AP"]),
        "images/s": ("perf", lambda one: one["throughput"]["fps"]),
        "p50 ms": ("perf", lambda one: one["latency_ms"]["p50"]),
        "p99 ms": ("perf", lambda one: one["latency_ms"]["p99"]),
        "of roofline": ("perf", lambda one: one["roofline"]["fraction"]),
    }

    for place, row in enumerate(rows):
        for label, (kind, look_up) in figures.items():
            path = report.parent / f"results/{place}_{kind}.json"
            expected = look_up(json.loads(path.read_text()))
            cell = page.query_selector(
                f'#variants tr[data-variant={row.name}] td[data-label="{label}"]'
            )
            shown = cell.get_attribute("data-value")
            assert (float(shown) if shown else None) == expected, (row.name, label)
    # What is shown is the figure, rounded.
    wrong = page.evaluate(
        "() => [...document.querySelectorAll('td[data-value]')].filter((cell) => {"
        " const text = cell.firstChild.textContent.trim().replace('\\u2212', '-');"
        " if (cell.dataset.value === '') return text !== '\\u2013';"
        " const digits = (text.match(/\\.(\\d+)/) ?? ['', ''])[1].length;"
        " const shown = text.endsWith('%') ? Number(text.slice(0, -1)) / 100 : Number(text);"
        " const unit = 10 ** -digits / (text.endsWith('%') ? 100 : 1);"
        " const off = Math.abs(shown - Number(cell.dataset.value));"
        " return !(off <= 0.5001 * unit || text.includes('e'));"
        " }).map((cell) => cell.outerHTML)"
    )
    assert wrong == []


def test_without_javascript_there_are_tables_charts_and_pictures(
    open_page: Open, report: Path
) -> None:
    page = open_page(report, java_script_enabled=False)

    for name in CHARTS:
        assert page.is_visible(f"figure[data-chart={name}] .static svg")
    assert page.text_content("#answers").strip().startswith("Ship fp16:")
    assert "loses 0.0400 AP" in page.text_content("tr[data-variant=int8]")
    assert page.is_hidden("#limits")
    for name in ("pytorch", "fp16", "int8", "bf16"):
        assert page.is_visible(f"section.people[data-variant={name}] img")


@pytest.mark.parametrize("width", [400, 760, 1000, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off(open_page: Open, report: Path, width: int, scheme: str) -> None:
    page = open_page(report, width, color_scheme=scheme)
    see_all(page)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")

    # The widest table may be scrolled between a phone and a desk, and no other.
    wide = page.evaluate(
        "() => [...document.querySelectorAll('.wide, .sheet, figure, p, h2')]"
        ".filter((one) => one.scrollWidth > one.clientWidth + 1 && one.getClientRects().length)"
        ".map((one) => (one.querySelector('table') ?? one).id || one.outerHTML.slice(0, 80))"
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert (
        wide == []
        if width in (400, 1400)
        else set(wide) <= {"accuracy", "speed", "stages", "parts"}
    )


def test_hostile_names_do_nothing(open_page: Open, make_row: MakeRow, written: Write) -> None:
    names = [
        "<script>window.bad=1</script>",
        "<img src=x onerror=window.bad=1>",
        "'\"` ${window.bad=1}",
        "人物姿勢推定",
        "x" * 200,
        "a:b.c[d]",
    ]
    rows = [
        make_row(name, ap=0.5, change=-0.001 * place, fps=100.0 + place, drift=0.1, whole=True)
        for place, name in enumerate(names)
    ]
    path = written(rows, pictures=True, dataset=names[1]) / "page.html"

    for width in (400, 1400):
        page = open_page(path, width)
        see_all(page)
        for button in page.query_selector_all("button.pick"):
            button.click()
            assert page.evaluate("selected") == button.get_attribute("data-variant")
        page.hover("figure[data-chart=plot] .live .mark-symbol path >> nth=1")
        assert page.evaluate("window.bad") is None
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_forty_variants_and_one_that_failed(
    open_page: Open, make_row: MakeRow, written: Write
) -> None:
    rows = [
        make_row(f"variant_{place}", ap=0.5, change=-place / 1000, fps=100.0 + place, drift=0.1)
        for place in range(40)
    ]
    lost = rows[7].variant.model_copy(update={"name": "lost", "failures": [Failure(part="speed")]})
    rows.append(Row(variant=lost, engine=None, perf=None, accuracy=None))
    path = written(rows, pictures=True) / "page.html"

    page = open_page(path)
    see_all(page)

    assert page.eval_on_selector_all("#variants tbody tr", "rows => rows.length") == 41
    assert "not run, since the run was stopped" in page.text_content("#failures")
    assert "could not be made" in page.text_content("tr[data-variant=lost]")
    assert path.stat().st_size < 8_000_000


def test_a_run_without_accuracy_or_with_nothing_is_a_page(
    open_page: Open, make_row: MakeRow, written: Write
) -> None:
    bare = make_row("bare")
    assert bare.engine
    engine = bare.engine.model_copy(deep=True)
    engine.model.origin.weights_sha256 = None
    page = open_page(written([replace(bare, engine=engine)]) / "page.html")
    see_all(page)
    assert page.text_content("#answers").endswith("its accuracy was not measured.")

    failed = bare.variant.model_copy(
        update={"failures": [Failure(part="engine"), Failure(part="speed")]}
    )
    page = open_page(written([Row(failed, None, None, None)]) / "page.html")
    assert page.text_content("#answers").startswith("No variant is within the limits.")


def test_a_baseline_of_another_host_is_refused_on_the_page(
    open_page: Open, make_row: MakeRow, written: Write, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    for row in (make_row("a", ap=0.5, cpu="Slide rule"), make_row("b", ap=0.5, fps=50.0)):
        row.perf.write(old / f"{row.name}_perf.json")
        row.accuracy.write(old / f"{row.name}_accuracy.json")
    rows = [make_row("a", ap=0.5), make_row("b", ap=0.5, fps=100.0)]

    page = open_page(written(rows, baseline=old) / "page.html")

    assert "another host: the CPU was Slide rule" in page.text_content(
        "#baseline tr[data-variant=a] >> nth=1"
    )
    assert "improved" in page.text_content("#baseline tr[data-variant=b] >> nth=1")


def test_print_shows_what_is_folded(open_page: Open, report: Path) -> None:
    page = open_page(report)
    count = "document.querySelectorAll('details[open]').length"
    before = page.evaluate(count)
    fill(page, "ap_drop", "0.05")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")

    assert page.is_visible("#speed")
    assert page.is_hidden("#limits")
    assert page.text_content("#asked") == "Limits: allowed loss of AP: 0.05."
    assert page.is_visible("#asked")
    assert len(page.pdf()) > 10_000
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(count) == before


@pytest.mark.parametrize("width", [695, 965], ids=["portrait", "landscape"])
def test_no_column_is_cut_off_on_paper(open_page: Open, report: Path, width: int) -> None:
    page = open_page(report, width)
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")

    wide = page.eval_on_selector_all(
        "table", "found => found.filter((one) => one.offsetWidth > one.parentElement.clientWidth"
        " + 1).map((one) => one.id)",
    )  # fmt: skip
    assert wide == []


def test_a_phone_sees_what_it_sorts_by_and_points_at(open_page: Open, report: Path) -> None:
    page = open_page(report, 400)
    see_all(page)

    page.click("#variants thead th:nth-child(5) button")
    order = "rows => rows.map((row) => row.dataset.variant)"
    found = page.eval_on_selector_all("#variants tbody tr", order)
    assert found == ["bf16", "int8", "fp16", "pytorch"]
    page.hover("figure[data-chart=plot] .live .mark-symbol path >> nth=1")
    page.wait_for_selector("#vg-tooltip-element.visible")
    tip = page.query_selector("#vg-tooltip-element").bounding_box()
    assert tip["height"] < 250


@pytest.mark.parametrize("width", [400, 1400])
def test_labels_of_the_plot_do_not_overlap(
    open_page: Open, make_row: MakeRow, written: Write, width: int
) -> None:
    rows = [
        make_row(f"a_long_name_{place}", ap=0.5, change=-place / 2000, fps=100.0 + 9 * place)
        for place in range(12)
    ]
    page = open_page(written(rows) / "page.html", width)
    see_all(page)

    boxes = page.eval_on_selector_all(
        "figure[data-chart=plot] .live .mark-text text",
        "found => found.map((one) => one.getBoundingClientRect().toJSON())"
        ".filter((one) => one.width > 0)",
    )
    assert boxes
    for place, one in enumerate(boxes):
        for other in boxes[:place]:
            apart = one["left"] >= other["right"] or other["left"] >= one["right"]
            assert apart or one["top"] >= other["bottom"] - 2 or other["top"] >= one["bottom"] - 2
