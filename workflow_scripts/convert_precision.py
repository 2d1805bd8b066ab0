"""Write an ONNX graph in another precision: fp32 (as it is), fp16 or int8.

int8 is calibrated on crops of persons that are not evaluated on.

    python workflow_scripts/convert_precision.py --precision int8 --model simplified.onnx \\
        --card model.json --calibration crops.npy --output int8.onnx
"""

import argparse
from pathlib import Path

import onnx

from hrnetpose import files, stage
from hrnetpose.artifacts import ModelCard
from hrnetpose.data import crops
from hrnetpose.model import graphs, quantize


def parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    command = stage.command(__doc__)
    command.add_argument("--precision", choices=["fp32", "fp16", "int8"], required=True)
    command.add_argument("--model", type=Path, required=True, help="the simplified ONNX file")
    command.add_argument("--card", type=Path, required=True, help="its model card")
    command.add_argument("--calibration", type=Path, help="crops (.npy), for int8")
    command.add_argument("--output", type=Path, required=True, help="the converted ONNX file")
    return command


def main(args: argparse.Namespace) -> None:
    """Runs the stage."""
    if args.precision == "int8" and args.calibration is None:
        raise stage.StageError("--precision int8 needs --calibration CROPS.npy")
    with files.atomic_path(args.output) as temporary:
        match args.precision:
            case "fp32":
                onnx.save(graphs.read(args.model), temporary)
            case "fp16":
                onnx.save(graphs.to_fp16(graphs.read(args.model)), temporary)
            case "int8":
                card = ModelCard.read(args.card)
                quantize.to_int8(args.model, crops.read(args.calibration), card, temporary)
        graphs.check(temporary)


if __name__ == "__main__":
    stage.run(parser(), main)
