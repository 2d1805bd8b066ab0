"""Simplify an ONNX graph with onnxsim, and prove that it still computes the same.

Both graphs run on the same fixed inputs, at batch 1 and 3; heatmaps may differ by rounding only.

    python workflow_scripts/simplify_onnx.py --model model.onnx --card model.json \\
        --output simplified.onnx
"""

import argparse
import logging
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import onnx
import onnxsim

from hrnetpose import files, stage
from hrnetpose.artifacts import ModelCard
from hrnetpose.model import graphs
from hrnetpose.stage import StageError

TOLERANCE = 1e-5
"""Largest relative error: fused additions and multiplications round differently."""


def parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    command = stage.command(__doc__)
    command.add_argument("--model", type=Path, required=True, help="the exported ONNX file")
    command.add_argument("--card", type=Path, required=True, help="its model card")
    command.add_argument("--output", type=Path, required=True, help="the simplified ONNX file")
    return command


def main(args: argparse.Namespace) -> None:
    """Runs the stage."""
    card = ModelCard.read(args.card)
    model = graphs.read(args.model)
    # In a process of its own: on a graph that is damaged, the compiled part may crash.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        try:
            simplified = onnx.load_from_string(
                pool.submit(_simplify, model.SerializeToString()).result()
            )
        except Exception as error:
            raise StageError(f"{args.model}: onnxsim cannot simplify it: {error}") from error
    logging.info("nodes: %d -> %d", len(model.graph.node), len(simplified.graph.node))
    with files.atomic_path(args.output) as temporary:
        onnx.save(simplified, temporary)
        graphs.check(temporary)
        for batch in (1, 3):
            images = graphs.fixed_inputs(card, batch)
            difference = graphs.relative_error(
                graphs.run(temporary, images), graphs.run(args.model, images)
            )
            logging.info("batch %d: relative error %.2e", batch, difference)
            if difference > TOLERANCE:
                raise StageError(
                    f"{args.model}: simplified, its heatmaps differ by {difference:.1e} "
                    f"(relative), more than {TOLERANCE:.0e}; another version of onnxsim may help"
                )


def _simplify(model: bytes) -> bytes:
    simplified, _ = onnxsim.simplify(onnx.load_from_string(model))
    return simplified.SerializeToString()


if __name__ == "__main__":
    stage.run(parser(), main)
