"""From a file of weights to the weights of a model.  Nothing that is in the file is executed.

Checkpoints of PyTorch hold a state dict and much else, under a key and with a prefix that depend on
who wrote them.  The state dict that has the model's own names is taken; it has to have all of them.
"""

import difflib
import json
import logging
import re
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import torch

from hrnetpose.models import unpickle
from hrnetpose.models.unpickle import Checkpoint, StandIn, Values
from hrnetpose.stage import StageError

_T = TypeVar("_T")
_EXPECTED = "expected a checkpoint of PyTorch (a state dict, saved with torch.save) or safetensors"
_FETCH = "fetch it again and compare its sha256"
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_CONTAINERS = (dict, list, tuple)
_DEPTH = 3
"""How deep in dictionaries and lists a state dict is looked for."""
_LONGEST_PREFIX = 8
"""In parts of a name, such as the two of `module.model.`."""
_AVERAGED = re.compile(r"(^|[._])(ema|swa|averaged?|teacher|shadow)([._]|$)")
_OF_TRAINING = re.compile(
    r"(^|\.)(loss(es)?|loss_\w+|\w+_loss(es)?|criterion\w*|(\w+_)?metrics?|num_batches_tracked)(\.|$)"
    r"|^(steps|n_averaged|num_updates|decay|epoch|global_step)$"
)
_SIZES = re.compile(r"size mismatch for (\S+): .*?Size\((\[.*?\])\).*?Size\((\[.*?\])\)")
_SIGNATURES = {
    b"version https://git-lfs": "a pointer of Git LFS; run `git lfs pull` where it comes from",
    b"\x89HDF": "a file of HDF5, as Keras writes it",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it",
    b"Rar!": "a rar archive; unpack it",
    b"\x1f\x8b": "compressed by gzip; unpack it",
    b"BZh": "compressed by bzip2; unpack it",
    b"\xfd7zXZ": "compressed by xz; unpack it",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it",
}
_UNREAD = {
    "torch._utils._rebuild_qtensor": "a quantised tensor",
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils._rebuild_meta_tensor_no_storage": "a tensor without values (device `meta`)",
    "torch._utils._rebuild_tensor_v2": "a conjugated or negated tensor",
    "numpy.core.multiarray._reconstruct": "an array of NumPy",
    "numpy._core.multiarray._reconstruct": "an array of NumPy",
}


def load(model: torch.nn.Module, path: Path, config: str) -> list[str]:
    """Loads a checkpoint into a model, strictly.

    What the checkpoint has more than the model is left out where it belongs to training (losses,
    averaged copies, counters), and the log says so.

    Args:
        model: its parameters and buffers are overwritten, in their own type.
        path: a checkpoint of PyTorch, in either format, or of safetensors.
        config: where the model is described; for messages.

    Returns:
        What a user should know: which weights were taken, if there are several of the model.

    Raises:
        StageError: the file cannot be read, is no checkpoint, is one of another model, or its
            values are not finite.
    """
    own = model.state_dict()
    with _open(path) as checkpoint:
        chosen = _choose(checkpoint.content, own.keys(), path)
        state = {
            name: _read(checkpoint, value, path)
            for name, value in chosen.values.items()
            if isinstance(value, Values | torch.Tensor)
        }
    for name in (name for name in own if name in chosen.values):
        if name not in state:
            value = chosen.values[name]
            raise StageError(f"{path}: {name} is {_kind_of_value(value)}; expected a dense tensor")
        if own[name].is_floating_point() and state[name].dtype not in _FLOATS:
            raise StageError(
                f"{path}: {name} is {_dtype(state[name])}; expected floating-point weights, before "
                "they are quantised"
            )
    _check_normalisation(model, state, path, config)
    try:
        # mmpose's own hooks rename what older checkpoints call otherwise, as keypoint_head.*
        keys = model.load_state_dict(state, strict=False)
    except Exception as error:
        raise StageError(_misfit(path, config, str(error))) from error
    unexpected = [*keys.unexpected_keys, *chosen.others]
    training = [name for name in unexpected if _is_of_training(name, own)]
    unknown = sorted(set(unexpected) - set(training))
    if keys.missing_keys or unknown:
        raise StageError(_difference(path, config, len(own), keys.missing_keys, unknown))
    _check_finite(model, path)
    logging.info("%s: weights from %s", path, chosen.place)
    stored = sorted({_dtype(value) for name, value in state.items() if name in own})
    logging.info("stored as %s", ", ".join(stored))
    if training:
        logging.info("left out, of training: %s (first: %s)", len(training), training[0])
    if not chosen.copies:
        return []
    others = ", ".join(map(str, chosen.copies))
    return [f"the weights are those of {chosen.place}; the checkpoint also has those of {others}"]


# --- files ----------------------------------------------------------------------------------------


@contextmanager
def _open(path: Path) -> Iterator[Checkpoint]:
    """Yields what a file holds; its tensors can be read until the file is closed.

    Raises:
        StageError: it is something else, or damaged.
    """
    if path.is_dir():
        raise StageError(f"{path}: a folder; {_EXPECTED}, in one file")
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise StageError(f"{path}: there is no such checkpoint") from error
    with file:
        head = file.read(512)
        file.seek(0)
        if not head:
            raise StageError(f"{path}: empty; {_FETCH}")
        if head.startswith(b"PK"):
            with _open_zip(file, path) as archive:
                folder = _folder(archive, path)
                yield _parse(path, lambda: unpickle.read_zip(archive, folder))
        elif head.startswith(b"\x80"):
            checkpoint = _parse(path, lambda: unpickle.read_legacy(file))
            if checkpoint is None:
                raise StageError(
                    f"{path}: a pickle that torch.save did not write, as of Paddle; {_EXPECTED}"
                )
            yield checkpoint
        elif _is_safetensors(head, path):
            yield _parse(path, lambda: Checkpoint(_read_safetensors(path), lambda name: b""))
        else:
            kind = _parse(path, lambda: _kind(head, path))
            raise StageError(f"{path}: {kind}; {_EXPECTED}")


def _parse(path: Path, read: Callable[[], _T]) -> _T:
    try:
        return read()
    except Exception as error:  # whatever a damaged file brings about
        raise StageError(f"{path}: a damaged checkpoint; {_FETCH}") from error


def _open_zip(file: IO[bytes], path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except Exception as error:
        raise StageError(f"{path}: a checkpoint that is cut off or damaged; {_FETCH}") from error


def _folder(archive: zipfile.ZipFile, path: Path) -> str:
    """Returns the folder of the zip that holds a checkpoint.

    Raises:
        StageError: it is a zip of something else.
    """
    names = archive.namelist()
    pickles = [name for name in names if re.fullmatch(r"([^/]+/)?data\.pkl", name)]
    inner = [name for name in names if name.endswith((".pth", ".pt", ".ckpt", ".safetensors"))]
    kind = None
    if any(name.endswith("constants.pkl") for name in names):
        kind = "an archive of TorchScript; save the `state_dict` of the model it was made from"
    elif len(pickles) == 1:
        return pickles[0].removesuffix("data.pkl")
    elif any(name.endswith("archive_format") for name in names):
        kind = "an archive of torch.export; save the `state_dict` of the model it was made from"
    elif names and all(name.endswith(".npy") for name in names):
        kind = "arrays of NumPy (.npz)"
    elif any(name.endswith(".weights.h5") for name in names):
        kind = "a model of Keras"
    elif inner:
        kind = f"a zip with {_shorten(repr(inner[0]))} in it; unpack it"
    raise StageError(f"{path}: {kind or 'a zip of other files'}; {_EXPECTED}")


def _is_safetensors(head: bytes, path: Path) -> bool:
    """Tells the format by the length of its header, which is JSON."""
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and length <= path.stat().st_size - 8


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def _kind(head: bytes, path: Path) -> str:
    """Says what a file is that is no checkpoint."""
    for signature, kind in _SIGNATURES.items():
        if head.startswith(signature):
            return kind
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "a web page; the link leads to a page and not to the file"
    if text.startswith(b"{"):
        return _kind_of_json(path)
    if tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            if {"storages", "tensors", "pickle"} <= {member.name for member in archive}:
                return "the format of PyTorch 0.1 (tar); load and save it with PyTorch 1.x"
        return "a tar archive; unpack it"
    if head[4:8] == b"TFL3":
        return "a model of TensorFlow Lite"
    if path.suffix == ".onnx" or re.match(rb"\x08[\x03-\x20][\x12\x1a\x22\x3a]", head):
        return "an ONNX graph; give the checkpoint that it was exported from"
    if re.match(rb"\x08\x01\x12|\x0a.{0,3}\x0a", head, re.DOTALL):
        return "a graph of TensorFlow"
    return f"no checkpoint; it begins with {head[:12]!r}"


def _kind_of_json(path: Path) -> str:
    try:
        shards = set(json.loads(path.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "JSON"
    return f"the index of {len(shards)} files that hold the weights together; join them into one"


# --- state dicts ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Place:
    """Where in a checkpoint there may be weights of the model.

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
        place = f"`{_shorten(self.key)}`" if self.key else "the file itself"
        return f"{place}, names after `{_shorten(self.prefix)}`" if self.prefix else place


@dataclass
class _Chosen:
    """A state dict.

    Attributes:
        place: where it was found.
        values: name, without the prefix -> value.
        others: names without the prefix that others have.
        copies: other weights of the same model.
    """

    place: _Place
    values: dict[str, Any]
    others: list[str]
    copies: list[_Place]


def _choose(content: Any, own: Collection[str], path: Path) -> _Chosen:
    """Finds the state dict that has the model's names, whatever it is called.

    Averaged weights (EMA) come second: mmengine's EMAHook swaps the two when it saves, so that its
    `state_dict` is what was evaluated.

    Raises:
        StageError: there is none, or there are several and no telling which is meant.
    """
    places = [
        _Place(key, prefix, state, hits)
        for key, state in _state_dicts(content)
        for prefix, hits in _prefixes(state, own).items()
    ]
    best = max((place.hits for place in places), default=0)
    if not best and (whole := _whole_model(content)):
        raise StageError(
            f"{path}: {whole} is a whole pickled model, and reading it would run its code; where "
            "it was trained, save `model.state_dict()` with torch.save instead"
        )
    if not places:
        keys = ", ".join(map(str, content)) if isinstance(content, dict) else ""
        found = f", only {_shorten(keys)}" if keys else ""
        raise StageError(f"{path}: no `state_dict` of tensors in it{found}; {_EXPECTED}")
    if not best:  # of another model: the largest one is compared
        places = [max(places, key=lambda place: len(place.state))]
    equal = [place for place in places if place.hits == best]
    meant = [place for place in equal if not _AVERAGED.search(f"{place.key}.{place.prefix}")]
    meant = meant or equal
    if len(meant) > 1:
        named = [place for place in meant if place.key == "state_dict"]
        if len(named) != 1:
            raise StageError(
                f"{path}: weights of this model are in {' and '.join(map(str, meant))}; save the "
                "one that is meant as `state_dict`"
            )
        meant = named
    [chosen] = meant
    copies = [place for place in equal if place is not chosen]
    beside = tuple(p.prefix for p in copies if p.state is chosen.state and p.prefix)
    names = [n for n in chosen.state if isinstance(n, str) and not n.startswith(beside)]
    prefix = chosen.prefix
    return _Chosen(
        place=chosen,
        values={n.removeprefix(prefix): chosen.state[n] for n in names if n.startswith(prefix)},
        others=[n for n in names if not n.startswith(prefix)],
        copies=copies,
    )


def _state_dicts(content: Any) -> Iterator[tuple[str, dict[Any, Any]]]:
    """Yields the dictionaries of tensors in a checkpoint, with their place, outer ones first."""
    waiting: list[tuple[str, Any, int]] = []
    if isinstance(content, _CONTAINERS):
        waiting.append(("", content, 0))
    seen = {id(content)}
    for key, value, depth in waiting:  # grows on the way
        if isinstance(value, dict) and any(map(_is_tensor, value.values())):
            yield key, value
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(inner, _CONTAINERS) and id(inner) not in seen and depth < _DEPTH:
                seen.add(id(inner))
                waiting.append((f"{key}.{name}" if key else str(name), inner, depth + 1))


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Values | torch.Tensor) or (
        isinstance(value, StandIn) and value.name in _UNREAD
    )


def _prefixes(state: Mapping[Any, Any], own: Collection[str]) -> dict[str, int]:
    """Returns the prefixes after which there are names of the model, and how many."""
    found: Counter[str] = Counter({"": 0})
    for name in state:
        rest, prefix = str(name), ""
        for _ in range(_LONGEST_PREFIX):
            found[prefix] += rest in own
            part, dot, rest = rest.partition(".")
            if not dot:
                break
            prefix += part + "."
    return {prefix: hits for prefix, hits in found.items() if hits or not prefix}


def _whole_model(content: Any) -> str | None:
    """Names the pickled module that a checkpoint is or has, if there is one."""
    items = {"": content, **content} if isinstance(content, dict) else {"": content}
    for key, value in items.items():
        state = value.state if isinstance(value, StandIn) else None
        if isinstance(state, dict) and "_modules" in state:
            return f"{f'`{key}`' if key else 'it'} ({_shorten(value.name)})"
    return None


def _read(checkpoint: Checkpoint, value: Values | torch.Tensor, path: Path) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value
    return _parse(path, lambda: checkpoint.tensor(value))


def _kind_of_value(value: Any) -> str:
    if isinstance(value, StandIn):
        return _UNREAD.get(value.name, f"an object ({_shorten(value.name)})")
    return f"a {type(value).__name__}"


def _is_of_training(name: str, own: Collection[str]) -> bool:
    """Tells what only training needs from what may be a part of another model."""
    if _OF_TRAINING.search(name):
        return True
    # The averaged copy that mmcv 1.x registers in the model itself.
    return name.startswith("ema_") and name[4:] in {own_name.replace(".", "_") for own_name in own}


def _check_normalisation(
    model: torch.nn.Module, state: Mapping[str, torch.Tensor], path: Path, config: str
) -> None:
    """Refuses a mean and a deviation of the pixels that are others than those of the config.

    Older models save them; mmpose takes those of the config without a word.
    """
    buffers = dict(model.named_buffers())
    for name in ("data_preprocessor.mean", "data_preprocessor.std"):
        if name in state and name in buffers:
            saved, used = state[name], buffers[name]
            if saved.shape != used.shape or not torch.allclose(saved.float(), used, atol=1e-2):
                shown = saved.flatten().tolist() if saved.numel() <= 4 else list(saved.shape)
                raise StageError(
                    f"{path}: {name} is {shown}, but {config} has {used.flatten().tolist()}; "
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
        of = model.state_dict()[name].numel()
        others = (
            f", and so are values of {len(broken) - 1} other tensors" if len(broken) > 1 else ""
        )
        raise StageError(
            f"{path}: {name}: {count} of {of} values are NaN or infinite in fp32{others}; the "
            "training diverged: give an earlier checkpoint"
        )


def _misfit(path: Path, config: str, error: str) -> str:
    """Says why a state dict cannot be loaded, from what PyTorch says of it."""
    wrong = _SIZES.findall(error)
    if not wrong:
        return f"{path}: does not belong to {config}: its tensors cannot be loaded"
    name, found, expected = wrong[0]
    others = f", and {len(wrong) - 1} other tensors have other shapes" if len(wrong) > 1 else ""
    return f"{path}: does not belong to {config}: {name} is {found}, expected {expected}{others}"


def _difference(
    path: Path, config: str, count: int, missing: list[str], unexpected: list[str]
) -> str:
    """Says which names are missing and which are too many, alike ones side by side."""
    parts = []
    if missing:
        parts.append(f"missing {len(missing)} of the model's {count} tensors, first {missing[0]}")
    if unexpected:
        alike = difflib.get_close_matches(missing[0], unexpected, 1, 0) if missing else unexpected
        parts.append(f"not of the model: {len(unexpected)}, first {_shorten(alike[0])}")
    return f"{path}: does not belong to {config}: {'; '.join(parts)}"


def _dtype(value: torch.Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _shorten(text: str, limit: int = 120) -> str:
    """Returns text that may come from the file in a form that a terminal shows as it is."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= limit else f"{text[:limit]}..."
