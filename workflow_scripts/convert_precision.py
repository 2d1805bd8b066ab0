"""Write an ONNX graph in another precision: fp32 (as it is), fp16, bf16, int8 or fp8.

int8-fp16 is the form of int8 that TensorRT takes: symmetric, with fp16 for all else.  int8 and fp8
are calibrated on crops of persons that are not evaluated on.

    python workflow_scripts/convert_precision.py --precision int8 --model simplified.onnx \\
        --card model.json --calibration crops.npy --output int8.onnx
"""

import argparse
from pathlib import Path
from typing import get_args

import onnx

from hrnetpose import files, stage
from hrnetpose.artifacts import Graph, ModelCard
from hrnetpose.data import crops
from hrnetpose.model import fp8, graphs, quantize


def parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    command = stage.command(__doc__)
    command.add_argument("--precision", choices=get_args(Graph), required=True)
    command.add_argument("--model", type=Path, required=True, help="the simplified ONNX file")
    command.add_argument("--card", type=Path, required=True, help="its model card")
    command.add_argument("--calibration", type=Path, help="crops (.npy), for int8 and fp8")
    command.add_argument("--output", type=Path, required=True, help="the converted ONNX file")
    return command


def main(args: argparse.Namespace) -> None:
    """Runs the stage."""
    if args.precision in ("int8", "int8-fp16", "fp8") and args.calibration is None:
        raise stage.StageError(f"--precision {args.precision} needs --calibration CROPS.npy")
    with files.atomic_path(args.output) as temporary:
        match args.precision:
            case "fp32":
                onnx.save(graphs.read(args.model), temporary)
            case "fp16":
                onnx.save(graphs.to_fp16(graphs.read(args.model)), temporary)
            case "bf16":
                onnx.save(graphs.to_bf16(graphs.read(args.model)), temporary)
            case "int8":
                card = ModelCard.read(args.card)
                quantize.to_int8(args.model, crops.read(args.calibration), card, temporary)
            case "int8-fp16":
                card = ModelCard.read(args.card)
                persons = crops.read(args.calibration)
                quantize.to_int8(args.model, persons, card, temporary, symmetric=True)
                onnx.save(graphs.to_fp16(graphs.read(temporary)), temporary)
            case "fp8":
                card = ModelCard.read(args.card)
                fp8.to_fp8(args.model, crops.read(args.calibration), card, temporary)
        graphs.check(temporary)


if __name__ == "__main__":
    stage.run(parser(), main)
