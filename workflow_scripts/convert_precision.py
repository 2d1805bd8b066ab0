"""Write an ONNX graph in another floating-point precision: fp32 (as it is), fp16 or bf16.

int8-fp16 is fp16 around the int8 layers of a symmetric int8 graph: the form that TensorRT takes.

    python workflow_scripts/convert_precision.py --precision fp16 --model simplified.onnx \\
        --output fp16.onnx
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import onnx

from hrnetpose import files, stage
from hrnetpose.graphs import half_precision, onnx_graph
from hrnetpose.stage import StageError

CONVERTERS: dict[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    "fp32": lambda graph: graph,
    "fp16": half_precision.to_fp16,
    "bf16": half_precision.to_bf16,
    "int8-fp16": half_precision.to_fp16,
}


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("--precision", choices=list(CONVERTERS), required=True)
    command.add_argument("--model", type=Path, required=True, help="the ONNX file to convert")
    command.add_argument("--output", type=Path, required=True, help="the converted ONNX file")
    return command


def main(*, precision: str, model: Path, output: Path) -> None:
    """Run the stage."""
    graph = onnx_graph.read(model)
    held = onnx_graph.held_precision(graph)
    if held != "fp32" and precision not in (held, "int8-fp16"):
        raise StageError(
            f"{model}: it holds {held}, so there is no {precision} of it; ask for `precision: "
            f"{held}`"
        )
    if held != precision:
        graph = CONVERTERS[precision](graph)
    with files.atomic_path(output) as temporary:
        onnx.save(graph, temporary)
        try:
            onnx_graph.check(temporary)
        except StageError as error:
            reason = str(error).removeprefix(f"{temporary}: ")
            raise StageError(
                f"{model}: cannot be written in {precision}: {reason}; take another `precision`"
            ) from error


if __name__ == "__main__":
    stage.run(parser(), main)
