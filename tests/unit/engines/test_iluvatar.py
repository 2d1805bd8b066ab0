"""IGIE and IxRT make the calls that the SDK's published examples make, in their order."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hrnetpose import engines
from hrnetpose.artifacts.engine import EngineCard
from hrnetpose.backend_rules import Options
from hrnetpose.engines import ixrt as ixrt_backend
from hrnetpose.stage import StageError
from stand_ins import iluvatar

Build = Callable[..., Path]


@pytest.fixture
def igie(monkeypatch: pytest.MonkeyPatch) -> iluvatar.Calls:
    return iluvatar.install_igie(monkeypatch)


@pytest.fixture
def ixrt(monkeypatch: pytest.MonkeyPatch) -> iluvatar.Ixrt:
    return iluvatar.install_ixrt(monkeypatch)


def test_igie_compiles_as_the_examples_do(build: Build, igie: iluvatar.Calls) -> None:
    folder = build("igie", "fp16", target="BI", libraries="ixinfer")

    assert igie[:4] == [
        ("import", {"input": [4, 3, 64, 32]}, "igie"),
        ("target", "BI", "-libs=ixinfer"),
        ("build", "iluvatar", "parameters", "fp16"),
        ("export_library", "engine.so"),
    ]
    card = EngineCard.read(folder / "engine.json")
    assert (card.requested, card.executed.precision) == ("fp16", "unknown")
    assert card.built_for == {"tvm": "0.12+corex"}
    assert str(card.device) == "Iluvatar BI"


def test_igie_runs_as_the_examples_do(build: Build, igie: iluvatar.Calls, crops: Any) -> None:
    with engines.read(build("igie")).open(threads=1) as engine:
        igie.clear()
        engine.infer(crops[:4])
        assert igie == [("set_input", "input", (4, 3, 64, 32), "float32"), "run"]

        assert engine.device_times(crops[:4], 3) == [0.017] * 3
        assert igie[-1] == ("time_evaluator", "run", "iluvatar:0", 1, 3)


def test_another_tvm_is_not_igie(
    build: Build, igie: iluvatar.Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["tvm"], "target", SimpleNamespace())

    with pytest.raises(StageError, match="the installed tvm has no target for Iluvatar's GPUs"):
        build("igie", copy="another")


@pytest.mark.parametrize(("precision", "flags"), [("fp16", [("flag", "FP16")]), ("fp32", [])])
def test_ixrt_builds_with_explicit_batch_and_a_precision_flag(
    build: Build, ixrt: iluvatar.Ixrt, precision: str, flags: iluvatar.Calls
) -> None:
    card = EngineCard.read(build("ixrt", precision, copy="flags") / "engine.json")

    assert ixrt.calls == [("network", 1), *flags]
    assert card.built_for == {"tensorrt": "8.5.2.2+corex"}
    assert (str(card.device), card.executed.precision) == ("Iluvatar", "unknown")


def test_ixrt_runs_on_bindings_by_number(build: Build, ixrt: iluvatar.Ixrt, crops: Any) -> None:
    with engines.read(build("ixrt")).open(threads=1) as engine:
        ixrt.calls.clear()
        engine.infer(crops[:4])
        assert engine.device_times(crops[:4], 3) is None

    images, heatmaps = 4 * 3 * 64 * 32 * 4, 4 * 17 * 16 * 8 * 4
    assert ixrt.calls == [("copy", "in", images), "execute_v2", ("copy", "out", heatmaps)]
    assert not ixrt.memory, "memory is not freed"


def test_what_the_parser_of_ixrt_rejects_is_shown(build: Build, ixrt: iluvatar.Ixrt) -> None:
    ixrt.reject = True

    with pytest.raises(StageError, match="IxRT cannot parse it: In node 3: UNSUPPORTED_NODE"):
        build("ixrt", copy="rejected")


def test_nvidias_tensorrt_is_not_ixrt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ixrt_backend, "package_version", lambda name: "10.16.1.11")

    reason = str(ixrt_backend.unavailable_reason(Options()))
    assert reason.startswith("tensorrt 10.16.1.11 is NVIDIA's; it needs Iluvatar's IXUCA SDK")
