"""From a file of weights to the weights of a model.

Checkpoints hold a state dict and much else, under a key and with a prefix that depend on who wrote
them.  The state dict that has the model's own names is taken; it must have all of them.
"""

import difflib
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hrnetpose import stage
from hrnetpose.models.checkpoint_file import EXPECTED, open_checkpoint, refuse_damage
from hrnetpose.models.unpickle import LazyTensor, StandIn
from hrnetpose.stage import StageError

State = dict[str, torch.Tensor]

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_CONTAINERS = (dict, list, tuple)
_MAX_DEPTH = 3
"""How deep in dictionaries and lists a state dict is searched for."""
_MAX_PREFIX = 8
"""Parts of a prefix, such as the two of `module.model.`."""
_AVERAGED = re.compile(r"(^|[._])(ema|swa|averaged?|teacher|shadow)([._]|$)")
_TRAINING = re.compile(
    r"(^|\.)(loss(es)?|loss_\w+|\w+_loss(es)?|criterion\w*|(\w+_)?metrics?|num_batches_tracked)(\.|$)"
    r"|^(steps|n_averaged|num_updates|decay|epoch|global_step)$"
)
_SIZES = re.compile(r"size mismatch for (\S+): .*?Size\((\[.*?\])\).*?Size\((\[.*?\])\)")
_NOT_DENSE = {
    "torch._utils._rebuild_qtensor": "a quantised tensor",
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils._rebuild_meta_tensor_no_storage": "a tensor without values (device `meta`)",
    "torch._utils._rebuild_tensor_v2": "a conjugated or negated tensor",
    "numpy.core.multiarray._reconstruct": "an array of NumPy",
    "numpy._core.multiarray._reconstruct": "an array of NumPy",
}


def load(model: torch.nn.Module, path: Path, config: str) -> list[str]:
    """Load a checkpoint into a model, strictly.

    Entries that the model does not have are left out if they belong to training (losses, averaged
    copies, counters), and the log says so.

    Args:
        model: its parameters and buffers are overwritten, in their own type.
        path: a checkpoint of PyTorch, in either format, or of safetensors.
        config: where the model is described; for messages.

    Returns:
        What a user should know: which weights were taken, if the checkpoint has several.

    Raises:
        StageError: the file cannot be read, is not a checkpoint, belongs to another model, or has
            values that are not finite.
    """
    own = model.state_dict()
    with open_checkpoint(path) as checkpoint:
        chosen, copies = _choose(checkpoint.content, own.keys(), path)
        values, others = _split(chosen, copies)
        with refuse_damage(path):
            state = {
                name: checkpoint.read_tensor(value) if isinstance(value, LazyTensor) else value
                for name, value in values.items()
                if isinstance(value, LazyTensor | torch.Tensor)
            }
    _check_types(own, values, state, path)
    _check_normalisation(model, state, path, config)
    try:
        # mmpose's own hooks rename what older checkpoints call otherwise, as keypoint_head.*
        keys = model.load_state_dict(state, strict=False)
    except Exception as error:
        raise StageError(_describe_mismatch(path, config, str(error))) from error
    unexpected = [*keys.unexpected_keys, *others]
    training = [name for name in unexpected if _is_for_training(name, own)]
    unknown = sorted(set(unexpected) - set(training))
    if keys.missing_keys or unknown:
        raise StageError(_describe_difference(path, config, len(own), keys.missing_keys, unknown))
    _check_finite(model, path)
    logging.info("%s: weights from %s", path, chosen)
    stored = sorted({_name_dtype(value) for name, value in state.items() if name in own})
    logging.info("stored as %s", ", ".join(stored))
    if training:
        first = stage.name(training[0])
        logging.info("left out, for training only: %s (first: %s)", len(training), first)
    if not copies:
        return []
    listed = ", ".join(map(str, copies))
    return [f"the weights are those of {chosen}; the checkpoint also has those of {listed}"]


# --- which state dict -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Candidate:
    """Weights in a checkpoint that may be the model's.

    Attributes:
        key: of the state dict; empty if the checkpoint is one.
        prefix: what its names have before the model's.
        state: the state dict.
        hits: how many of its names are the model's.
    """

    key: str
    prefix: str
    state: dict[Any, Any]
    hits: int

    def __str__(self) -> str:
        place = f"`{stage.name(self.key)}`" if self.key else "the file itself"
        return f"{place}, names after `{stage.name(self.prefix)}`" if self.prefix else place


def _choose(content: Any, own: Collection[str], path: Path) -> tuple[_Candidate, list[_Candidate]]:
    """Choose the weights that have the model's names, whatever their key.

    Averaged weights (EMA) come second: mmengine's EMAHook swaps the two when it saves, so its
    `state_dict` is what was evaluated.

    Returns:
        The weights, and others of the same model.

    Raises:
        StageError: there are none, or several of equal rank.
    """
    candidates = [
        _Candidate(key, prefix, state, hits)
        for key, state in _find_state_dicts(content)
        for prefix, hits in _count_prefixes(state, own).items()
    ]
    best = max((candidate.hits for candidate in candidates), default=0)
    if not best and (whole := _find_whole_model(content)):
        raise StageError(
            f"{path}: {whole} is a whole pickled model, and reading it would run its code; where "
            "it was trained, save `model.state_dict()` with torch.save instead"
        )
    if not candidates:
        keys = ", ".join(map(str, content)) if isinstance(content, dict) else ""
        found = f", only {stage.name(keys)}" if keys else ""
        raise StageError(f"{path}: no `state_dict` of tensors in it{found}; {EXPECTED}")
    if not best:  # of another model: the message compares the largest one
        return max(candidates, key=lambda candidate: len(candidate.state)), []
    equal = [candidate for candidate in candidates if candidate.hits == best]
    trained = [c for c in equal if not _AVERAGED.search(f"{c.key}.{c.prefix}")] or equal
    if len(trained) > 1:
        named = [candidate for candidate in trained if candidate.key == "state_dict"]
        if len(named) != 1:
            raise StageError(
                f"{path}: weights of this model are in {' and '.join(map(str, trained))}; save "
                "the right one as `state_dict`"
            )
        trained = named
    return trained[0], [candidate for candidate in equal if candidate is not trained[0]]


def _split(chosen: _Candidate, copies: list[_Candidate]) -> tuple[dict[str, Any], list[str]]:
    """Return the entries after the chosen prefix, and the other names beside them."""
    beside = tuple(copy.prefix for copy in copies if copy.state is chosen.state and copy.prefix)
    names = [n for n in chosen.state if isinstance(n, str) and not n.startswith(beside)]
    prefix = chosen.prefix
    values = {n.removeprefix(prefix): chosen.state[n] for n in names if n.startswith(prefix)}
    return values, [n for n in names if not n.startswith(prefix)]


def _find_state_dicts(content: Any) -> Iterator[tuple[str, dict[Any, Any]]]:
    """Yield the dictionaries of tensors in a checkpoint with their keys, outer ones first."""
    queue: list[tuple[str, Any, int]] = []
    if isinstance(content, _CONTAINERS):
        queue.append(("", content, 0))
    seen = {id(content)}
    for key, value, depth in queue:  # grows on the way
        if isinstance(value, dict) and any(map(_is_tensor, value.values())):
            yield key, value
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(inner, _CONTAINERS) and id(inner) not in seen and depth < _MAX_DEPTH:
                seen.add(id(inner))
                queue.append((f"{key}.{name}" if key else str(name), inner, depth + 1))


def _is_tensor(value: Any) -> bool:
    if isinstance(value, StandIn):
        return value.name in _NOT_DENSE
    return isinstance(value, LazyTensor | torch.Tensor)


def _count_prefixes(state: Mapping[Any, Any], own: Collection[str]) -> dict[str, int]:
    """Return the prefixes after which there are names of the model, and how many."""
    hits: Counter[str] = Counter({"": 0})
    for name in state:
        rest, prefix = str(name), ""
        for _ in range(_MAX_PREFIX):
            hits[prefix] += rest in own
            part, dot, rest = rest.partition(".")
            if not dot:
                break
            prefix += part + "."
    return {prefix: count for prefix, count in hits.items() if count or not prefix}


def _find_whole_model(content: Any) -> str | None:
    """Name the pickled module that a checkpoint is or has, if there is one."""
    items = {"": content, **content} if isinstance(content, dict) else {"": content}
    for key, value in items.items():
        state = value.state if isinstance(value, StandIn) else None
        if isinstance(state, dict) and "_modules" in state:
            place = f"`{stage.name(str(key))}`" if key else "it"
            return f"{place} ({stage.name(value.name)})"
    return None


# --- whether it fits ------------------------------------------------------------------------------


def _check_types(own: State, values: dict[str, Any], state: State, path: Path) -> None:
    """Refuse weights that are not dense tensors, or not floating-point where the model's are."""
    for name in (name for name in own if name in values):
        if name not in state:
            value, kind = values[name], f"a {type(values[name]).__name__}"
            if isinstance(value, StandIn):
                kind = _NOT_DENSE.get(value.name, f"an object ({stage.name(value.name)})")
            raise StageError(f"{path}: {name} is {kind}; expected a dense tensor")
        if own[name].is_floating_point() and state[name].dtype not in _FLOATS:
            raise StageError(
                f"{path}: {name} is {_name_dtype(state[name])}; expected floating-point weights, "
                "before they are quantised"
            )


def _check_normalisation(model: torch.nn.Module, state: State, path: Path, config: str) -> None:
    """Refuse another mean and standard deviation of the pixels than the config's.

    Older models save them; mmpose silently takes the config's.
    """
    buffers = dict(model.named_buffers())
    for name in ("data_preprocessor.mean", "data_preprocessor.std"):
        if name in state and name in buffers:
            saved, used = state[name], buffers[name]
            if saved.shape != used.shape or not torch.allclose(saved.float(), used, atol=1e-2):
                values = saved.flatten().tolist() if saved.numel() <= 4 else list(saved.shape)
                raise StageError(
                    f"{path}: {name} is {values}, but {config} has {used.flatten().tolist()}; "
                    "correct the config's model.data_preprocessor"
                )


def _check_finite(model: torch.nn.Module, path: Path) -> None:
    broken = {
        name: count
        for name, value in model.state_dict().items()
        if value.is_floating_point() and (count := int((~torch.isfinite(value)).sum()))
    }
    if broken:
        name, count = next(iter(broken.items()))
        total, more = model.state_dict()[name].numel(), len(broken) - 1
        others = f", and so are values of {more} other tensors" if more else ""
        raise StageError(
            f"{path}: {name}: {count} of {total} values are NaN or infinite in fp32{others}; the "
            "training diverged: give an earlier checkpoint"
        )


def _is_for_training(name: str, own: Collection[str]) -> bool:
    """Return True for an entry that only training needs, and that no other model has as a part."""
    if _TRAINING.search(name):
        return True
    # mmcv 1.x registers the averaged copy in the model itself.
    return name.startswith("ema_") and name[4:] in {other.replace(".", "_") for other in own}


def _describe_mismatch(path: Path, config: str, error: str) -> str:
    """Say why PyTorch cannot load a state dict."""
    wrong = _SIZES.findall(error)
    if not wrong:
        return f"{path}: does not belong to {config}: its tensors cannot be loaded"
    name, found, expected = wrong[0]
    others = f", and {len(wrong) - 1} other tensors have other shapes" if len(wrong) > 1 else ""
    return f"{path}: does not belong to {config}: {name} is {found}, expected {expected}{others}"


def _describe_difference(
    path: Path, config: str, count: int, missing: list[str], unexpected: list[str]
) -> str:
    """Say which names are missing and which are unexpected, similar ones side by side."""
    parts = []
    if missing:
        parts.append(f"missing {len(missing)} of the model's {count} tensors, first {missing[0]}")
    if unexpected:
        close = difflib.get_close_matches(missing[0], unexpected, 1, 0) if missing else unexpected
        parts.append(f"not of the model: {len(unexpected)}, first {stage.name(close[0])}")
    return f"{path}: does not belong to {config}: {'; '.join(parts)}"


def _name_dtype(value: torch.Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")
