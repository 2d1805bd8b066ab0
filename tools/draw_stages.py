"""Draw the graph of stages, from Snakemake's graph of rules, as SVG.

    python tools/draw_stages.py --graph build/stages.dot --output docs/stages.svg

A stage stands below all that it takes from.  `make docs` does this for the page of the documents.
"""

import argparse
import re
from pathlib import Path
from xml.sax.saxutils import escape

from hrnetpose import files, stage
from hrnetpose.stage import StageError

WIDTH, HEIGHT, MARGIN = 150, 30, 10
ACROSS, EMPTY, DOWN = 172, 30, 66
"""From one stage to the next, the width of an edge that passes by, from one row to the next."""
SWEEPS = 8
TARGETS = {"report", "gate", "fetch", "all"}

Edges = set[tuple[str, str]]
Node = tuple[int, str, str]
"""A row and a stage in it, or an edge (source, taker) that passes through it."""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("--graph", type=Path, required=True, help="of snakemake --rulegraph (dot)")
    command.add_argument("--output", type=Path, required=True, help="the picture (SVG)")
    return command


def main(*, graph: Path, output: Path) -> None:
    """Run the tool."""
    edges = read(graph.read_text(encoding="utf-8"))
    if not edges:
        raise StageError(f"{graph}: has no edges; expected what `snakemake --rulegraph` prints")
    files.write_text(output, draw(edges))


def read(text: str) -> Edges:
    """Return which stage another one takes from, as (source, taker), without target rules."""
    names = dict(re.findall(r'^\s*(\d+)\[label = "(\w+)"', text, re.MULTILINE))
    pairs = re.findall(r"^\s*(\d+) -> (\d+)", text, re.MULTILINE)
    edges = {(names[source], names[taker]) for source, taker in pairs}
    return {edge for edge in edges if not TARGETS & set(edge)}


def rank(edges: Edges) -> dict[str, int]:
    """Return for each stage how many stand above it on the longest way."""
    found = {name: 0 for edge in sorted(edges) for name in edge}
    for _ in found:
        for source, taker in edges:
            found[taker] = max(found[taker], found[source] + 1)
    return found


def without_short_cuts(edges: Edges) -> Edges:
    """Leave out an edge if another way leads from its source to its taker."""
    after = {source: {taker for other, taker in edges if other == source} for source, _ in edges}

    def reach(name: str) -> set[str]:
        return {name}.union(*(reach(other) for other in after.get(name, ())))

    return {
        (source, taker)
        for source, taker in edges
        if not any(taker in reach(other) for other in after[source] - {taker})
    }


def split(edges: Edges) -> tuple[list[list[Node]], dict[Node, list[Node]]]:
    """Return the rows of the picture, and what each of a row takes from in the row above.

    An edge that leads further has a place of its own in each row between.
    """
    ranks = rank(edges)
    rows: list[list[Node]] = [[] for _ in range(max(ranks.values()) + 1)]
    for name, row in sorted(ranks.items()):
        rows[row].append((row, name, ""))
    above: dict[Node, list[Node]] = {}
    for source, taker in sorted(edges):
        before: Node = (ranks[source], source, "")
        for row in range(ranks[source] + 1, ranks[taker]):
            rows[row].append((row, source, taker))
            above.setdefault(rows[row][-1], []).append(before)
            before = rows[row][-1]
        above.setdefault((ranks[taker], taker, ""), []).append(before)
    return rows, above


def place(rows: list[list[Node]], above: dict[Node, list[Node]]) -> dict[Node, float]:
    """Return the middle of each in its row, near the middle of those that it belongs to."""
    below: dict[Node, list[Node]] = {}
    for node, sources in above.items():
        for source in sources:
            below.setdefault(source, []).append(node)
    placed: dict[Node, float] = {}
    for sweep in range(SWEEPS):
        downwards = sweep % 2 == 0
        beside = above if downwards else below
        for row in rows if downwards else reversed(rows):
            wished = {
                node: sum(xs) / len(xs)
                for node in row
                if (xs := [placed[other] for other in beside.get(node, []) if other in placed])
            }
            order = sorted(row, key=lambda n: (wished.get(n, placed.get(n, 0.0)), n))
            widths = [EMPTY if node[2] else ACROSS for node in order]
            x = -sum(widths) / 2
            for node, width in zip(order, widths, strict=True):
                placed[node], x = x + width / 2, x + width
    return placed


def draw(edges: Edges) -> str:
    """Return the picture."""
    rows, above = split(without_short_cuts(edges))
    placed = place(rows, above)
    left = min(placed.values()) - WIDTH / 2 - MARGIN
    width = max(placed.values()) + WIDTH / 2 + MARGIN - left
    height = 2 * MARGIN + HEIGHT + DOWN * (len(rows) - 1)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}"'
        ' font-family="monospace" font-size="12" fill="none">'
    ]
    for node in (node for row in rows for node in row):
        x, y = placed[node] - left, MARGIN + DOWN * node[0]
        if node[2]:
            lines.append(f'<path d="M{x:g} {y:g}v{HEIGHT}" stroke="#888"/>')
        for source in above.get(node, []):
            u, v = placed[source] - left, y - DOWN + HEIGHT
            middle = (y + v) / 2
            curve = f"M{u:g} {v:g}C{u:g} {middle:g} {x:g} {middle:g} {x:g} {y:g}"
            lines.append(f'<path d="{curve}" stroke="#888"/>')
        if not node[2]:
            lines.append(
                f'<rect x="{x - WIDTH / 2:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="5"'
                f' fill="#eef3f8" stroke="#4a6fa5"/><text x="{x:g}" y="{y + HEIGHT / 2 + 4:g}"'
                f' text-anchor="middle" fill="#123">{escape(node[1])}</text>'
            )
    return "\n".join([*lines, "</svg>"]) + "\n"


if __name__ == "__main__":
    stage.run(parser(), main)
