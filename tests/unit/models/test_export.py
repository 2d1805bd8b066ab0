"""The exported graph computes what PyTorch computes, and its card says what it is."""

import math
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from hrnetpose import files
from hrnetpose.artifacts.model import Crop, ModelCard
from hrnetpose.graphs import onnx_graph
from hrnetpose.models import export, mmpose
from hrnetpose.stage import StageError


@pytest.fixture(scope="module")
def card(tiny: Path) -> ModelCard:
    return ModelCard.read(tiny / "model.json")


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_graph_computes_what_pytorch_computes(
    tiny: Path, card: ModelCard, network: Any, batch: int
) -> None:
    images = onnx_graph.fixed_inputs(card, batch)
    with torch.inference_mode():
        expected = network(torch.from_numpy(images)).numpy()

    found = onnx_graph.run(tiny / "model.onnx", images)

    assert found.shape == (batch, 17, 16, 8)
    assert onnx_graph.relative_error(found, expected) < 1e-5


def test_the_heatmaps_depend_on_the_image(tiny: Path, card: ModelCard) -> None:
    """Otherwise the test above would prove nothing."""
    images = onnx_graph.fixed_inputs(card, 2)
    found = onnx_graph.run(tiny / "model.onnx", images)

    assert onnx_graph.relative_error(found[:1], found[1:]) > 0.1


def test_the_same_model_gives_the_same_file(tiny: Path, network: Any, tmp_path: Path) -> None:
    config = mmpose.read_config(str(tiny / "config.py"))

    export.export(config, network, tmp_path / "again.onnx")

    assert files.sha256(tmp_path / "again.onnx") == files.sha256(tiny / "model.onnx")


def test_the_network_stays_in_evaluation_mode(tiny: Path, network: Any, tmp_path: Path) -> None:
    """In training mode, each image would change what the next one gives."""
    config = mmpose.read_config(str(tiny / "config.py"))

    export.export(config, network, tmp_path / "again.onnx")

    assert not any(module.training for module in network.modules())


def test_the_card_says_what_the_config_says(tiny: Path, card: ModelCard) -> None:
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


def test_the_card_carries_hashes_and_versions(tiny: Path, card: ModelCard) -> None:
    assert card.weights_sha256 == files.sha256(tiny / "weights.pth")
    assert card.onnx_sha256 == files.sha256(tiny / "model.onnx")
    assert card.trained
    assert card.versions["onnx"] == onnx.__version__
    assert card.versions["torch"] == torch.__version__
    assert card.opset == onnx_graph.read(tiny / "model.onnx").opset_import[0].version


def test_the_parameters_are_those_of_the_checkpoint(tiny: Path, card: ModelCard) -> None:
    state = torch.load(tiny / "weights.pth", weights_only=True)["state_dict"]
    statistics = ("running_mean", "running_var", "num_batches_tracked")

    assert card.parameters == sum(
        tensor.numel() for name, tensor in state.items() if not name.endswith(statistics)
    )


def test_the_operations_are_those_of_the_graphs_convolutions(tiny: Path, card: ModelCard) -> None:
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


def test_twice_the_area_takes_twice_the_operations(card: ModelCard, network: Any) -> None:
    assert export.macs(network, 64, 32) == card.macs
    assert export.macs(network, 64, 64) == 2 * card.macs


def changed(tiny: Path, folder: Path, *replacements: tuple[str, str]) -> Any:
    """The small model's config with some text replaced."""
    text = (tiny / "config.py").read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    (folder / "config.py").write_text(text)
    return mmpose.read_config(str(folder / "config.py"))


def card_of(config: Any, tiny: Path, network: Any, crop: Crop | None = None) -> ModelCard:
    crop = crop or Crop(height=64, width=32)
    return export.card("tiny", "config.py", config, crop, network, None, tiny / "model.onnx")


def test_without_weights_a_model_is_untrained(tiny: Path, network: Any, tmp_path: Path) -> None:
    assert not card_of(changed(tiny, tmp_path), tiny, network).trained


def test_the_card_of_another_config_is_another_one(
    tiny: Path, network: Any, tmp_path: Path
) -> None:
    config = changed(
        tiny, tmp_path,
        ("bgr_to_rgb=True", "bgr_to_rgb=False"),
        ("sigma=1", "sigma=2, unbiased=True, blur_kernel_size=17"),
        ("shift_heatmap=True", "shift_heatmap=False"),
    )  # fmt: skip

    card = card_of(config, tiny, network)

    assert card.channel_order == "BGR"
    assert (card.codec.sigma, card.codec.unbiased, card.codec.blur_kernel_size) == (2, True, 17)
    assert card.codec.label == "dark"
    assert not card.flip_shift


def test_the_card_of_a_udp_model_says_so(tiny: Path, network: Any, tmp_path: Path) -> None:
    config = changed(
        tiny, tmp_path,
        ('type="MSRAHeatmap"', 'type="UDPHeatmap"'),
        ('input_size=codec["input_size"])', 'input_size=codec["input_size"], use_udp=True)'),
    )  # fmt: skip

    card = card_of(config, tiny, network, Crop(height=64, width=32, udp=True))

    assert (card.codec.type, card.codec.label, card.codec.channels) == ("UDPHeatmap", "udp", 1)
    assert card.crop.udp


def test_a_head_without_udps_offsets_is_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="the head has 17 heatmaps, but its dataset has 17 key"):
        changed(
            tiny, tmp_path,
            ('type="MSRAHeatmap"', 'type="UDPHeatmap", heatmap_type="combined"'),
            ('flip_mode="heatmap"', 'flip_mode="udp_combined"'),
        )  # fmt: skip


@pytest.mark.parametrize("crop", ["32x64", "64x32-udp", "64x32-pad1.1"])
def test_other_crops_than_the_model_takes_are_refused(
    tiny: Path, network: Any, tmp_path: Path, crop: str
) -> None:
    with pytest.raises(StageError, match=f"takes crops 64x32, but {crop} is planned; correct"):
        card_of(changed(tiny, tmp_path), tiny, network, Crop.parse(crop))


def test_a_head_for_other_keypoints_is_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="the head has 17 heatmaps, but its dataset has 14 key"):
        changed(tiny, tmp_path, ('"CocoDataset"', '"CrowdPoseDataset"'))


def test_a_model_that_cannot_run_is_refused_and_leaves_no_file(tiny: Path, tmp_path: Path) -> None:
    """HRNet halves its input five times: a width of 48 does not come out even."""
    config = changed(tiny, tmp_path, ("input_size=(32, 64)", "input_size=(48, 64)"))
    network = export.HeatmapNetwork(mmpose.build_model(config, None))
    output = tmp_path / "models" / "model.onnx"

    with pytest.raises(StageError, match=r"config\.py: cannot be exported to ONNX"):
        export.export(config, network, output)
    assert list(output.parent.iterdir()) == []


def test_a_model_of_more_than_2_gib_is_refused_and_leaves_no_file(
    tiny: Path, network: Any, tmp_path: Path
) -> None:
    config = mmpose.read_config(str(tiny / "config.py"))
    with torch.device("meta"):  # which has no values, so it takes no memory
        large = torch.nn.Sequential(torch.nn.Linear(23_200, 23_200), torch.nn.BatchNorm1d(1))

    with pytest.raises(StageError, match=r"config\.py: the model's weights are 2\.01 GiB in fp32"):
        export.export(config, export.HeatmapNetwork(large), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("more", "written"), [(0, True), (-1, False)])
def test_the_limit_counts_every_weight_and_statistic(
    tiny: Path,
    network: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: int,
    written: bool,
) -> None:
    config = mmpose.read_config(str(tiny / "config.py"))
    size = sum(value.nbytes for value in network.state_dict().values())
    monkeypatch.setattr(export, "LARGEST", size + more)

    if written:
        export.export(config, network, tmp_path / "model.onnx")
    else:
        with pytest.raises(StageError, match="take a smaller model"):
            export.export(config, network, tmp_path / "model.onnx")

    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"] * written
