"""Draw the graph of stages, from what Snakemake says of it, as SVG.

    snakemake --rulegraph --configfile docs/stages.yaml > stages.dot
    python tools/draw_stages.py --graph stages.dot --output docs/stages.svg

A stage stands below all that it takes from; `make docs` draws the page's picture anew.
"""

import argparse
import re
from pathlib import Path
from xml.sax.saxutils import escape

from hrnetpose import files, stage
from hrnetpose.stage import StageError

WIDTH, HEIGHT, ACROSS, DOWN, MARGIN = 150, 30, 172, 66, 10
TARGETS = {"report", "gate", "fetch", "all"}

Edges = set[tuple[str, str]]


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


def place(edges: Edges) -> dict[str, tuple[float, int]]:
    """Return the column and row of each stage: beside each other near what they take from."""
    ranks = rank(edges)
    rows: dict[int, list[str]] = {}
    for name, row in ranks.items():
        rows.setdefault(row, []).append(name)
    widest = max(map(len, rows.values()))
    placed: dict[str, tuple[float, int]] = {}
    for row in sorted(rows):
        above = {
            name: [placed[source][0] for source, taker in edges if taker == name]
            for name in rows[row]
        }
        mean = {name: sum(xs) / len(xs) if xs else 0.0 for name, xs in above.items()}
        names = sorted(rows[row], key=lambda name: (mean[name], name))
        start = (widest - len(names)) / 2
        placed |= {name: (start + number, row) for number, name in enumerate(names)}
    return placed


def draw(edges: Edges) -> str:
    """Return the picture."""
    edges = without_short_cuts(edges)
    placed = place(edges)
    width = MARGIN * 2 + WIDTH + ACROSS * max(x for x, _ in placed.values())
    height = MARGIN * 2 + HEIGHT + DOWN * max(y for _, y in placed.values())
    corner = {name: (MARGIN + x * ACROSS, MARGIN + y * DOWN) for name, (x, y) in placed.items()}
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}"'
        ' font-family="monospace" font-size="12">'
    ]
    for source, taker in sorted(edges):
        (x, y), (u, v) = corner[source], corner[taker]
        x, y, u = x + WIDTH / 2, y + HEIGHT, u + WIDTH / 2
        middle = (y + v) / 2
        lines.append(
            f'<path d="M{x:g} {y:g}C{x:g} {middle:g} {u:g} {middle:g} {u:g} {v:g}"'
            ' fill="none" stroke="#888"/>'
        )
    for name, (x, y) in corner.items():
        lines.append(
            f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="5" fill="#eef3f8"'
            f' stroke="#4a6fa5"/><text x="{x + WIDTH / 2:g}" y="{y + HEIGHT / 2 + 4:g}"'
            f' text-anchor="middle" fill="#123">{escape(name)}</text>'
        )
    return "\n".join([*lines, "</svg>"]) + "\n"


if __name__ == "__main__":
    stage.run(parser(), main)
