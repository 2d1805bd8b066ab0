"""Simplify an ONNX graph with onnxsim, or keep it as it is where onnxsim breaks it.

Both graphs run on the same fixed inputs, at batch 1 and 3; outputs may differ by rounding only.

    python workflow_scripts/simplify_onnx.py --model model.onnx --card model.json \\
        --output simplified.onnx --summary simplified.json
"""

import argparse
import logging
import math
import multiprocessing
import re
import shutil
import textwrap
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxsim

from hrnetpose import files, stage
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.artifacts.simplification import Simplification
from hrnetpose.graphs import onnx_graph
from hrnetpose.recipes import CALIBRATED
from hrnetpose.stage import StageError

TOLERANCE = 1e-5
"""Largest relative error: fused additions and multiplications round differently."""
BATCHES = (1, 3)
Outputs = list[list[npt.NDArray[np.float32]]]
"""Of a graph, for each batch that it was run on."""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("--model", type=Path, required=True, help="the exported ONNX file")
    command.add_argument("--card", type=Path, required=True, help="its model card")
    command.add_argument("--output", type=Path, required=True, help="the simplified ONNX file")
    command.add_argument("--summary", type=Path, required=True, help="what was done (JSON)")
    return command


def main(*, model: Path, card: Path, output: Path, summary: Path) -> None:
    """Run the stage."""
    before = len(onnx_graph.read(model).graph.node)
    known = ModelCard.read(card)
    with files.atomic_path(output) as temporary:
        after, error, reason = (
            (None, None, f"it holds {known.precision}, and onnxsim would fold the Q/DQ nodes")
            if known.precision in CALIBRATED
            else simplify(model, known, temporary)
        )
        if reason is not None:
            logging.warning("onnxsim's graph is not used: %s", reason)
            shutil.copyfile(model, temporary)
    logging.info("nodes: %s -> %s; relative error %s", before, after, error)
    Simplification(
        used=reason is None,
        reason=reason,
        nodes_before=before,
        nodes_after=after,
        relative_error=error if error is not None and math.isfinite(error) else None,
        onnxsim=version("onnxsim"),
        graph_sha256=files.sha256(output),
    ).write(summary)


def simplify(
    model: Path, card: ModelCard, output: Path
) -> tuple[int | None, float | None, str | None]:
    """Write the simplified graph, and compare it with the one it is made of.

    Args:
        model: the ONNX file.
        card: its model card.
        output: where the simplified one is written.

    Returns:
        Its nodes, its relative error, and why it cannot be used; each None if there is none.

    Raises:
        StageError: `model` itself cannot be run, or its outputs are not finite.
    """
    images = [onnx_graph.fixed_inputs(card, batch) for batch in BATCHES]
    outputs, nodes, reason = None, None, None
    try:
        outputs = in_own_process(model, output, images)
        nodes = len(onnx_graph.read(output).graph.node)
    except StageError as problem:
        text = re.sub(r"\[\w+Error\] ", "", str(problem))  # ONNX's own exceptions
        reason = textwrap.shorten(text, 300, placeholder=" ...")
    # Of the graph that was exported any failure is an error.
    expected = [onnx_graph.run(model, batch) for batch in images]
    if not all(np.isfinite(values).all() for batch in expected for values in batch):
        raise StageError(
            f"{model}: its outputs are not finite; the checkpoint or the export is broken"
        )
    if outputs is None or reason is not None:
        return nodes, None, reason
    found, wanted = (
        [[values.shape for values in batch] for batch in o] for o in (outputs, expected)
    )
    if found != wanted:
        return nodes, None, f"its outputs are {found[0]} instead of {wanted[0]}"
    error = max(map(onnx_graph.largest_error, outputs, expected))
    if error > TOLERANCE:
        reason = f"its outputs differ by {error:.1e} (relative), more than {TOLERANCE:.0e}"
    return nodes, error, reason


def in_own_process(model: Path, output: Path, images: list[npt.NDArray[np.float32]]) -> Outputs:
    """Simplify a graph and run the outcome where a crash of compiled code does no harm.

    Args:
        model: the ONNX file.
        output: where the simplified one is written.
        images: float32 [N, 3, H, W] each.

    Returns:
        The outputs of the simplified graph, for each of `images`.

    Raises:
        StageError: with the reason why there is no simplified graph that runs.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        try:
            return pool.submit(_simplify, model, output, images).result()
        except BrokenProcessPool as error:
            raise StageError("onnxsim, or ONNX Runtime on its graph, crashed") from error
        except StageError as error:
            # The temporary file's name says nothing to anybody.
            raise StageError(str(error).removeprefix(f"{output}: ")) from error


def _simplify(model: Path, output: Path, images: list[npt.NDArray[np.float32]]) -> Outputs:
    try:
        simplified, _ = onnxsim.simplify(onnx_graph.read(model))
        onnx.save(simplified, output)
    except StageError:
        raise
    except Exception as error:
        text = str(error).strip() or "it stopped without a message"
        raise StageError(f"onnxsim cannot simplify it: {text}") from error
    onnx_graph.check(output)
    return [onnx_graph.run(output, batch) for batch in images]


if __name__ == "__main__":
    stage.run(parser(), main)
