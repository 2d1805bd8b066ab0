"""onnxsim's graph is used where it is right; else the exported one is, and that is said."""

import os
import signal
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxsim
import pytest

from hrnetpose import files
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.artifacts.simplification import Simplification
from hrnetpose.graphs import onnx_graph
from hrnetpose.report import stages
from hrnetpose.stage import StageError
from support import TINY_CONFIG

RunStage = Callable[..., None]
Simplify = Callable[[onnx.ModelProto], tuple[onnx.ModelProto, bool]]


def simplified(run_stage: RunStage, folder: Path, output: Path) -> Simplification:
    run_stage(
        "simplify_onnx", "--model", folder / "model.onnx", "--card", folder / "model.json",
        "--output", output / "simplified.onnx", "--summary", output / "simplified.json",
    )  # fmt: skip
    made = Simplification.read(output / "simplified.json")
    assert made.graph_sha256 == files.sha256(output / "simplified.onnx")
    assert made.onnxsim == version("onnxsim")
    assert not list(output.glob("*.partial*"))
    return made


def stage_note(folder: Path, output: Path) -> tuple[str, bool]:
    """What the report says of the simplified graph, and whether as a warning."""
    (output / "model.json").write_bytes((folder / "model.json").read_bytes())
    found = stages.of_model(output, ModelCard.read(output / "model.json"), "any")
    (stage,) = (one for one in found if one.name == "simplify")
    return stage.note, stage.warning


def test_the_simplified_graph_of_an_hrnet_is_used(
    tiny: Path, tmp_path: Path, run_stage: RunStage
) -> None:
    made = simplified(run_stage, tiny, tmp_path)

    assert made.used
    assert made.reason is None
    assert made.nodes_after == len(onnx_graph.read(tmp_path / "simplified.onnx").graph.node)
    assert (
        made.nodes_after < made.nodes_before == len(onnx_graph.read(tiny / "model.onnx").graph.node)
    )
    assert made.relative_error is not None
    assert made.relative_error < 1e-5
    note, warning = stage_note(tiny, tmp_path)
    assert f"{made.nodes_before} -> {made.nodes_after} nodes" in note
    assert not warning


def test_the_exported_graph_of_a_swin_transformer_is_kept(
    tmp_path: Path, run_stage: RunStage
) -> None:
    """A side of one window, 7 of 7 positions, makes an empty slice that onnxsim folds wrongly."""
    start, end = TINY_CONFIG.index('        type="HRNet"'), TINY_CONFIG.index("    head=dict(")
    swin = (
        '        type="SwinTransformer", embed_dims=8, depths=(2,), num_heads=(2,), strides=(4,),\n'
        "        out_indices=(0,), window_size=7),\n"
    )
    text = TINY_CONFIG[:start] + swin + TINY_CONFIG[end:]
    for old, new in (("(32, 64)", "(28, 56)"), ("(8, 16)", "(7, 14)")):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "config.py").write_text(text)
    run_stage(
        "export_onnx", "--name", "swin", "--config", tmp_path / "config.py", "--crop", "56x28",
        "--output", tmp_path / "model.onnx", "--card", tmp_path / "model.json",
    )  # fmt: skip

    made = simplified(run_stage, tmp_path, tmp_path)

    assert not made.used
    assert made.reason is not None
    assert "not a valid ONNX graph" in made.reason
    assert files.sha256(tmp_path / "simplified.onnx") == files.sha256(tmp_path / "model.onnx")
    note, warning = stage_note(tmp_path, tmp_path)
    assert "is not used: not a valid ONNX graph" in note
    assert warning
    for precision in ("fp16", "bf16"):
        run_stage(
            "convert_precision", "--precision", precision, "--model", tmp_path / "simplified.onnx",
            "--output", tmp_path / f"{precision}.onnx",
        )  # fmt: skip
    images = onnx_graph.fixed_inputs(ModelCard.read(tmp_path / "model.json"), 3)
    half, exact = (onnx_graph.run(tmp_path / f"{n}.onnx", images) for n in ("fp16", "model"))
    assert onnx_graph.largest_error(half, exact) < 1e-2


def crashes(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
    os.kill(os.getpid(), signal.SIGSEGV)
    return model, True


def raises(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
    raise MemoryError("std::bad_alloc")


def gives_an_unknown_operator(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
    model.graph.node[0].op_type = "Convolution"
    return model, True


def gives_no_nodes(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
    del model.graph.node[:]
    return model, True


def with_weights(model: onnx.ModelProto, factor: float) -> tuple[onnx.ModelProto, bool]:
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 4)
    values = onnx.numpy_helper.to_array(tensor) * np.float32(factor)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return model, True


def gives_another_result(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
    return with_weights(model, 1.01)


def gives_nan(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
    return with_weights(model, float("nan"))


def gives_another_shape(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
    model.graph.output[0].CopyFrom(model.graph.input[0])
    return model, True


@pytest.mark.parametrize(
    ("simplify", "reason"),
    [
        (crashes, "crashed"),
        (raises, "onnxsim cannot simplify it: std::bad_alloc"),
        (gives_an_unknown_operator, "not a valid ONNX graph"),
        (gives_no_nodes, "not an ONNX model"),
        (gives_another_result, "more than 1e-05"),
        (gives_nan, "its outputs differ by inf"),
        (gives_another_shape, "outputs are [(1, 3, 64, 32)] instead of [(1, 17, 16, 8)]"),
    ],
)
def test_whatever_onnxsim_does_the_exported_graph_is_left(
    tiny: Path,
    tmp_path: Path,
    run_stage: RunStage,
    monkeypatch: pytest.MonkeyPatch,
    simplify: Simplify,
    reason: str,
) -> None:
    monkeypatch.setattr(onnxsim, "simplify", simplify)

    made = simplified(run_stage, tiny, tmp_path)

    assert not made.used
    assert made.reason is not None
    assert reason in made.reason
    assert "\n" not in made.reason
    assert str(tmp_path) not in made.reason
    assert files.sha256(tmp_path / "simplified.onnx") == files.sha256(tiny / "model.onnx")


def test_an_exported_graph_that_cannot_run_is_an_error(
    tiny: Path, tmp_path: Path, run_stage: RunStage
) -> None:
    model = onnx_graph.read(tiny / "model.onnx")
    onnx.save(gives_an_unknown_operator(model)[0], tmp_path / "model.onnx")
    (tmp_path / "model.json").write_bytes((tiny / "model.json").read_bytes())

    with pytest.raises(StageError, match=r"model\.onnx: ONNX Runtime cannot run it"):
        simplified(run_stage, tmp_path, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_an_exported_graph_that_gives_nan_is_an_error(
    tiny: Path, tmp_path: Path, run_stage: RunStage
) -> None:
    onnx.save(gives_nan(onnx_graph.read(tiny / "model.onnx"))[0], tmp_path / "model.onnx")
    (tmp_path / "model.json").write_bytes((tiny / "model.json").read_bytes())

    with pytest.raises(StageError, match=r"model\.onnx: its outputs are not finite"):
        simplified(run_stage, tmp_path, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
