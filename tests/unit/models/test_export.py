"""The exported graph computes what PyTorch computes, and its card says what it is."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from hrnetpose import files
from hrnetpose.artifacts.model import Crop, MmposeOrigin, ModelCard
from hrnetpose.graphs import metadata, onnx_graph
from hrnetpose.models import export, mmpose
from support import TINY_CONFIG, TINY_SIMCC_CONFIG, refusal, replace_texts

UNTRAINED = MmposeOrigin(config="config.py", weights_sha256=None)

Read = Callable[..., Any]


@pytest.fixture(scope="module")
def card(tiny: Path) -> ModelCard:
    return ModelCard.read(tiny / "model.json")


@pytest.fixture
def describe(tiny: Path, network: Any) -> Callable[..., ModelCard]:
    def describe(config: Any, crop: str = "64x32") -> ModelCard:
        graph = tiny / "model.onnx"
        return export.make_card("tiny", UNTRAINED, config, Crop.parse(crop), network, graph)

    return describe


# --- the graph ------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_graph_computes_what_pytorch_computes(
    tiny: Path, card: ModelCard, network: Any, batch: int
) -> None:
    images = onnx_graph.fixed_inputs(card, batch)
    with torch.inference_mode():
        (expected,) = network(torch.from_numpy(images))

    (found,) = onnx_graph.run(tiny / "model.onnx", images)

    assert found.shape == (batch, 17, 16, 8)
    assert onnx_graph.relative_error(found, expected.numpy()) < 1e-5
    if batch > 1:  # the heatmaps depend on the image
        assert onnx_graph.relative_error(found[:1], found[1:2]) > 0.1


def test_a_second_export_gives_the_same_file_and_leaves_the_network_in_evaluation_mode(
    tiny: Path, network: Any, read: Read, tmp_path: Path
) -> None:
    """In training mode, each image would change what the next one gives."""
    export.write_graph(read(), network, tmp_path / "again.onnx")
    card = ModelCard.read(tiny / "model.json")
    metadata.write(onnx_graph.read(tmp_path / "again.onnx"), card, tmp_path / "again.onnx")

    assert card.onnx_sha256 == files.sha256(tiny / "model.onnx")
    assert not any(module.training for module in network.modules())


def test_a_model_that_cannot_run_is_refused_and_leaves_no_file(read: Read, tmp_path: Path) -> None:
    """HRNet halves its input five times: a width of 48 does not come out even."""
    config = read(replace={"input_size=(32, 64)": "input_size=(48, 64)"})
    network = export.Network(mmpose.build_model(config, None))
    output = tmp_path / "models" / "model.onnx"

    text = refusal(export.write_graph, config, network, output)

    assert "config.py: cannot be exported to ONNX" in text
    assert list(output.parent.iterdir()) == []


def test_a_model_of_more_than_2_gib_is_refused(read: Read, tmp_path: Path) -> None:
    with torch.device("meta"):  # it has no values, so it takes no memory
        large = torch.nn.Sequential(torch.nn.Linear(23_200, 23_200), torch.nn.BatchNorm1d(1))

    text = refusal(export.write_graph, read(), export.Network(large), tmp_path / "model.onnx")

    assert "config.py: the model's weights are 2.01 GiB in fp32" in text
    assert "take a smaller model" in text


@pytest.mark.parametrize("more", [0, -1])
def test_the_limit_counts_every_weight_and_statistic(
    network: Any,
    read: Read,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: int,
) -> None:
    size = sum(value.nbytes for value in network.state_dict().values())
    monkeypatch.setattr(export, "LARGEST", size + more)

    if more:
        refusal(export.write_graph, read(), network, tmp_path / "model.onnx")
    else:
        export.write_graph(read(), network, tmp_path / "model.onnx")

    assert (tmp_path / "model.onnx").exists() == (not more)
    assert not list(tmp_path.glob("*.partial*"))


# --- the card -------------------------------------------------------------------------------------


def test_the_card_says_what_the_config_and_the_files_say(tiny: Path, card: ModelCard) -> None:
    state = torch.load(tiny / "weights.pth", weights_only=True)["state_dict"]
    statistics = ("running_mean", "running_var", "num_batches_tracked")

    assert card.name == "tiny"
    assert card.architecture == "HRNet + HeatmapHead"
    assert card.crop == Crop(height=64, width=32)
    assert card.input.shape == ["batch", 3, 64, 32]
    assert card.outputs[0].shape == ["batch", 17, 16, 8]
    assert card.channel_order == "RGB"
    assert card.mean == [123.675, 116.28, 103.53]
    assert card.std == [58.395, 57.12, 57.375]
    assert (card.codec.type, card.codec.sigma, card.codec.label) == ("MSRAHeatmap", 1, "plain")
    assert card.flip_shift
    assert card.origin.weights_sha256 == files.sha256(tiny / "weights.pth")
    assert card.onnx_sha256 == files.sha256(tiny / "model.onnx")
    assert card.trained
    assert (card.versions["onnx"], card.versions["torch"]) == (onnx.__version__, torch.__version__)
    assert card.opset == onnx_graph.read(tiny / "model.onnx").opset_import[0].version
    assert card.parameters == sum(
        tensor.numel() for name, tensor in state.items() if not name.endswith(statistics)
    )


def test_the_operations_are_those_of_the_graphs_convolutions(
    tiny: Path, card: ModelCard, network: Any
) -> None:
    """Each element of an output takes one multiplication per weight of its channel."""
    model = onnx.shape_inference.infer_shapes(onnx_graph.read(tiny / "fp32.onnx"))
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    shapes = {
        value.name: [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.value_info, *model.graph.output)
    }
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]

    by_hand = sum(
        math.prod(shapes[node.output[0]]) * math.prod(weights[node.input[1]][1:])
        for node in convolutions
    )

    assert len(convolutions) == 40
    assert card.macs == by_hand
    assert export.count_macs(network, 64, 64) == 2 * by_hand


def test_the_card_of_another_config_is_another_one(
    read: Read, describe: Callable[..., ModelCard]
) -> None:
    dark = describe(read(replace={
        "bgr_to_rgb=True": "bgr_to_rgb=False",
        "sigma=1": "sigma=2, unbiased=True, blur_kernel_size=17",
        "shift_heatmap=True": "shift_heatmap=False",
    }))  # fmt: skip
    assert (dark.channel_order, dark.flip_shift, dark.trained) == ("BGR", False, False)
    assert (dark.codec.sigma, dark.codec.unbiased, dark.codec.blur_kernel_size) == (2, True, 17)
    assert dark.codec.label == "dark"

    udp = describe(
        read("val_pipeline[2]['use_udp'] = True", replace={"MSRAHeatmap": "UDPHeatmap"}),
        "64x32-udp",
    )
    assert (udp.codec.type, udp.codec.label, udp.codec.channels) == ("UDPHeatmap", "udp", 1)
    assert udp.crop.udp


@pytest.mark.parametrize("crop", ["32x64", "64x32-udp", "64x32-pad1.1"])
def test_other_crops_than_the_model_takes_are_refused(
    read: Read, describe: Callable[..., ModelCard], crop: str
) -> None:
    text = refusal(describe, read(), crop)

    assert f"takes crops 64x32, but {crop} is planned; correct `models.tiny.crop`" in text


def test_other_heatmaps_than_the_config_says_are_refused(
    read: Read, describe: Callable[..., ModelCard]
) -> None:
    config = read(replace={"heatmap_size=(8, 16)": "heatmap_size=(16, 32)"})

    text = refusal(describe, config)

    assert (
        "heatmaps [17, 16, 8], but its keypoints and model.head.decoder give [17, 32, 16]" in text
    )


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "in_featuremap_size=(8, 16)",
            "in_featuremap_size=(4, 8)",
            "model.head.in_featuremap_size is (4, 8); expected the width and height of what the",
        ),
        (
            "simcc_split_ratio=2.0, final",
            "simcc_split_ratio=1.0, final",
            "the model gives simcc_x [17, 32], but its keypoints and model.head.decoder give [17,",
        ),
        (
            "normalize=False",
            "use_dark=True, sigma=0.5",
            "use_dark is True: Value error, it needs a",
        ),
        ("normalize=False", "sigma=(1, 2, 3)", "model.head.decoder: sigma"),
        ("normalize=False", "unbiased=True", "unexpected keyword argument 'unbiased'"),
        ('type="RTMCCHead"', 'type="HeatmapHead"', "but its decoder is SimCCLabel; expected MSRA"),
    ],
)
def test_a_simcc_config_that_contradicts_itself_is_refused(
    tmp_path: Path, run_stage: Callable[..., None], old: str, new: str, says: str
) -> None:
    path = tmp_path / "config.py"
    change = {old: new} if "sigma" not in new else {"sigma=(2.0, 2.8), ": "", old: new}
    path.write_text(replace_texts(TINY_SIMCC_CONFIG, change))

    text = refusal(
        run_stage, "export_onnx", "--name", "mine", "--config", path, "--crop", "64x32",
        "--output", tmp_path / "model.onnx", "--card", tmp_path / "model.json",
    )  # fmt: skip

    assert text.startswith(f"{path}: ")
    assert says in text


def test_the_card_of_a_simcc_model(tiny_simcc: Path) -> None:
    card = ModelCard.read(tiny_simcc / "model.json")

    assert card.architecture == "HRNet + RTMCCHead"
    assert [(one.name, one.shape) for one in card.outputs] == [
        ("simcc_x", ["batch", 17, 64]),
        ("simcc_y", ["batch", 17, 128]),
    ]
    assert card.codec.label == "simcc"
    assert card.codec.sigma == (2.0, 2.8)
    assert not card.flip_shift


LITE_HRNET = """\
    backbone=dict(
        type="LiteHRNet", in_channels=3, extra=dict(
            stem=dict(stem_channels=8, out_channels=8, expand_ratio=1), num_stages=1,
            stages_spec=dict(
                num_modules=(1,), num_branches=(2,), num_blocks=(1,), module_type=("LITE",),
                with_fuse=(True,), reduce_ratios=(2,), num_channels=((8, 16),)),
            with_head=True)),
"""
BODY = slice(TINY_CONFIG.index("    backbone=dict("), TINY_CONFIG.index("    head=dict("))


def test_lite_hrnets_pooling_to_a_size_read_off_a_tensor_is_exported(
    tmp_path: Path, run_stage: Callable[..., None]
) -> None:
    """PyTorch's exporter wants the size as a constant."""
    config, graph = tmp_path / "lite.py", tmp_path / "model.onnx"
    config.write_text(TINY_CONFIG[: BODY.start] + LITE_HRNET + TINY_CONFIG[BODY.stop :])

    run_stage(
        "export_onnx", "--name", "lite", "--config", config, "--crop", "64x32",
        "--output", graph, "--card", tmp_path / "model.json",
    )  # fmt: skip

    model = mmpose.build_model(mmpose.read_config(str(config)), None).eval()
    images = np.random.default_rng(0).normal(size=(3, 3, 64, 32)).astype(np.float32)
    with torch.inference_mode():
        wanted = mmpose.outputs(model, torch.from_numpy(images))[0].numpy()
    found = onnxruntime.InferenceSession(graph).run(None, {"input": images})[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
