"""Checkpoints as people have them: taken whatever wraps the weights, or named for what they are."""

import argparse
import collections
import datetime
import enum
import functools
import gzip
import io
import json
import logging
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from hrnetpose.models import checkpoint
from hrnetpose.models.checkpoint_file import open_checkpoint
from hrnetpose.stage import StageError
from support import refusal

State = dict[str, torch.Tensor]
BIAS = "head.final_layer.bias"


def network(seed: int = 0) -> nn.Module:
    """A model of three layers, of which one has statistics, in mmpose's two parts."""
    torch.manual_seed(seed)
    backbone = collections.OrderedDict(conv1=nn.Conv2d(3, 4, 3), bn1=nn.BatchNorm2d(4))
    head = collections.OrderedDict(final_layer=nn.Conv2d(4, 17, 1))
    parts = {"backbone": nn.Sequential(backbone), "head": nn.Sequential(head)}
    return nn.Sequential(collections.OrderedDict(parts))


def holding(state: State) -> nn.Module:
    model = network()
    model.load_state_dict(state)
    return model


@pytest.fixture
def state() -> State:
    """Weights that the model under test does not have yet."""
    return network(seed=1).state_dict()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "w.pth"


def assert_taken(file: Path, state: State) -> None:
    model = network()
    checkpoint.load(model, file, "model.py")
    assert all(torch.equal(model.state_dict()[name], state[name]) for name in state)


def refuse(file: Path) -> str:
    text = refusal(checkpoint.load, network(), file, "model.py")
    assert text.startswith(f"{file}: ")
    return text


# --- what else is in them -------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = 1


class Node(dict[str, Any]):
    """As yacs' CfgNode: a dictionary with attributes."""

    def __init__(self, content: dict[str, Any]) -> None:
        super().__init__(content)
        self.frozen = True


def with_everything(state: State) -> dict[str, Any]:
    """What runners and training scripts put beside the weights."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    sum(parameter.sum() for parameter in model.parameters()).backward()  # type: ignore[union-attr]
    optimizer.step()
    return {
        "state_dict": collections.OrderedDict(state),
        "optimizer": optimizer.state_dict(),
        "meta": {"sigmas": np.full(17, 0.05, np.float32), "version": np.float64(1)},
        "args": argparse.Namespace(lr=0.1, output=Path("/data")),
        "cfg": Node({"MODEL": Node({"DEPTH": 50})}),
        "date": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        "colour": {Colour.RED: {Colour.RED}},
        "rng": (np.random.default_rng(0), torch.get_rng_state()),
        "make": functools.partial(print, end=""),
        "counts": collections.Counter("aab"),
        "more": collections.defaultdict(list, {(1, 2): [3]}),
        "text": ("é" * 300, b"\xff" * 300, 2**80, -1.5, None, True, frozenset({1}), {1, 2}),
        "type": (torch.float16, torch.device("cuda:0"), torch.Size([1, 2]), int, torch.strided),
        "again": bytearray(b"x" * 300),
    }


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_are_taken_whatever_is_beside_them(
    file: Path, state: State, protocol: int, zipped: bool
) -> None:
    content = with_everything(state)
    torch.save(content, file, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)

    assert_taken(file, state)
    if protocol == 2 and not zipped:  # with the modules' names of NumPy 1
        assert b"numpy._core" in file.read_bytes()
        file.write_bytes(file.read_bytes().replace(b"numpy._core", b"numpy.core"))
        assert_taken(file, state)


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_are_those_that_pytorch_reads(file: Path, zipped: bool) -> None:
    base, flat = torch.arange(24.0).view(4, 6), torch.arange(10.0)
    tensors: dict[str, Any] = {
        "transposed": base.t(), "part": base[1:3, ::2], "expanded": flat[:1].expand(3, 4),
        "shared": flat[2:5], "shared too": flat[4:], "number": torch.tensor(3.5),
        "empty": torch.zeros(0, 3), "parameter": nn.Parameter(torch.ones(2)),
        "buffer": nn.Buffer(torch.ones(2)), "last": base.view(1, 4, 2, 3).contiguous(
            memory_format=torch.channels_last),
    }  # fmt: skip
    kinds = [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int8, torch.bool,
             torch.complex64]  # fmt: skip
    if zipped:  # PyTorch cannot read these itself in the older format
        kinds += [torch.float8_e4m3fn, torch.uint16]
    tensors |= {str(kind): torch.tensor([0, 1, 1]).to(kind) for kind in kinds}
    torch.save(tensors, file, _use_new_zipfile_serialization=zipped)

    with open_checkpoint(file) as opened:
        read = {name: opened.read_tensor(value) for name, value in opened.content.items()}

    expected = torch.load(file, weights_only=True)
    assert read.keys() == expected.keys()
    for name, value in expected.items():
        assert read[name].dtype == value.dtype
        assert read[name].stride() == value.stride()
        assert torch.equal(read[name].to(torch.complex64), value.to(torch.complex64)), name
    read["shared"][2] = 7
    assert read["shared too"][0] == 7


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_widths_are_taken_and_logged(
    file: Path, state: State, kind: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    other = {n: v.to(kind) if v.is_floating_point() else v for n, v in state.items()}
    torch.save(other, file)

    with caplog.at_level(logging.INFO):
        assert_taken(file, {name: value.to(state[name].dtype) for name, value in other.items()})
    assert str(kind).removeprefix("torch.") in caplog.text


RUNNER = """
    import sys

    import torch
    from mmengine.evaluator import BaseMetric, Evaluator
    from mmengine.model import BaseModel
    from mmengine.runner import Runner
    from torch import nn


    class Model(BaseModel):
        def __init__(self):
            super().__init__()
            self.backbone, self.head = nn.Linear(2, 4), nn.Linear(4, 1)

        def forward(self, x, mode="tensor"):
            output = self.head(self.backbone(x))
            return {"loss": output.square().mean()} if mode == "loss" else [output]


    class Data(torch.utils.data.Dataset):
        metainfo = {"sigmas": torch.ones(17).numpy()}

        def __len__(self):
            return 8

        def __getitem__(self, index):
            return [torch.full((2,), float(index))]


    class AP(BaseMetric):
        def process(self, batch, outputs):
            self.results.append(1)

        def compute_metrics(self, results):
            return {"AP": 0.5}


    loader = dict(batch_size=4, dataset=Data(), num_workers=0,
                  sampler=dict(type="DefaultSampler", shuffle=False),
                  collate_fn=dict(type="default_collate"))
    Runner(
        model=Model(), work_dir=sys.argv[1], train_dataloader=loader, val_dataloader=loader,
        val_evaluator=Evaluator(AP()), val_cfg=dict(), train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type="AdamW", lr=0.1)),
        param_scheduler=[dict(type="LinearLR", start_factor=0.1, begin=0, end=2)],
        custom_hooks=[dict(type="EMAHook", momentum=0.5)],
        default_hooks=dict(checkpoint=dict(type="CheckpointHook", save_best="AP", rule="greater")),
    ).train()
"""


def test_what_mmengines_runner_saves_is_what_it_evaluated(
    tmp_path: Path, run_python: Callable[..., Any]
) -> None:
    done = run_python(RUNNER, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    files = sorted(tmp_path.glob("*.pth"))
    assert [file.name for file in files] == ["best_AP_epoch_1.pth", "epoch_2.pth"]

    for file in files:
        model = nn.Module()
        model.backbone, model.head = nn.Linear(2, 4), nn.Linear(4, 1)
        checkpoint.load(model, file, "model.py")
        saved = torch.load(file, weights_only=False)
        assert {"message_hub", "ema_state_dict"} < saved.keys()
        # The averaged weights: EMAHook swaps them when it saves.
        assert torch.equal(model.head.weight, saved["state_dict"]["head.weight"])
        assert not torch.equal(model.head.weight, saved["ema_state_dict"]["module.head.weight"])


# --- what wraps them ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "_orig_mod.", "module.model.", "net.", "model._orig_mod."]
)
@pytest.mark.parametrize("key", ["state_dict", "model", "network", "params", "ema", None])
def test_prefixes_and_keys_of_others_are_understood(
    file: Path, state: State, prefix: str, key: str | None
) -> None:
    wrapped = {prefix + name: value for name, value in state.items()}
    torch.save({key: wrapped, "epoch": 3} if key else wrapped, file)

    assert_taken(file, state)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"checkpoint": {"model": {"state_dict": s}}},
        lambda s: [s, {"lr": 0.1}],
        lambda s: {"rng_state": torch.zeros(3), "state_dict": s, "amp": {"scale": torch.ones(1)}},
        lambda s: {"model": s, "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}}},
        lambda s: {"state_dict": s, "model": s},
        lambda s: AveragedModel(holding(s)).state_dict(),
        # PyTorch before 0.4.1 does not count batches.
        lambda s: {name: value for name, value in s.items() if "num_batches" not in name},
    ],
)
def test_the_state_dict_is_found_by_its_names(file: Path, state: State, wrap: Any) -> None:
    torch.save(wrap(state), file)

    assert_taken(file, state)


def test_safetensors_and_a_zip_without_checksums_are_taken(file: Path, state: State) -> None:
    save_file({f"model.{name}": value for name, value in state.items()}, file, {"format": "pt"})
    assert_taken(file, state)

    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state, file)
    finally:
        torch.serialization.set_crc32_options(True)
    assert_taken(file, state)


def with_mmengines_ema(state: State, other: State) -> Any:
    from mmengine.model import ExponentialMovingAverage

    averaged = ExponentialMovingAverage(holding(other))
    return {"state_dict": state, "ema_state_dict": averaged.state_dict()}


@pytest.mark.parametrize(
    "wrap",
    [
        with_mmengines_ema,
        lambda s, o: {"model": s, "model_ema": AveragedModel(holding(o)).state_dict()},
        lambda s, o: {"state_dict_ema": o, "state_dict": s},
        lambda s, o: {"teacher": o, "student": s},
        lambda s, o: {f"student.{n}": s[n] for n in s} | {f"teacher.{n}": o[n] for n in o},
        lambda s, o: s | {f"ema_model.{n}": o[n] for n in o},
        lambda s, o: {"model": o, "state_dict": s},
    ],
)
def test_of_two_the_trained_one_is_taken_and_the_other_noted(
    file: Path, state: State, wrap: Any
) -> None:
    torch.save(wrap(state, network(seed=2).state_dict()), file)

    assert_taken(file, state)
    (note,) = checkpoint.load(network(), file, "config.py")
    assert "the checkpoint also has those of " in note


def test_of_two_of_equal_rank_none_is_taken(file: Path, state: State) -> None:
    torch.save({"generator": state, "copy": network(seed=2).state_dict()}, file)

    assert "`generator` and `copy`; save the right one as `state_dict`" in refuse(file)


@pytest.mark.parametrize(
    "name",
    ["loss.weight", "head.loss_module.sigma", "criterion.pos_weight", "steps", "n_averaged",
     "ema_backbone_conv1_weight", "backbone.bn9.num_batches_tracked", "val_metric.total"],
)  # fmt: skip
def test_what_belongs_to_training_is_left_out_and_logged(
    file: Path, state: State, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save({"state_dict": {**state, name: torch.ones(3)}}, file)

    with caplog.at_level(logging.INFO):
        assert_taken(file, state)
    assert f"left out, for training only: 1 (first: {name})" in caplog.text


@pytest.mark.parametrize("mean", [[0.485, 0.456, 0.406], [103.53, 116.28, 123.675], [127.0]])
def test_another_normalisation_than_the_configs_is_refused(
    file: Path, state: State, mean: list[float]
) -> None:
    model, name = network(), "data_preprocessor.mean"
    model.data_preprocessor = nn.Module()
    own = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    model.data_preprocessor.register_buffer("mean", own, persistent=False)
    torch.save({**state, name: torch.tensor(mean).view(-1, 1, 1)}, file)

    with pytest.raises(StageError, match=rf"{name} is \[{str(mean[0])[:5]}.* model.py has .*123"):
        checkpoint.load(model, file, "model.py")


# --- weights of another model ---------------------------------------------------------------------


def without(state: State, name: str) -> State:
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: without(s, BIAS), f"missing 1 of the model's 9 tensors, first {BIAS}"),
        (lambda s: {**s, "head.other": torch.zeros(1)}, "not of the model: 1, first head.other"),
        (lambda s: {**s, BIAS: torch.zeros(18)}, f"{BIAS} is [18], expected [17]"),
        (
            lambda s: {n.removeprefix("backbone."): v for n, v in s.items() if n[0] == "b"},
            "first backbone.conv1.weight; not of the model: 6, first conv1.weight",
        ),
        (
            lambda s: {"encoder.layer.weight": torch.zeros(2), "\x1b[1mdecoder": torch.zeros(2)},
            "missing 8 of the model's 9 tensors, first backbone.conv1.weight; not of the model: 2",
        ),
    ],
    ids=["missing", "unexpected", "shape", "without backbone", "other names"],
)
def test_weights_of_another_model_are_refused_with_both_names(
    file: Path, state: State, change: Any, says: str
) -> None:
    torch.save({"state_dict": change(state)}, file)

    text = refuse(file)

    assert "does not belong to model.py" in text
    assert says in text
    assert "fetch" not in text


@pytest.mark.parametrize("value", [float("nan"), -float("inf"), 1e300])
def test_values_that_are_not_finite_are_named(file: Path, state: State, value: float) -> None:
    broken = {n: v.double() if v.is_floating_point() else v for n, v in state.items()}
    broken["head.final_layer.weight"][3:5, 0] = value
    broken["backbone.bn1.running_var"][0] = value
    torch.save(broken, file)

    text = refuse(file)

    assert "backbone.bn1.running_var: 1 of 4 values are NaN or infinite" in text
    assert "1 other tensors" in text


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (torch.quantize_per_tensor(torch.ones(17), 0.1, 0, torch.qint8), "a quantised tensor"),
        (torch.ones(17).to_sparse(), "a sparse tensor"),
        (torch.ones(17, device="meta"), "a tensor without values"),
        (torch.ones(17, dtype=torch.complex64).conj().imag, "a conjugated or negated tensor"),
        (np.ones(17), "an array of NumPy"),
        (torch.ones(17, dtype=torch.int8), "int8"),
        (torch.ones(17).to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (torch.ones(17, dtype=torch.complex64), "complex64"),
        (nn.Linear(1, 1), "an object (torch.nn.modules.linear.Linear)"),
        ("x", "a str"),
    ],
    ids=str,
)
def test_what_is_in_the_place_of_a_weight_is_named(
    file: Path, state: State, value: Any, kind: str
) -> None:
    torch.save({"state_dict": {**state, BIAS: value}}, file)

    assert f"{BIAS} is {kind}" in refuse(file)


# --- other files ----------------------------------------------------------------------------------


def zipped(**members: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/").replace("_d_", "."), data)
    return content.getvalue()


def tarred(*names: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    return content.getvalue()


def onnx_graph() -> bytes:
    import onnx

    graph = onnx.helper.make_graph([], "g", [], [])
    return onnx.helper.make_model(graph).SerializeToString()


def torchscript() -> bytes:
    content = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Linear(1, 1), torch.zeros(1)), content)
    return content.getvalue()


OTHERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "lfs": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
    "page": (lambda: b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
    "xml": (lambda: b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>', "a web page"),
    "keras": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(90), "HDF5"),
    "keras 3": (lambda: zipped(model_d_weights_d_h5=b"", config_d_json=b""), "a model of Keras"),
    "npz": (lambda: zipped(a_d_npy=b"", b_d_npy=b""), "arrays of NumPy"),
    "zip": (lambda: zipped(best__w_d_pth=b"x"), "a zip with 'best/w.pth' in it; unpack it"),
    "docx": (lambda: zipped(word__document_d_xml=b"x"), "a zip of other files"),
    "two": (lambda: zipped(a__data_d_pkl=b"", b__data_d_pkl=b""), "a zip of other files"),
    "exported": (lambda: zipped(m__archive_format=b"pt2"), "an archive of torch.export; save"),
    "torchscript": (torchscript, "an archive of TorchScript; save the `state_dict`"),
    "tar, cut off": (lambda: tarred("w.pth")[:700], "a tar archive; unpack it"),
    "7z": (lambda: b"7z\xbc\xaf\x27\x1c" + bytes(90), "a 7z archive"),
    "gzip": (lambda: gzip.compress(b"x"), "compressed by gzip"),
    "tar": (lambda: tarred("w.pth"), "a tar archive; unpack it"),
    "tar of 0.1": (lambda: tarred("storages", "tensors", "pickle"), "PyTorch 0.1 (tar)"),
    "onnx": (onnx_graph, "an ONNX graph; give the checkpoint"),
    "tensorflow": (lambda: b"\x08\x01\x12\x9b\x03" + bytes(90), "a graph of TensorFlow"),
    "tflite": (lambda: b"\x1c\x00\x00\x00TFL3" + bytes(90), "TensorFlow Lite"),
    "paddle": (lambda: pickle.dumps({"conv1": np.zeros(3)}, protocol=2), "as Paddle's"),
    "index": (
        lambda: json.dumps({"weight_map": {"a": "1.bin", "b": "2.bin", "c": "2.bin"}}).encode(),
        "the index of 2 files",
    ),
    "json": (lambda: b'{"lr": 0.1}', "JSON"),
    "text": (lambda: b"epoch 1, loss 0.5\n", "begins with b'epoch 1, los'"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_are_named_for_what_they_are(file: Path, name: str) -> None:
    make, says = OTHERS[name]
    file.write_bytes(make())

    text = refuse(file)

    assert says in text
    assert "expected a checkpoint of PyTorch" in text
    assert "fetch it again" not in text


def test_a_folder_and_a_missing_file_are_named(tmp_path: Path) -> None:
    assert "a folder; expected" in refuse(tmp_path)
    assert "there is no such checkpoint" in refuse(tmp_path / "w.pth")


@pytest.mark.parametrize("key", ["model", None])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_model_is_named(file: Path, key: str | None, zipped: bool) -> None:
    content = {key: network(), "optimizer": {"state": {0: torch.zeros(1)}}} if key else network()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)

    text = refuse(file)

    assert f"{f'`{key}`' if key else 'it'} (torch.nn.modules.container.Sequential)" in text
    assert "save `model.state_dict()`" in text
    assert "fetch" not in text


@pytest.mark.parametrize(
    "content",
    [[1, 2], torch.zeros(3), {}, {"state_dict": {}}, {"state_dict": [1]}, {"state_dict": None},
     {"epoch": 3, "name": "\x1b[1mx"}, "text", None],
    ids=str,
)  # fmt: skip
def test_a_file_without_a_state_dict_is_refused(file: Path, content: object) -> None:
    torch.save(content, file)

    assert "no `state_dict` of tensors" in refuse(file)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_a_truncated_checkpoint_should_be_fetched_again(
    file: Path, state: State, share: float, form: str
) -> None:
    if form == "safetensors":
        save_file(state, file)
    else:
        torch.save({"state_dict": state}, file, _use_new_zipfile_serialization=form == "zip")
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])

    assert "fetch it again and compare its sha256" in refuse(file)


def test_a_flipped_bit_is_found(file: Path, state: State) -> None:
    torch.save(state, file)
    content = bytearray(file.read_bytes())
    place = content.index(state["head.final_layer.weight"].numpy().tobytes())
    content[place + 5] ^= 1
    file.write_bytes(content)

    assert "a damaged checkpoint; fetch it again" in refuse(file)
