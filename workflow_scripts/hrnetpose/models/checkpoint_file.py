"""A file of weights: opened without executing anything of it, or named for what else it is."""

import json
import re
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hrnetpose import files
from hrnetpose.models import unpickle
from hrnetpose.models.unpickle import Checkpoint
from hrnetpose.stage import StageError, shown

EXPECTED = "expected a checkpoint of PyTorch (a state dict, saved with torch.save) or safetensors"
_FETCH = "fetch it again and compare its sha256"
_SIGNATURES = {
    b"\x89HDF": "a file of HDF5, as Keras writes it",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it",
    b"Rar!": "a rar archive; unpack it",
    b"\x1f\x8b": "compressed by gzip; unpack it",
    b"BZh": "compressed by bzip2; unpack it",
    b"\xfd7zXZ": "compressed by xz; unpack it",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it",
}


@contextmanager
def open_checkpoint(path: Path) -> Iterator[Checkpoint]:
    """Open a checkpoint; its tensors can be read until it is closed.

    Raises:
        StageError: the file is missing, damaged or something else.
    """
    if path.is_dir():
        raise StageError(f"{path}: a folder; {EXPECTED}, in one file")
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise StageError(f"{path}: there is no such checkpoint") from error
    with file:
        yield _read(file, path)


@contextmanager
def refuse_damage(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file raises into a StageError."""
    try:
        yield
    except StageError:
        raise
    except Exception as error:
        raise StageError(f"{path}: a damaged checkpoint; {_FETCH}") from error


def _read(file: IO[bytes], path: Path) -> Checkpoint:
    head = file.read(512)
    file.seek(0)
    if not head:
        raise StageError(f"{path}: empty; {_FETCH}")
    with refuse_damage(path):
        if head.startswith(b"PK"):
            archive = zipfile.ZipFile(file)
            return unpickle.read_zip(archive, _find_pickle(archive, path))
        if head.startswith(b"\x80"):
            checkpoint = unpickle.read_legacy(file)
            if checkpoint is None:
                raise StageError(
                    f"{path}: a pickle that torch.save did not write, as Paddle's; {EXPECTED}"
                )
            return checkpoint
        if head[8:10] == b'{"':  # the header of safetensors, after its length
            from safetensors.torch import load_file

            return Checkpoint(load_file(path), lambda name: b"")
        raise StageError(f"{path}: {_identify(head, path)}; {EXPECTED}")


def _find_pickle(archive: zipfile.ZipFile, path: Path) -> str:
    """Return the folder of a zip that holds a checkpoint.

    Raises:
        StageError: it is a zip of something else.
    """
    names = archive.namelist()
    pickles = [name for name in names if re.fullmatch(r"([^/]+/)?data\.pkl", name)]
    inner = [name for name in names if name.endswith((".pth", ".pt", ".ckpt", ".safetensors"))]
    kind = "a zip of other files"
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
        kind = f"a zip with {shown(inner[0])} in it; unpack it"
    raise StageError(f"{path}: {kind}; {EXPECTED}")


def _identify(head: bytes, path: Path) -> str:
    """Say what a file is that is not a checkpoint."""
    for signature, kind in _SIGNATURES.items():
        if head.startswith(signature):
            return kind
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "a web page; the link leads to a page and not to the file"
    if stand_in := files.describe_stand_in(head):
        return stand_in
    if text.startswith(b"{"):
        return _identify_json(path)
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


def _identify_json(path: Path) -> str:
    try:
        shards = set(json.loads(path.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "JSON"
    return f"the index of {len(shards)} files that hold the weights together; join them into one"
