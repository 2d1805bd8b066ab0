"""Export an mmpose model to an ONNX graph and its card."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from hrnetpose import files
from hrnetpose.artifacts.model import (
    Codec,
    Crop,
    HeatmapCodec,
    Keypoints,
    MmposeOrigin,
    ModelCard,
    Tensor,
)
from hrnetpose.graphs import onnx_graph
from hrnetpose.graphs.onnx_graph import INPUT, OPSET
from hrnetpose.models import keypoints, keys, mmpose, settings
from hrnetpose.stage import StageError

LARGEST = (1 << 31) - (1 << 24)
"""Bytes of weights: an ONNX file holds 2 GiB, and the graph needs a little of it."""


class Network(torch.nn.Module):
    """Backbone and head of a pose estimator: normalised NCHW floats in, its outputs out."""

    def __init__(self, estimator: torch.nn.Module) -> None:
        super().__init__()
        self.estimator = estimator
        # The exporter restores the mode of the module that it is given.
        self.train(estimator.training)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run [N, 3, H, W] float32; return float32 [N, ...], what the codec takes."""
        return mmpose.outputs(self.estimator, images)


def write_graph(config: Any, network: Network, output: Path) -> None:
    """Write an ONNX graph with a dynamic batch and check it.

    Raises:
        StageError: the model is too large for an ONNX file or cannot be traced, or the graph is not
            valid.
    """
    size = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    if size > LARGEST:
        raise StageError(
            f"{config.filename}: the model's weights are {size / 2**30:.2f} GiB in fp32, and an "
            f"ONNX file holds {LARGEST / 2**30:.2f} GiB of them; take a smaller model"
        )
    names = list(settings.read_codec(config).OUTPUTS)
    width, height = config.model.head.decoder.input_size
    example = torch.zeros(2, 3, height, width)
    with files.atomic_path(output) as temporary:
        try:
            with warnings.catch_warnings(), torch.no_grad(), _plain_pooling():
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    network,
                    (example,),
                    str(temporary),
                    input_names=[INPUT],
                    output_names=names,
                    dynamic_axes={name: {0: "batch"} for name in (INPUT, *names)},
                    opset_version=OPSET,
                    dynamo=False,
                )
                shapes = [["batch", *output.shape[1:]] for output in network(example)]
        except OSError:
            raise
        except Exception as error:
            raise StageError(
                f"{config.filename}: cannot be exported to ONNX: "
                f"{settings.describe_error(error)}{_hint(config, error)}"
            ) from error
        # Some heads resize to a size computed in the graph, which shape inference cannot follow.
        graph = onnx_graph.with_output_shapes(onnx_graph.read(temporary), shapes)
        onnx.save(graph, temporary)
        onnx_graph.check(temporary)


@contextmanager
def _plain_pooling() -> Iterator[None]:
    """Export adaptive pooling to a part of the size as the average pooling that it is.

    The exporter takes it for constant sizes only, and Lite-HRNet reads them off its tensors, though
    nothing but the batch varies.
    """
    adaptive = functional.adaptive_avg_pool2d

    def pool(images: torch.Tensor, output_size: Any) -> torch.Tensor:
        sizes = output_size if isinstance(output_size, tuple | list) else (output_size,) * 2
        if None in sizes or all(int(size) == 1 for size in sizes):
            return adaptive(images, output_size)
        inner = [int(size) for size in images.shape[-2:]]
        outer = [int(size) for size in sizes]
        if any(one % other for one, other in zip(inner, outer, strict=True)):
            return adaptive(images, output_size)
        kernel = [one // other for one, other in zip(inner, outer, strict=True)]
        return functional.avg_pool2d(images, kernel)

    functional.adaptive_avg_pool2d = pool  # type: ignore[assignment]
    try:
        yield
    finally:
        functional.adaptive_avg_pool2d = adaptive


def _hint(config: Any, error: Exception) -> str:
    """Return the likely cause of an error: SimCC's head has to be told the size of its input."""
    size = config.model.head.get("in_featuremap_size")
    if size is None or "shapes cannot be multiplied" not in str(error):
        return ""
    return (
        f"; model.head.in_featuremap_size is {size}; expected the width and height of what the "
        "backbone gives, which is the input's divided by its stride"
    )


def make_card(
    name: str,
    origin: MmposeOrigin,
    config: Any,
    crop: Crop,
    network: Network,
    onnx: Path,
) -> ModelCard:
    """Return the card of an exported model.

    Raises:
        StageError: the config contradicts itself, or the crops planned for the model.
    """
    if crop != (own := settings.read_crop(config)):
        raise StageError(
            f"{config.filename}: the model takes crops {own}, but {crop} is planned; correct "
            f"`models.{name}.crop` in the configuration, or leave it out"
        )
    codec, points = settings.read_codec(config), keypoints.read_keypoints(config)
    shapes = onnx_graph.output_shapes(onnx_graph.read(onnx))
    _check_outputs(config, shapes, codec, points, crop)
    order, mean, std = settings.read_normalisation(config)
    backbone, head = (keys.short(config.model[part].type) for part in ("backbone", "head"))
    test_cfg = config.model.get("test_cfg") or {}
    return ModelCard(
        name=name,
        origin=origin,
        architecture=f"{backbone} + {head}",
        onnx_sha256=files.sha256(onnx),
        opset=OPSET,
        input=Tensor(name=INPUT, shape=["batch", 3, crop.height, crop.width], dtype="float32"),
        outputs=[Tensor(name=name, shape=shape, dtype="float32") for name, shape in shapes.items()],
        channel_order=order,
        mean=mean,
        std=std,
        crop=crop,
        codec=codec,
        flip_shift=isinstance(codec, HeatmapCodec) and bool(test_cfg.get("shift_heatmap")),
        keypoints=points,
        evaluation=settings.read_evaluation(config),
        notes=settings.check_keys(config),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        macs=count_macs(network, crop.height, crop.width),
        versions={p: version(p) for p in ("torch", "mmpose", "mmengine", "onnx")},
    )


def _check_outputs(
    config: Any, shapes: dict[str, list[int | str]], codec: Codec, points: Keypoints, crop: Crop
) -> None:
    """Compare the graph's outputs with the keypoints and with what the decoder takes."""
    expected: list[list[int | None]] = codec.shapes(len(points.names), crop)
    if isinstance(codec, HeatmapCodec):
        width, height = config.model.head.decoder.heatmap_size
        expected[0][1:] = [height, width]
    for (name, shape), wanted in zip(shapes.items(), expected, strict=True):
        if shape[1:] != wanted:
            raise StageError(
                f"{config.filename}: the model gives {name} {shape[1:]}, but its keypoints and "
                f"model.head.decoder give {wanted}; expected the same"
            )


def count_macs(network: Network, height: int, width: int) -> int:
    """Count the multiply-accumulate operations of convolutions and products for one image."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, height, width))
    return counter.get_total_flops() // 2
