"""An equivalent of a PyTorch model with fewer kernels, for `optimize` of `backend: pytorch`.

The model is traced with `torch.export`, so every model that can be traced is taken; what is not
recognised runs as it is.

- Batch norm is folded into the convolution before it: w' = w * gamma / sqrt(var + eps) and
  b' = (b - mean) * gamma / sqrt(var + eps) + beta (Jacob et al., 2018, eq. 14), in float64, from
  the weights before they were rounded to the engine's type.
- A convolution with its ReLU, and one with the addition and the ReLU behind it, is one call: of
  cuDNN on a GPU, elsewhere of what it is defined as.
- On a GPU, parts that do not depend on each other run in streams of their own, which pays at small
  batches inside a CUDA graph.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

aten = torch.ops.aten
CONVOLUTION = aten.conv2d.default
TRANSPOSED = aten.conv_transpose2d.input
BATCH_NORM = aten._native_batch_norm_legit_no_training.default
STREAMS = 4
"""Streams at most: HRNet has so many branches."""
_DEFAULTS: tuple[Any, ...] = (None, (1, 1), (0, 0), (1, 1), 1)
"""Bias, stride, padding, dilation and groups of a convolution that does not say them."""


@dataclass(frozen=True)
class Calls:
    """The fused calls: (x, weight, [other,] bias, stride, padding, dilation, groups)."""

    relu: Callable[..., torch.Tensor]
    add_relu: Callable[..., torch.Tensor]


def _convolution_relu(x: Any, weight: Any, bias: Any, *geometry: Any) -> torch.Tensor:
    return functional.conv2d(x, weight, bias, *geometry).relu_()


def _convolution_add_relu(
    x: Any, weight: Any, other: Any, bias: Any, *geometry: Any
) -> torch.Tensor:
    return functional.conv2d(x, weight, bias, *geometry).add_(other).relu_()


def _cudnn_add_relu(x: Any, weight: Any, other: Any, bias: Any, *geometry: Any) -> torch.Tensor:
    fused: torch.Tensor = aten.cudnn_convolution_add_relu(x, weight, other, 1.0, bias, *geometry)
    return fused


DEFINITIONS = Calls(_convolution_relu, _convolution_add_relu)
"""What the fused calls are defined as."""


def choose_calls(device: str, dtype: torch.dtype) -> Calls:
    """Return cuDNN's fused calls if it has them for a type, else their definitions."""
    if device != "cuda":
        return DEFINITIONS
    x = torch.zeros(1, 8, 4, 4, device=device, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    weight = torch.zeros(8, 8, 1, 1, device=device, dtype=dtype)
    bias, geometry = torch.zeros(8, device=device, dtype=dtype), ([1, 1], [0, 0], [1, 1], 1)
    try:
        aten.cudnn_convolution_relu(x, weight, bias, *geometry)
        _cudnn_add_relu(x, weight, x, bias, *geometry)
    except RuntimeError:
        return DEFINITIONS
    return Calls(aten.cudnn_convolution_relu.default, _cudnn_add_relu)


class _Network(nn.Module):
    """A model and how it is called."""

    def __init__(self, model: nn.Module, call: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.model, self._call = model, call

    def forward(self, images: torch.Tensor) -> Any:
        return self._call(self.model, images)


def trace(
    model: nn.Module, call: Callable[[Any, Any], Any], example: torch.Tensor
) -> fx.GraphModule:
    """Return a model as a graph of ATen's operators without side effects.

    Args:
        model: in evaluation mode.
        call: called with it and its input; returns tensors.
        example: an input; the graph takes this shape only.

    Raises:
        Exception: of any class: the model cannot be traced.
    """
    network = _Network(model, call).eval()
    with torch.no_grad():
        exported = torch.export.export(network, (example,), strict=False)
        return exported.run_decompositions({}).module(check_guards=False)


def optimize(graph: fx.GraphModule, exact: Mapping[str, torch.Tensor], calls: Calls) -> None:
    """Fold and fuse in place.

    Args:
        graph: of `trace`.
        exact: the model's parameters and buffers in float32, by name.
        calls: what fused convolutions call.
    """
    fold_batch_norm(graph, exact)
    graph.graph.eliminate_dead_code()  # a batch norm that is folded reads no convolution
    fuse_convolutions(graph, calls)
    graph.delete_all_unused_submodules()
    graph.recompile()


def fold_batch_norm(graph: fx.GraphModule, exact: Mapping[str, torch.Tensor]) -> int:
    """Fold each batch norm into the convolution before it; return how many were folded.

    A batch norm stays where something else reads what the convolution gives, and behind transposed
    convolutions in groups.
    """
    folded = 0
    for norm in graph.graph.find_nodes(op="call_function", target=BATCH_NORM):
        convolution, *given = norm.args
        uses = [node for node in norm.users if node.args[1] == 0 and node.users]
        if not _can_fold(convolution, given) or len(uses) != 1:
            continue
        x, weight, *rest = convolution.args
        bias = rest[0] if rest else None
        gamma, beta, mean, variance = (_value(graph, exact, node) for node in given[:4])
        scale = gamma / torch.sqrt(variance + given[5])
        w = _value(graph, exact, weight)
        b = _value(graph, exact, bias) if bias is not None else torch.zeros_like(mean)
        shape = [1] * w.dim()
        shape[1 if convolution.target is TRANSPOSED else 0] = -1
        like = _attribute(graph, weight.target)
        with graph.graph.inserting_before(convolution):
            new = [
                _add_parameter(graph, f"folded{folded}_{name}", value, like)
                for name, value in (
                    ("weight", w * scale.view(shape)),
                    ("bias", (b - mean) * scale + beta),
                )
            ]
        convolution.args = (x, *new, *rest[1:])
        uses[0].replace_all_uses_with(convolution)
        folded += 1
    return folded


def _can_fold(convolution: Any, given: list[Any]) -> bool:
    if convolution.target not in (CONVOLUTION, TRANSPOSED) or len(convolution.users) != 1:
        return False
    weight, *bias = convolution.args[1:3]
    tensors = [weight, *(node for node in bias if node is not None), *given[:4]]
    if not all(getattr(node, "op", "") == "get_attr" for node in tensors):
        return False
    # conv_transpose2d: x, weight, bias, stride, padding, output_padding, groups, dilation
    return not (
        convolution.target is TRANSPOSED and len(convolution.args) > 6 and convolution.args[6] != 1
    )


def fuse_convolutions(graph: fx.GraphModule, calls: Calls) -> int:
    """Make one call of each convolution with the ReLU, or the addition and the ReLU, behind it.

    Returns:
        How many there are.
    """
    order = {node: number for number, node in enumerate(graph.graph.nodes)}
    fused = 0
    for relu in graph.graph.find_nodes(op="call_function", target=aten.relu.default):
        behind = relu.args[0]
        convolution: Any
        others: tuple[Any, ...] = ()
        if _is_fusable(behind):
            convolution, call = behind, calls.relu
        elif _is_sum(behind):
            # The later one: what is added must be there when it runs.
            found = [node for node in behind.args if _is_fusable(node)]
            if not found:
                continue
            convolution = max(found, key=order.__getitem__)
            call = calls.add_relu
            others = tuple(node for node in behind.args if node is not convolution)
        else:
            continue
        given = tuple(convolution.args)
        x, weight, bias, *geometry = given + _DEFAULTS[len(given) - 2 :]
        with graph.graph.inserting_before(relu):
            new = graph.graph.call_function(
                call, (x, weight, *others, bias, *map(_as_list, geometry))
            )
        new.meta = dict(relu.meta)
        relu.replace_all_uses_with(new)
        graph.graph.erase_node(relu)
        fused += 1
    return fused


def _is_fusable(node: Any) -> bool:
    return getattr(node, "target", None) is CONVOLUTION and len(node.users) == 1 and not node.kwargs


def _is_sum(node: Any) -> bool:
    """Return True if a node adds two tensors of one shape for one reader."""
    if node.target is not aten.add.Tensor or len(node.users) != 1 or node.kwargs:
        return False
    shapes = [getattr(getattr(n, "meta", {}).get("val"), "shape", None) for n in node.args]
    return node.args[0] is not node.args[1] and shapes[0] is not None and shapes[0] == shapes[1]


def _as_list(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


def _attribute(graph: fx.GraphModule, name: str) -> torch.Tensor:
    found: Any = graph
    for part in name.split("."):
        found = getattr(found, part)
    tensor: torch.Tensor = found
    return tensor


def _value(graph: fx.GraphModule, exact: Mapping[str, torch.Tensor], node: Any) -> torch.Tensor:
    """Return a parameter in float64, as it was before it was rounded."""
    found = exact.get(node.target.removeprefix("model."))
    found = _attribute(graph, node.target) if found is None else found
    return found.detach().double()


def _add_parameter(
    graph: fx.GraphModule, name: str, value: torch.Tensor, like: torch.Tensor
) -> fx.Node:
    layout = torch.channels_last if value.dim() == 4 else torch.contiguous_format
    value = value.to(like.device, like.dtype).contiguous(memory_format=layout)
    graph.register_parameter(name, nn.Parameter(value, requires_grad=False))
    return graph.graph.get_attr(name)


@dataclass
class Schedule:
    """In which stream each node runs, and for which nodes of others it waits.

    Attributes:
        streams: node -> number of its stream.
        waits: node -> nodes of other streams.
    """

    streams: dict[fx.Node, int] = field(default_factory=dict)
    waits: dict[fx.Node, list[fx.Node]] = field(default_factory=dict)


def schedule(graph: fx.Graph) -> Schedule:
    """Spread a graph over streams: a node goes on where one of those that it needs came last.

    Where all of these streams have gone on without it, it takes an idle stream, or the one that has
    waited longest.
    """
    plan = Schedule()
    last: dict[int, fx.Node] = {}
    order = {node: number for number, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        needed = [other for other in node.all_input_nodes if other in plan.streams]
        own = [other for other in needed if last[plan.streams[other]] is other]
        if own:
            stream = plan.streams[max(own, key=order.__getitem__)]
        elif len(last) < STREAMS:
            stream = len(last)
        else:
            stream = min(last, key=lambda number: order[last[number]])
        plan.streams[node] = stream
        plan.waits[node] = [other for other in needed if plan.streams[other] != stream]
        last[stream] = node
    return plan


class StreamedGraph(fx.Interpreter):
    """A graph whose independent parts run in streams of their own, to be captured.

    All that it computes is kept until it ends, so that no stream is given memory that another one
    still reads.

    Args:
        graph: of `trace`, on a GPU.
    """

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph, garbage_collect_values=False)
        self._plan = schedule(graph.graph)
        self._waited_for = {node for waits in self._plan.waits.values() for node in waits}
        count = 1 + max(self._plan.streams.values(), default=0)
        self._side = [torch.cuda.Stream() for _ in range(count - 1)]

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run the graph: the side streams begin after the current one, and end before it."""
        main = torch.cuda.current_stream()
        self._streams = [main, *self._side]
        self._events: dict[fx.Node, Any] = {}
        for stream in self._side:
            stream.wait_stream(main)
        found = super().run(*args, **kwargs)
        for stream in self._side:
            main.wait_stream(stream)
        self.env: dict[fx.Node, Any] = {}
        return found

    def run_node(self, n: fx.Node) -> Any:
        """Run a node in its stream."""
        if n not in self._plan.streams:
            return super().run_node(n)
        stream = self._streams[self._plan.streams[n]]
        with torch.cuda.stream(stream):
            for other in self._plan.waits[n]:
                stream.wait_event(self._events[other])
            found = super().run_node(n)
            if n in self._waited_for:
                event = self._events[n] = torch.cuda.Event()
                event.record(stream)
        return found
