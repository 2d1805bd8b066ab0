"""Bring an ONNX file into the form of this project's exports, and write its model card.

The graph gets one input `input`, normalised NCHW floats with a dynamic batch if it allows that, and
the outputs that its codec decodes.  What the card needs and `--given` does not say comes from the
graph, from its `metadata_props`, or from the JSON files of an mmdeploy export.

    python workflow_scripts/import_onnx.py --name mine --onnx end2end.onnx --crop 256x192 \\
        --given '{"mean": [0, 0, 0], "std": [1, 1, 1], "keypoints": "coco"}' \\
        --output model.onnx --card model.json
"""

import argparse
import logging
from importlib.metadata import version
from pathlib import Path

from hrnetpose import files, stage
from hrnetpose.artifacts.model import Crop, ModelCard, OnnxOrigin, Tensor
from hrnetpose.graphs import metadata, onnx_graph
from hrnetpose.graphs.onnx_graph import INPUT
from hrnetpose.models import onnx_card, onnx_file, onnx_import, onnx_source
from hrnetpose.models.onnx_file import OriginalGraph
from hrnetpose.models.onnx_source import OnnxSource
from hrnetpose.onnx_card import OnnxCard
from hrnetpose.stage import StageError


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("--name", required=True, help="what the model is called in the report")
    command.add_argument("--onnx", type=Path, required=True, help="the file, its folder or its zip")
    command.add_argument(
        "--given", type=stage.Json(OnnxCard), default=OnnxCard(), help="keys of the card, as JSON"
    )
    command.add_argument("--crop", type=Crop.parse, required=True, help="for example 256x192")
    command.add_argument("--output", type=Path, required=True, help="the graph (ONNX)")
    command.add_argument("--card", type=Path, required=True, help="the model card (JSON)")
    return command


def main(*, name: str, onnx: Path, given: OnnxCard, crop: Crop, output: Path, card: Path) -> None:
    """Run the stage."""
    with onnx_source.opened(onnx) as source:
        made = bring(name, onnx, source, given, crop, output)
    for note in made.notes:
        logging.warning("%s: %s", onnx, note)
    made.write(card)


def bring(
    name: str, place: Path, source: OnnxSource, given: OnnxCard, crop: Crop, output: Path
) -> ModelCard:
    """Write the graph of a file and return its card.

    Args:
        name: of the model.
        place: what the configuration names.
        source: what is there.
        given: keys of the card.
        crop: what is planned for it.
        output: where the graph is written.

    Raises:
        StageError: it is no pose model, contradicts its card or the plan, or cannot be run.
    """
    facts = onnx_file.read_facts(source.graph)
    source.list_files(facts)  # all there
    onnx_card.look_ahead(given, facts, source.exported, str(place))
    original = OriginalGraph(source.graph)
    facts = onnx_card.measure(given, facts, source.exported, str(place), original)
    found = onnx_card.describe(given, facts, source.exported, str(place))
    if found.crop != crop:
        raise StageError(
            f"{place}: the model takes crops {found.crop}, but {crop} is planned; correct "
            f"`models.{name}.card.crop`, or leave it out"
        )
    origin = OnnxOrigin(
        file=str(place),
        sha256=files.sha256(source.graph),
        opset=facts.opset,
        ir_version=facts.ir_version,
        producer=facts.producer,
        input=found.input,
        outputs=found.outputs,
        sources=found.sources,
    )
    graph, outputs, batch = onnx_import.normalise(
        onnx_graph.read(source.graph), origin, found, original
    )
    made = ModelCard(
        name=name,
        origin=origin,
        architecture=found.architecture,
        onnx_sha256="0" * 64,  # of the file that has the card in it
        opset=onnx_graph.opset_of(graph),
        precision=facts.precision,
        input=Tensor(
            name=INPUT, shape=[batch or "batch", 3, crop.height, crop.width], dtype="float32"
        ),
        outputs=outputs,
        channel_order=found.channel_order,
        mean=found.mean,
        std=found.std,
        crop=crop,
        codec=found.codec,
        flip_shift=found.flip_shift,
        keypoints=found.keypoints,
        evaluation=found.evaluation,
        notes=found.notes,
        parameters=onnx_import.count_parameters(graph),
        macs=onnx_import.count_macs(graph, batch or 1, onnx_import.fixed_images(found, 1)),
        versions={package: version(package) for package in ("onnx", "onnxruntime")},
    )
    metadata.write(graph, made, output)
    return made


if __name__ == "__main__":
    stage.run(parser(), main)
