"""`optimize`: an equivalent of the model, with batch norm folded and convolutions fused."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import fx, nn

from hrnetpose import engines
from hrnetpose.engines import fusing
from hrnetpose.models import mmpose
from hrnetpose.stage import StageError

SEEDED = [
    "td-hm_hrnet-w32_8xb64-210e_coco-256x192",
    "td-hm_res50_8xb64-210e_coco-256x192",
    "td-hm_litehrnet-18_8xb64-210e_coco-256x192",
    "td-hm_mobilenetv2_8xb64-210e_coco-256x192",
    "td-hm_shufflenetv2_8xb64-210e_coco-256x192",
    "td-hm_seresnet50_8xb64-210e_coco-256x192",
    "td-hm_hourglass52_8xb32-210e_coco-256x256",
    "td-hm_mspn50_8xb32-210e_coco-256x192",
    "td-hm_hrformer-small_8xb32-210e_coco-256x192",
    "td-hm_ViTPose-small_8xb64-210e_coco-256x192",
]
"""Models of different kinds: branches, blocks, shuffles, attention, transposed convolutions."""
NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)
LIGHT = "td-hm_mobilenetv2_8xb64-210e_coco-256x192"
"""Tested always; the engine of the small HRNet is, too."""


def whole(model: Any, images: Any) -> Any:
    return model(images)


def fuse(model: nn.Module, example: torch.Tensor, call: Any = whole) -> tuple[fx.GraphModule, int]:
    """Trace, fold and fuse; return the graph and the number of batch norms that are left."""
    graph = fusing.trace(model.eval(), call, example)
    fusing.optimize(graph, model.state_dict(), fusing.DEFINITIONS)
    left = len(graph.graph.find_nodes(op="call_function", target=fusing.BATCH_NORM))
    return graph, left


def unsettle(model: nn.Module) -> None:
    """Give batch norms statistics that they could have after training."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, NORMS) and module.affine:
            for values, least in (
                (module.running_mean, -0.5), (module.running_var, 0.5),
                (module.weight, 0.5), (module.bias, -0.5),
            ):  # fmt: skip
                values.data.copy_(torch.rand(values.shape, generator=generator) + least)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(
            config, id=config.split("_")[1], marks=() if config == LIGHT else pytest.mark.slow
        )
        for config in SEEDED
    ],
)
def test_a_model_of_mmpose_gives_the_same_with_fewer_kernels(config: str) -> None:
    content = mmpose.read_config(config)
    model = mmpose.build_model(content, None).eval()
    unsettle(model)
    width, height = content.model.head.decoder.input_size
    images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = mmpose.outputs(model, images)

    graph, left = fuse(model, images, mmpose.outputs)

    with torch.inference_mode():
        found = graph(images)
    for one, other in zip(found, expected, strict=True):
        error = float((one - other).abs().max() / other.abs().max())
        assert error < 1e-4, error
    assert left < sum(isinstance(module, NORMS) for module in model.modules())


class Block(nn.Module):
    """What residual networks have, with the given parts."""

    def __init__(self, convolution: nn.Module, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.convolution, self.norm = convolution, norm or nn.BatchNorm2d(4)
        unsettle(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.convolution(x)) + x)


class TwoReaders(Block):
    """Something else reads what the convolution gives."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before = self.convolution(x)
        return torch.relu(self.norm(before) + before)


class Broadcast(Block):
    """What is added has another shape."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.convolution(x)) + x.mean((2, 3), keepdim=True))


CONVOLUTION = {"kernel_size": 3, "padding": 1}


@pytest.mark.parametrize(
    ("block", "left", "calls"),
    [
        (Block(nn.Conv2d(4, 4, **CONVOLUTION)), 0, 1),
        (Block(nn.Conv2d(4, 4, bias=False, groups=2, **CONVOLUTION)), 0, 1),
        (Block(nn.Conv2d(4, 4, 3, padding=2, dilation=2)), 0, 1),
        (Block(nn.Conv2d(4, 4, 3, padding="same")), 1, 0),
        (Block(nn.ConvTranspose2d(4, 4, 3, padding=1)), 0, 0),
        (Block(nn.ConvTranspose2d(4, 4, 3, padding=1, groups=2)), 1, 0),
        (TwoReaders(nn.Conv2d(4, 4, **CONVOLUTION)), 1, 0),
        (Broadcast(nn.Conv2d(4, 4, **CONVOLUTION)), 0, 0),
        (Block(nn.Conv2d(4, 4, **CONVOLUTION), nn.BatchNorm2d(4, affine=False)), 1, 0),
    ],
    ids=["plain", "grouped", "dilated", "same", "transposed", "transposed in groups",
         "two readers", "broadcast", "no weights"],
)  # fmt: skip
def test_what_is_not_recognised_runs_as_it_is(block: nn.Module, left: int, calls: int) -> None:
    images = torch.randn(2, 4, 8, 6)

    graph, unfolded = fuse(block, images)

    with torch.inference_mode():
        torch.testing.assert_close(graph(images), block(images), rtol=1e-5, atol=1e-5)
    fused = [n for n in graph.graph.nodes if n.target in vars(fusing.DEFINITIONS).values()]
    assert (unfolded, len(fused)) == (left, calls)


def test_weights_are_folded_before_they_are_rounded() -> None:
    block = Block(nn.Conv2d(4, 4, bias=False, **CONVOLUTION))  # type: ignore[arg-type]
    exact = {name: value.clone() for name, value in block.state_dict().items()}
    images = torch.randn(1, 4, 8, 6).half()
    graph = fusing.trace(block.eval().half(), whole, images)

    fusing.optimize(graph, exact, fusing.DEFINITIONS)

    scale = exact["norm.weight"] / torch.sqrt(exact["norm.running_var"] + block.norm.eps)
    folded = exact["convolution.weight"].double() * scale.double().view(-1, 1, 1, 1)
    assert torch.equal(graph.folded0_weight, folded.half())


def test_branches_run_in_streams_that_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first = torch.relu(x)
            one, two, three = (torch.sin(part(first)) for part in self.parts)
            return one + two + three

    events: list[tuple[Any, ...]] = []
    install_streams(monkeypatch, events)
    model, images = Branches().eval(), torch.randn(1, 4, 3, 3)
    graph = fusing.trace(model, whole, images)

    streamed = fusing.StreamedGraph(graph)
    with torch.inference_mode():
        torch.testing.assert_close(streamed.run(images), model(images))

    ran = {name for kind, name, *_ in events if kind == "in"}
    assert len(ran) == 3
    order = [(kind, *rest) for kind, *rest in events if kind in ("record", "wait")]
    for number, (kind, _stream, event) in enumerate(order):
        if kind == "wait":
            assert any(k == "record" and e is event for k, _, e in order[:number])
    # The last stream of all waits for the others.
    assert [name for kind, name, *_ in events if kind == "join"][-1] == "main"


def install_streams(patch: pytest.MonkeyPatch, events: list[tuple[Any, ...]]) -> None:
    """Replace streams and events of torch.cuda by ones that write down what they are asked."""

    def stream(name: str) -> Any:
        return SimpleNamespace(
            name=name,
            wait_event=lambda event: events.append(("wait", name, event)),
            wait_stream=lambda other: events.append(("join", name, other.name)),
        )

    def create_event() -> Any:
        event = SimpleNamespace()
        event.record = lambda stream: events.append(("record", stream.name, event))
        return event

    @contextmanager
    def enter(stream: Any) -> Iterator[None]:
        events.append(("in", stream.name))
        yield

    side = iter(f"side {number}" for number in range(10))
    patch.setattr(torch.cuda, "Stream", lambda: stream(next(side)))
    patch.setattr(torch.cuda, "Event", create_event)
    patch.setattr(torch.cuda, "current_stream", lambda: stream("main"))
    patch.setattr(torch.cuda, "stream", enter)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_an_engine_is_as_near_to_fp32_as_the_original(
    build: Callable[..., Path], crops: Any, precision: str
) -> None:
    def infer(precision: str, **options: bool) -> Any:
        with engines.read(build("pytorch", precision, **options)).open(threads=1) as engine:
            assert engine.executed().precision == precision
            return engine.infer(crops[:4])["heatmaps"]

    reference = infer("fp32")
    plain, optimized = (
        float(np.abs(infer(precision, optimize=optimize) - reference).max())
        for optimize in (False, True)
    )

    assert optimized <= 1.2 * plain + 1e-5 * float(np.abs(reference).max())


def test_a_model_that_cannot_be_traced_is_refused_by_the_option(
    build: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **more: Any) -> Any:
        raise RuntimeError("data-dependent control flow\nand much more")

    monkeypatch.setattr(torch.export, "export", refuse)

    with pytest.raises(
        StageError, match=r"optimize: PyTorch cannot trace the model: data-dependent"
    ):
        build("pytorch", optimize=True)
