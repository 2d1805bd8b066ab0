"""An ONNX file alone becomes what an export is: the same graph, the same card."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

from hrnetpose.artifacts.engine import EngineCard
from hrnetpose.artifacts.model import Crop, HeatmapCodec, ModelCard
from hrnetpose.artifacts.simplification import Simplification
from hrnetpose.graphs import half_precision, onnx_graph
from support import refusal

CARD = {
    "mean": [123.675, 116.28, 103.53],
    "std": [58.395, 57.12, 57.375],
    "channel_order": "RGB",
    "codec": {"type": "MSRAHeatmap", "sigma": 1.0},
    "keypoints": "coco",
    "flip_shift": True,
}
"""What the small model's config says."""
Edit = Callable[[onnx.ModelProto], Any]
Bring = Callable[..., ModelCard]


@pytest.fixture
def graph(tiny: Path) -> onnx.ModelProto:
    """The small model's graph, which says nothing of itself."""
    model = onnx.load(tiny / "fp32.onnx")
    del model.metadata_props[:]
    return model


@pytest.fixture
def bring(tmp_path: Path, run_stage: Callable[..., None]) -> Bring:
    """Import a graph, which is written first, or a path; return its card."""

    def bring(given: onnx.ModelProto | Path, card: dict[str, Any] = CARD, **more: Any) -> ModelCard:
        path = given if isinstance(given, Path) else tmp_path / "given.onnx"
        if not isinstance(given, Path):
            onnx.save(given, path)
        card = {key: value for key, value in (card | more).items() if value is not None}
        run_stage(
            "import_onnx", "--name", "mine", "--onnx", path, "--crop", "64x32",
            "--given", json.dumps(card),
            "--output", tmp_path / "model.onnx", "--card", tmp_path / "model.json",
        )  # fmt: skip
        return ModelCard.read(tmp_path / "model.json")

    return bring


def images(count: int = 3) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(count, 3, 64, 32)).astype(np.float32)


def heatmaps(path: Path, batch: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["input"]
    return session.run(["heatmaps"], {"input": batch})[0]


@pytest.fixture
def expected(tiny: Path) -> np.ndarray:
    return heatmaps(tiny / "fp32.onnx", images())


def test_an_export_of_this_project_needs_no_card(bring: Bring, tiny: Path, tmp_path: Path) -> None:
    made, exported = bring(tiny / "model.onnx", {}), ModelCard.read(tiny / "model.json")

    # The exporter folds normalisation layers.
    own = {"name", "origin", "onnx_sha256", "versions", "parameters"}
    assert made.model_dump(exclude=own) == exported.model_dump(exclude=own)
    assert made.origin.sources["mean"] == "metadata_props"
    assert np.array_equal(
        heatmaps(tmp_path / "model.onnx", images()), heatmaps(tiny / "model.onnx", images())
    )


def test_what_nothing_says_is_asked_for_by_name(bring: Bring, graph: onnx.ModelProto) -> None:
    said = refusal(bring, graph, {})

    assert "nothing says mean, std, channel_order, codec, keypoints; give them" in said
    assert "card: {mean: [123.675, 116.28, 103.53], std:" in said
    assert "nothing says codec; give it" in refusal(bring, graph, codec=None)


def test_the_card_goes_over_what_the_file_says(bring: Bring, tiny: Path) -> None:
    made = bring(tiny / "model.onnx", {"mean": [1, 2, 3], "codec": {"unbiased": True}})

    assert made.mean == [1, 2, 3]
    assert (made.codec.unbiased, made.codec.sigma) == (True, 1.0)
    assert made.origin.sources["codec"] == "card, metadata_props"


# --- forms of a graph -----------------------------------------------------------------------------


def rename_ends(model: onnx.ModelProto) -> None:
    """Name the ends as others do, and something inside as the card's."""
    names = {"input": "data", "heatmaps": "output0", model.graph.node[0].output[0]: "heatmaps"}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    model.graph.input[0].name, model.graph.output[0].name = "data", "output0"


def take_nhwc(model: onnx.ModelProto) -> None:
    move_input(model)
    transpose = helper.make_node("Transpose", ["input"], ["inner"], perm=[0, 3, 1, 2])
    model.graph.node.insert(0, transpose)
    declare_input(model, ["n", 64, 32, 3])


def give_nhwc(model: onnx.ModelProto) -> None:
    move_output(model)
    node = helper.make_node("Transpose", ["inner_maps"], ["heatmaps"], perm=[0, 2, 3, 1])
    model.graph.node.append(node)
    declare_output(model, ["n", 16, 8, 17])


def take_old_dimensions(size: int) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].ClearField("dim_param")
            value.type.tensor_type.shape.dim[0].dim_value = size

    return edit


def hide_shapes(model: onnx.ModelProto) -> None:
    """Declare names for all dimensions, as some exporters do."""
    declare_input(model, ["b", "c", "h", "w"])
    declare_output(model, ["b", "k", "y", "x"])


def fix_batch(model: onnx.ModelProto) -> None:
    declare_input(model, [1, 3, 64, 32])
    declare_output(model, [1, 17, 16, 8])


def fix_batch_inside(model: onnx.ModelProto) -> None:
    """Reshape to a batch of one twice: with a size to work out, and without."""
    fix_batch(model)
    move_output(model)
    for number, (source, target, shape) in enumerate(
        [("inner_maps", "flat", [1, 17, -1]), ("flat", "heatmaps", [1, 17, 16, 8])]
    ):
        tensor = numpy_helper.from_array(np.array(shape), f"shape{number}")
        model.graph.initializer.append(tensor)
        node = helper.make_node("Reshape", [source, f"shape{number}"], [target])
        model.graph.node.append(node)


def lie_about_the_batch(model: onnx.ModelProto) -> None:
    fix_batch_inside(model)
    declare_input(model, ["batch", 3, 64, 32])
    declare_output(model, ["batch", 17, 16, 8])


def give_argmax(model: onnx.ModelProto) -> None:
    shape = numpy_helper.from_array(np.array([0, 17, -1]), "flat_shape")
    model.graph.initializer.append(shape)
    model.graph.node.extend([
        helper.make_node("Reshape", ["heatmaps", "flat_shape"], ["flat"]),
        helper.make_node("ArgMax", ["flat"], ["argmax"], axis=2, keepdims=0),
    ])  # fmt: skip
    model.graph.output.append(helper.make_tensor_value_info("argmax", TensorProto.INT64, ["n", 17]))


def write_as_of_old(model: onnx.ModelProto) -> None:
    """Weights that are inputs, too, and IR version 3."""
    model.ir_version = 3
    for tensor in model.graph.initializer:
        value = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.input.append(value)


def keep_weights_in_nodes(model: onnx.ModelProto) -> None:
    """Write weights as constants, as Paddle's converter does."""
    for tensor in model.graph.initializer:
        model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    del model.graph.initializer[:]


def define_functions(model: onnx.ModelProto) -> None:
    """Put each convolution into a function, as PyTorch's exporters can."""
    opsets = [helper.make_opsetid("", onnx_graph.opset_of(model))]
    for number, node in enumerate(model.graph.node):
        if node.op_type == "Conv":
            model.functions.append(
                helper.make_function("mine", f"Block{number}", node.input, node.output, [node],
                                     opsets)
            )  # fmt: skip
            call = helper.make_node(f"Block{number}", node.input, node.output, domain="mine")
            node.CopyFrom(call)
    model.opset_import.append(helper.make_opsetid("mine", 1))


def use_names_of_an_import(model: onnx.ModelProto) -> None:
    """Have names inside that an import gives to what it puts around a graph."""
    taken = ["input_inside", "heatmaps_inside", "heatmaps", "shape_0", "heatmaps_shape"]
    inner = [node.output[0] for node in model.graph.node[:-1]]
    names = {"heatmaps": "maps", **dict(zip(inner, taken, strict=False))}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    model.graph.output[0].name = "maps"


def give_a_sequence(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("SequenceConstruct", ["heatmaps"], ["list"]))
    value = helper.make_tensor_sequence_value_info("list", TensorProto.FLOAT, None)
    model.graph.output.append(value)


def move_input(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.input[:] = ["inner" if name == "input" else name for name in node.input]


def move_output(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.output[:] = ["inner_maps" if name == "heatmaps" else name for name in node.output]
        node.input[:] = ["inner_maps" if name == "heatmaps" else name for name in node.input]


def declare_input(model: onnx.ModelProto, shape: list[Any], kind: int = TensorProto.FLOAT) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("input", kind, shape))


def declare_output(model: onnx.ModelProto, shape: list[Any]) -> None:
    value = helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, shape)
    model.graph.output[0].CopyFrom(value)


@pytest.mark.parametrize(
    ("edit", "more"),
    [
        (rename_ends, {}),
        (take_nhwc, {}),
        (give_nhwc, {}),
        (take_old_dimensions(0), {}),
        (take_old_dimensions(-1), {}),
        (hide_shapes, {"crop": "64x32"}),
        (fix_batch, {}),
        (fix_batch_inside, {}),
        (lie_about_the_batch, {}),
        (give_argmax, {}),
        (write_as_of_old, {}),
        (keep_weights_in_nodes, {}),
        (define_functions, {}),
        (use_names_of_an_import, {}),
        (give_a_sequence, {}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_graph_of_another_form_gives_the_same(
    bring: Bring, graph: onnx.ModelProto, expected: np.ndarray, tmp_path: Path,
    edit: Edit, more: dict[str, Any],
) -> None:  # fmt: skip
    edit(graph)

    made = bring(graph, **more)

    assert made.input.shape == ["batch", 3, 64, 32]
    assert made.outputs[0].shape == ["batch", 17, 16, 8]
    assert (made.fixed_batch, made.precision) == (None, "fp32")
    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)
    assert heatmaps(tmp_path / "model.onnx", images()) == pytest.approx(expected, abs=1e-5)


def test_what_an_import_wrote_can_be_imported(
    bring: Bring, graph: onnx.ModelProto, tmp_path: Path
) -> None:
    take_nhwc(graph)
    give_nhwc(graph)
    first = bring(graph)
    expected = heatmaps(tmp_path / "model.onnx", images())
    (tmp_path / "model.onnx").rename(tmp_path / "first.onnx")

    second = bring(tmp_path / "first.onnx", {})

    assert np.array_equal(heatmaps(tmp_path / "model.onnx", images()), expected)
    assert (second.parameters, second.macs) == (first.parameters, first.macs)


def test_outputs_that_are_not_used_are_said(bring: Bring, graph: onnx.ModelProto) -> None:
    give_argmax(graph)

    assert bring(graph).notes == ["outputs that are not used: argmax int64 [?, 17]"]


def test_of_two_outputs_that_fit_one_is_asked_for(
    bring: Bring, graph: onnx.ModelProto, expected: np.ndarray, tmp_path: Path
) -> None:
    graph.graph.node.append(helper.make_node("Neg", ["heatmaps"], ["earlier"]))
    value = helper.make_tensor_value_info("earlier", TensorProto.FLOAT, ["n", 17, 16, 8])
    graph.graph.output.insert(0, value)

    said = refusal(bring, graph)
    assert "several outputs fit an output [batch, 17, ?, ?]: earlier; heatmaps" in said
    assert "card: {outputs: [earlier]}" in said

    bring(graph, outputs=["heatmaps"])
    assert heatmaps(tmp_path / "model.onnx", images()) == pytest.approx(expected, abs=1e-5)
    assert "the graph's outputs are" in refusal(bring, graph, outputs=["later"])


def test_a_graph_with_a_pixel_input_takes_whole_numbers(
    bring: Bring, tiny: Path, graph: onnx.ModelProto, tmp_path: Path
) -> None:
    pixels = onnx_graph.with_pixel_input(graph, ModelCard.read(tiny / "model.json"))

    assert "normalises them itself" in refusal(bring, pixels)

    bring(pixels, mean=[0, 0, 0], std=[1, 1, 1])
    crops = np.random.default_rng(1).integers(0, 256, (2, 64, 32, 3)).astype(np.float32)
    mean, std = np.array(CARD["mean"], np.float32), np.array(CARD["std"], np.float32)
    normalised = ((crops - mean) / std).transpose(0, 3, 1, 2)
    given = np.ascontiguousarray(crops.transpose(0, 3, 1, 2))
    assert heatmaps(tmp_path / "model.onnx", given) == pytest.approx(
        heatmaps(tiny / "fp32.onnx", np.ascontiguousarray(normalised)), abs=1e-5
    )


# --- a batch that stays ---------------------------------------------------------------------------


def squeeze_batch(model: onnx.ModelProto) -> None:
    fix_batch(model)
    move_output(model)
    model.graph.initializer.append(numpy_helper.from_array(np.array([17, 16, 8]), "whole"))
    model.graph.node.append(helper.make_node("Reshape", ["inner_maps", "whole"], ["heatmaps"]))
    declare_output(model, [17, 16, 8])


def test_a_batch_that_a_graph_holds_inside_is_kept_by_engines(
    bring: Bring, graph: onnx.ModelProto, expected: np.ndarray, tmp_path: Path, run_stage: Any
) -> None:
    squeeze_batch(graph)

    made = bring(graph)

    assert (made.fixed_batch, made.outputs[0].shape) == (1, [1, 17, 16, 8])
    assert "batches of 1 and no other" in made.notes[0]
    run_stage(
        "simplify_onnx", "--model", tmp_path / "model.onnx", "--card", tmp_path / "model.json",
        "--output", tmp_path / "simplified.onnx", "--summary", tmp_path / "simplified.json",
    )  # fmt: skip
    for backend in ("openvino", "onnxruntime"):
        run_stage(
            "build_engine", "--variant", backend, "--backend", backend, "--precision", "fp32",
            "--graph", tmp_path / "simplified.onnx", "--card", tmp_path / "model.json",
            "--batch", "8", "--output", tmp_path / backend,
        )  # fmt: skip
        card = EngineCard.read(tmp_path / backend / "engine.json")
        assert card.batch == 1


# --- precisions ---------------------------------------------------------------------------------


def halve_wholly(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph in fp16 with inputs and outputs in fp16, too."""
    half = half_precision.to_fp16(model)
    nodes = [node for node in half.graph.node if node.op_type != "Cast"]
    del half.graph.node[:]
    half.graph.node.extend(nodes)
    for value in (*half.graph.input, *half.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
        for node in half.graph.node:
            for names in (node.input, node.output):
                names[:] = [value.name if n == f"{value.name}_half" else n for n in names]
    return half


@pytest.mark.parametrize("convert", [half_precision.to_fp16, halve_wholly])
def test_a_graph_in_fp16_is_labelled_so_and_nothing_else_is_made_of_it(
    bring: Bring, graph: onnx.ModelProto, expected: np.ndarray, tmp_path: Path, run_stage: Any,
    convert: Callable[..., onnx.ModelProto],
) -> None:  # fmt: skip
    made = bring(convert(graph))

    assert made.precision == "fp16"
    found = heatmaps(tmp_path / "model.onnx", images())
    assert found.dtype == np.float32
    assert onnx_graph.relative_error(found, expected) < 0.01
    command = ("convert_precision", "--model", tmp_path / "model.onnx", "--output")
    said = refusal(run_stage, *command, tmp_path / "fp32.onnx", "--precision", "fp32")
    assert "it holds fp16, so there is no fp32 of it; ask for `precision: fp16`" in said
    run_stage(*command, tmp_path / "fp16.onnx", "--precision", "fp16")
    assert np.array_equal(heatmaps(tmp_path / "fp16.onnx", images()), found)


@pytest.mark.parametrize(("file", "held"), [("int8.onnx", "int8"), ("fp8.onnx", "fp8")])
def test_a_graph_that_is_quantised_stays_as_it_is(
    bring: Bring, tiny: Path, tmp_path: Path, run_stage: Any, file: str, held: str
) -> None:
    model = onnx.load(tiny / file)
    del model.metadata_props[:]

    assert bring(model).precision == held

    run_stage(
        "simplify_onnx", "--model", tmp_path / "model.onnx", "--card", tmp_path / "model.json",
        "--output", tmp_path / "simplified.onnx", "--summary", tmp_path / "simplified.json",
    )  # fmt: skip
    assert "onnxsim would fold" in Simplification.read(tmp_path / "simplified.json").reason
    kinds = [
        [node.op_type for node in onnx.load(path).graph.node if "Quantize" in node.op_type]
        for path in (tiny / file, tmp_path / "simplified.onnx")
    ]
    assert kinds[0] == kinds[1]
    said = refusal(
        run_stage, "quantize_fp8", "--model", tmp_path / "simplified.onnx",
        "--card", tmp_path / "model.json", "--crops", tiny / "crops.npy",
        "--output", tmp_path / "fp8.onnx",
    )  # fmt: skip
    assert f"holds {held} already" in said


# --- files ----------------------------------------------------------------------------------------


def test_weights_beside_the_file_are_found(
    bring: Bring, graph: onnx.ModelProto, expected: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "wide").mkdir()
    given = tmp_path / "wide/given.onnx"
    onnx.save(graph, given, save_as_external_data=True, location="given.data", size_threshold=0)

    bring(given)
    assert heatmaps(tmp_path / "model.onnx", images()) == pytest.approx(expected, abs=1e-5)
    assert not list(tmp_path.glob("*.data"))

    archive = tmp_path / "given.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in given.parent.iterdir():
            file.write(path, f"export/{path.name}")
    bring(archive)
    assert heatmaps(tmp_path / "model.onnx", images()) == pytest.approx(expected, abs=1e-5)

    (given.parent / "given.data").rename(tmp_path / "blob")
    assert "its weights are in given.data, which is not beside it" in refusal(bring, given)
    for link in (os.symlink, os.link):  # as Hugging Face's cache has them, and copies that share
        link(tmp_path / "blob", given.parent / "given.data")
        assert "given.data, which is a link, as in a cache; ONNX reads" in refusal(bring, given)
        (given.parent / "given.data").unlink()


def test_weights_elsewhere_are_refused(
    bring: Bring, graph: onnx.ModelProto, tmp_path: Path
) -> None:
    onnx.save(graph, tmp_path / "given.onnx", save_as_external_data=True, location="x.data",
              size_threshold=0)  # fmt: skip
    content = (tmp_path / "given.onnx").read_bytes()
    (tmp_path / "given.onnx").write_bytes(content.replace(b"x.data", b"../x.d"))

    assert "expected a file beside it" in refusal(bring, tmp_path / "given.onnx")


def test_a_zip_or_a_folder_has_one_onnx_file(
    bring: Bring, graph: onnx.ModelProto, tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    assert "expected one ONNX file in it" in refusal(bring, folder)
    onnx.save(graph, folder / "a.onnx")
    onnx.save(graph, folder / "b.onnx")
    assert "it has a.onnx, b.onnx; give the path of the file" in refusal(bring, folder)
    (folder / "deploy.json").write_text(json.dumps({"models": [{"net": "b.onnx"}]}))
    assert bring(folder).precision == "fp32"
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as file:
        file.writestr("readme.txt", "nothing")
    assert "it has no such folders" in refusal(bring, tmp_path / "none.zip")
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x07nothing")
    assert "not an ONNX model" in refusal(bring, tmp_path / "broken.onnx")


# --- mmdeploy -------------------------------------------------------------------------------------


def pipeline(decode: str, params: dict[str, Any], size: list[int], **affine: Any) -> dict[str, Any]:
    """Return mmdeploy's pipeline.json."""
    transforms = [
        {"type": "LoadImageFromFile"},
        {"type": "TopDownGetBboxCenterScale", "padding": 1.5, "image_size": size},
        {"type": "TopDownAffine", "image_size": size, **affine},
        {"type": "Normalize", "mean": [1, 2, 3], "std": [4, 5, 6], "to_rgb": False},
        {"type": "Collect"},
    ]
    tasks = [
        {"module": "Transform", "transforms": transforms},
        {"module": "Net", "input_map": {"img": "input"}},
        {"module": "mmpose", "component": decode, "params": params},
    ]
    return {"pipeline": {"tasks": tasks}}


HEATMAPS = "TopdownHeatmapSimpleHeadDecode"


@pytest.mark.parametrize(
    ("params", "affine", "crop", "codec"),
    [
        ({"post_process": "default", "shift_heatmap": True}, {}, "64x32-pad1.5",
         {"type": "MSRAHeatmap", "sigma": 2.0}),
        ({"post_process": "unbiased", "modulate_kernel": 17}, {}, "64x32-pad1.5",
         {"type": "MSRAHeatmap", "sigma": 2.0, "unbiased": True, "blur_kernel_size": 17}),
        ({"post_process": "default", "use_udp": True, "modulate_kernel": 11}, {"use_udp": True},
         "64x32-pad1.5-udp", {"type": "UDPHeatmap", "sigma": 2.0}),
        ({"post_process": "megvii", "modulate_kernel": 15}, {}, "64x32-pad1.5",
         {"type": "MegviiHeatmap", "sigma": 2.0, "blur_kernel_size": 15}),
        ({"type": "MSRAHeatmap", "input_size": [32, 64], "sigma": 3, "unbiased": True}, {},
         "64x32-pad1.5", {"type": "MSRAHeatmap", "sigma": 3, "unbiased": True}),
    ],
)  # fmt: skip
def test_an_mmdeploy_export_says_how_it_is_used(
    bring: Bring, graph: onnx.ModelProto, tmp_path: Path, run_stage: Any,
    params: dict[str, Any], affine: dict[str, Any], crop: str, codec: dict[str, Any],
) -> None:  # fmt: skip
    folder = tmp_path / "export"
    folder.mkdir()
    onnx.save(graph, folder / "end2end.onnx")
    content = pipeline(HEATMAPS, params, [32, 64], **affine)
    (folder / "pipeline.json").write_text(json.dumps(content))

    run_stage(
        "import_onnx", "--name", "mine", "--onnx", folder, "--crop", crop,
        "--given", json.dumps({"keypoints": "coco"}),
        "--output", tmp_path / "model.onnx", "--card", tmp_path / "model.json",
    )  # fmt: skip

    made = ModelCard.read(tmp_path / "model.json")
    assert (made.mean, made.std, made.channel_order) == ([1, 2, 3], [4, 5, 6], "BGR")
    assert made.crop == Crop.parse(crop)
    assert made.codec == HeatmapCodec(**codec)
    assert made.flip_shift == params.get("shift_heatmap", False)
    assert made.origin.sources["mean"] == "pipeline.json"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"detail.json": {"codebase": {"task": "ObjectDetection"}}},
         "codebase.task is 'ObjectDetection'; expected PoseDetection"),
        ({"pipeline.json": pipeline("DeepposeRegressionHeadDecode", {}, [32, 64])},
         "the last step is 'DeepposeRegressionHeadDecode'; supported"),
        ({"pipeline.json": pipeline(HEATMAPS, {"post_process": None}, [32, 64])},
         "post_process is None; supported: default"),
        ({"pipeline.json": pipeline(HEATMAPS, {}, [48, 64])},
         "card.crop (from pipeline.json): width is 48, but the graph's input"),
        ({"pipeline.json": {"pipeline": {"tasks": [{"module": "mmdet"}]}}},
         "a step is of 'mmdet'; expected mmpose"),
        ({"pipeline.json": {"pipeline": {"tasks": [
            {"module": "Transform", "transforms": [{"type": "Resize"}]}]}}},
         "has the step 'Resize'; supported"),
        ({"pipeline.json": [1]}, "pipeline.json: [1]; expected a section"),
        ({"pipeline.json": pipeline(HEATMAPS, {"post_process": [1]}, [32, 64])},
         "post_process is [1]; supported: default"),
    ],
)  # fmt: skip
def test_an_export_of_something_else_is_refused(
    bring: Bring, graph: onnx.ModelProto, tmp_path: Path, files: dict[str, Any], said: str
) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    onnx.save(graph, folder / "end2end.onnx")
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))

    assert said in refusal(bring, folder, {"keypoints": "coco"})


def test_names_of_keypoints_are_asked_for_with_a_hint(
    bring: Bring, graph: onnx.ModelProto, tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    onnx.save(graph, folder / "end2end.onnx")
    detail = {"codebase": {"task": "PoseDetection", "config": "aic/hrnet_w32_aic_256x192.py"}}
    (folder / "detail.json").write_text(json.dumps(detail))

    said = refusal(bring, folder, keypoints=None)

    assert "nothing says keypoints (detail.json: exported from hrnet_w32_aic_256x192.py)" in said


# --- contradictions -------------------------------------------------------------------------------

FULL = {
    "names": [f"k{n}" for n in range(17)],
    "flip_indices": list(range(17)),
    "sigmas": [0.05] * 17,
    "skeleton": [[0, 1]],
}


def test_a_keypoint_set_is_a_name_or_given_in_full(bring: Bring, graph: onnx.ModelProto) -> None:
    metainfo = {
        "dataset_name": "mine",
        "keypoint_info": {n: {"name": f"k{n}", "swap": ""} for n in range(17)},
        "skeleton_info": {0: {"link": ("k0", "k1")}},
        "joint_weights": [1.0] * 17,
        "sigmas": [0.05] * 17,
    }
    assert bring(graph).keypoints.names[0] == "nose"
    first, second = bring(graph, keypoints=FULL), bring(graph, keypoints=metainfo)
    assert first.keypoints.names == second.keypoints.names == FULL["names"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"keypoints": "aic"}, "14 keypoints, MSRAHeatmap and crops 64x32 need an output [batch, "
         "14, ?, ?]; it has heatmaps float32 [?, 17, 16, 8]"),
        ({"keypoints": "cocoo"}, "'cocoo'; mmpose has no keypoint set of that name (did you mean "
         "coco?)"),
        ({"keypoints": "../coco"}, "mmpose has no keypoint set of that name"),
        ({"keypoints": FULL | {"flip_indices": [0]}}, "flip_indices is not a permutation"),
        ({"crop": "128x96"}, "card.crop (from card): height is 128, but the graph's input"),
        ({"codec": {"type": "SimCCLabel", "simcc_split_ratio": 2.0}}, "SimCCLabel"),
        ({"codec": {"type": "RegressionLabel"}}, "card.codec (from card)"),
        ({"codec": {"type": "MSRAHeatmap", "sigm": 2}}, "sigm"),
        ({"codec": {"type": "UDPHeatmap", "heatmap_type": "combined"}, "crop": "64x32"},
         "need an output [batch, 51, ?, ?]"),
        ({"outputs": ["other"]}, "card.outputs (from card) is ['other']; the graph's outputs"),
        ({"input": "other"}, "it has input float32 [?, 3, 64, 32]"),
        ({"evaluation": {"nms_thr": "high"}}, "card.evaluation (from card): nms_thr"),
    ],
)  # fmt: skip
def test_a_card_that_contradicts_the_graph_is_refused(
    bring: Bring, graph: onnx.ModelProto, more: dict[str, Any], said: str
) -> None:
    assert said in refusal(bring, graph, **more)


def test_a_crop_that_is_not_the_planned_one_is_refused(
    bring: Bring, graph: onnx.ModelProto
) -> None:
    said = refusal(bring, graph, crop="64x32-pad1.1")

    assert "takes crops 64x32-pad1.1, but 64x32 is planned" in said


def test_what_a_file_says_of_itself_is_checked_too(bring: Bring, graph: onnx.ModelProto) -> None:
    for content, said in (("[1]", "expected a model card"), ('{"std": [0, 1, 1]}', "std")):
        helper.set_model_props(graph, {"model_card": content})
        assert said in refusal(bring, graph, {**CARD, "std": None})


@pytest.mark.parametrize(
    ("props", "said"),
    [
        ({"codec": "[1]"}, "card.codec (from metadata_props) is [1]; expected a section"),
        ({"codec": '{"type": ["x"]}'}, "card.codec (from metadata_props) is {'type': ['x']}"),
        ({"model_card": '{"crop": "64x32"}'}, "card.crop (from metadata_props) is '64x32'"),
        ({"mean": f"[1{'0' * 400}, 1, 1]"}, "card.mean (from metadata_props) is [1"),
        ({"mean": "[0.485, 0.456, 0.406]", "std": "[0.229, 0.224, 0.225]"},
         "card.std (from metadata_props) is [0.229, 0.224, 0.225], which is of pixels from 0 to 1"),
    ],
)  # fmt: skip
def test_what_a_file_says_of_itself_in_another_form_is_refused(
    bring: Bring, graph: onnx.ModelProto, props: dict[str, str], said: str
) -> None:
    usual = {"mean": "[1, 2, 3]", "std": "[1, 2, 3]", "codec": '{"type": "MSRAHeatmap"}'}
    helper.set_model_props(graph, usual | props)

    assert said in refusal(bring, graph, mean=None, std=None, codec={"sigma": 1.0})


def transpose_heatmaps(model: onnx.ModelProto) -> None:
    move_output(model)
    node = helper.make_node("Transpose", ["inner_maps"], ["heatmaps"], perm=[0, 1, 3, 2])
    model.graph.node.append(node)
    declare_output(model, ["n", 17, 8, 16])


def normalise_by_the_batch(model: onnx.ModelProto) -> None:
    move_output(model)
    names = ["scale", "bias", "mean", "var"]
    model.graph.initializer.extend(
        numpy_helper.from_array(np.ones(17, np.float32), name) for name in names
    )
    outputs = ["heatmaps", "running_mean", "running_var"]
    node = helper.make_node("BatchNormalization", ["inner_maps", *names], outputs, training_mode=1)
    model.graph.node.append(node)


def drop_out(model: onnx.ModelProto) -> None:
    move_output(model)
    model.graph.initializer.extend([
        numpy_helper.from_array(np.array(0.5, np.float32), "ratio"),
        numpy_helper.from_array(np.array(True), "trains"),
    ])  # fmt: skip
    node = helper.make_node("Dropout", ["inner_maps", "ratio", "trains"], ["heatmaps"])
    model.graph.node.append(node)


def give_only_a_sequence(model: onnx.ModelProto) -> None:
    give_a_sequence(model)
    del model.graph.output[0]


def lay_out_for_one_cpu(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "Conv").domain = "com.microsoft.nchwc"


def come_from_the_future(model: onnx.ModelProto) -> None:
    model.ir_version = 99


def classify(model: onnx.ModelProto) -> None:
    node = helper.make_node("ReduceMean", ["heatmaps"], ["scores"], axes=[2, 3], keepdims=0)
    model.graph.node.append(node)
    value = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 17])
    model.graph.output[0].CopyFrom(value)


def take_another(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (classify, "it has scores float32 [?, 17]"),
        (take_another, "not a model that takes one image"),
        (lambda model: declare_input(model, ["n", 1, 64, 32]), "not a model that takes one image"),
        (lambda model: declare_input(model, ["n", 3, 64, 32], TensorProto.INT64), "is no image"),
        (transpose_heatmaps, "heatmaps have the height and width of crops, scaled"),
        (normalise_by_the_batch, "its BatchNormalization is in training mode"),
        (drop_out, "its Dropout is in training mode"),
        (give_only_a_sequence, "it has list sequence [?]"),
        (lay_out_for_one_cpu, "ONNX Runtime has optimised it for one CPU"),
        (come_from_the_future, "cannot load it: Unsupported model IR version: 99, max supported"),
    ],
)
def test_what_is_no_pose_model_is_refused(
    bring: Bring, graph: onnx.ModelProto, edit: Edit, said: str
) -> None:
    edit(graph)

    assert said in refusal(bring, graph)


def test_heatmaps_that_are_not_finite_are_refused(bring: Bring, graph: onnx.ModelProto) -> None:
    for tensor in graph.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = np.full_like(numpy_helper.to_array(tensor), np.nan)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    assert "its outputs are not finite" in refusal(bring, graph)


def test_the_file_itself_is_what_others_are_compared_with(
    bring: Bring, graph: onnx.ModelProto, tiny: Path, tmp_path: Path, run_stage: Any
) -> None:
    take_nhwc(graph)
    fix_batch_inside(graph)
    declare_input(graph, [1, 64, 32, 3])
    bring(graph)

    command = (
        "reference_onnx", "--card", tmp_path / "model.json", "--crops", tiny / "crops.npy",
        "--count", "5", "--output", tmp_path / "reference.npz", "--onnx",
    )  # fmt: skip
    run_stage(*command, tmp_path / "given.onnx")

    with np.load(tmp_path / "reference.npz") as made:
        crops, found = made["crops"], made["output_0"]
    given = onnx_graph.normalised(crops, ModelCard.read(tmp_path / "model.json"))
    assert found == pytest.approx(heatmaps(tiny / "fp32.onnx", given), abs=1e-4)
    assert "another file" in refusal(run_stage, *command, tiny / "fp32.onnx")
    said = refusal(
        run_stage, "build_engine", "--variant", "pytorch", "--backend", "pytorch", "--precision",
        "fp32", "--card", tmp_path / "model.json", "--batch", "1", "--output", tmp_path / "engine",
    )  # fmt: skip
    assert "there is no model to run in PyTorch" in said


def test_parameters_and_operations_are_those_of_the_export(
    bring: Bring, graph: onnx.ModelProto, tiny: Path
) -> None:
    exported = ModelCard.read(tiny / "model.json")

    made = bring(graph)

    assert made.macs == exported.macs
    # Normalisation layers are folded into convolutions.
    assert made.parameters == pytest.approx(exported.parameters, rel=0.05)
    for edit in (keep_weights_in_nodes, define_functions):
        other = onnx.ModelProto()
        other.CopyFrom(graph)
        edit(other)
        same = bring(other)
        assert (same.parameters, same.macs) == (made.parameters, made.macs)


class _Images(CalibrationDataReader):
    def __init__(self) -> None:
        self._left = iter([{"input": images(1)}])

    def get_next(self) -> Any:
        return next(self._left, None)


@pytest.mark.parametrize("form", [QuantFormat.QOperator, QuantFormat.QDQ])
def test_operations_of_a_quantised_graph_are_those_of_the_layers(
    bring: Bring, graph: onnx.ModelProto, tiny: Path, tmp_path: Path, form: QuantFormat
) -> None:
    onnx.save(graph, tmp_path / "fp32.onnx")
    quantize_static(tmp_path / "fp32.onnx", tmp_path / "quantised.onnx", _Images(), form)

    made = bring(tmp_path / "quantised.onnx")

    assert (made.precision, made.macs) == ("int8", ModelCard.read(tiny / "model.json").macs)
