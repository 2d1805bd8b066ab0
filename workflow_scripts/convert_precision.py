"""Write an ONNX graph in another floating-point precision: fp32 (as it is) or fp16.

    python workflow_scripts/convert_precision.py --precision fp16 --model simplified.onnx \\
        --output fp16.onnx
"""

import argparse
from pathlib import Path

import onnx

from hrnetpose import files, stage
from hrnetpose.model import graphs


def parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    command = stage.command(__doc__)
    command.add_argument("--precision", choices=["fp32", "fp16"], required=True)
    command.add_argument("--model", type=Path, required=True, help="the simplified ONNX file")
    command.add_argument("--output", type=Path, required=True, help="the converted ONNX file")
    return command


def main(args: argparse.Namespace) -> None:
    """Runs the stage."""
    graph = graphs.read(args.model)
    if args.precision == "fp16":
        graph = graphs.to_fp16(graph)
    with files.atomic_path(args.output) as temporary:
        onnx.save(graph, temporary)
        graphs.check(temporary)


if __name__ == "__main__":
    stage.run(parser(), main)
