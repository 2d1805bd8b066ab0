"""Whatever a pickle asks for, nothing of it is done."""

import builtins
import collections
import copyreg
import functools
import operator
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hrnetpose.models import checkpoint, unpickle
from hrnetpose.stage import StageError

WATCHED = ("compile", "ctypes", "exec", "import", "os.", "pickle.", "shutil.", "socket.",
           "subprocess.", "tempfile.", "urllib.")  # fmt: skip
_watches: list[list[str]] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    writes = event == "open" and str(arguments[1] or "r")[0] not in "r"
    for events in _watches:
        if writes or event.startswith(WATCHED):
            events.append(f"{event} {arguments}")


@contextmanager
def watch() -> Iterator[list[str]]:
    """Yield what is imported, executed, started and written."""
    events: list[str] = []
    _watches.append(events)
    try:
        yield events
    finally:
        _watches.remove(events)


@pytest.fixture(scope="module", autouse=True)
def hook() -> None:
    sys.addaudithook(_hook)


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a checkpoint is written; one was loaded before, with all that this project imports."""
    monkeypatch.chdir(tmp_path)
    torch.save(model().state_dict(), tmp_path / "warm.pth")
    checkpoint.load(model(), tmp_path / "warm.pth", "model.py")
    "names in a zip".encode("cp437")
    return tmp_path / "w.pth"


class Call:
    """Pickled, it is a call."""

    def __init__(
        self, function: Any, *arguments: Any, state: Any = None, items: Any = None
    ) -> None:
        self.reduced = (function, arguments, state, None, items and iter(items))

    def __reduce__(self) -> Any:
        return self.reduced


class Restored:
    """Pickled, it is an object with a state of its own."""

    def __getstate__(self) -> Any:
        return {"x": 1}

    def __setstate__(self, state: Any) -> None:
        os.mkdir("executed")


CALLS: dict[str, Callable[[], Any]] = {
    "os.system": lambda: Call(os.system, "mkdir executed"),
    "os.mkdir": lambda: Call(os.mkdir, "executed"),
    "subprocess": lambda: Call(subprocess.run, ["mkdir", "executed"]),
    "eval": lambda: Call(builtins.eval, "__import__('os').mkdir('executed')"),
    "exec": lambda: Call(builtins.exec, "import os; os.mkdir('executed')"),
    "import": lambda: Call(builtins.__import__, "antigravity"),
    "getattr": lambda: Call(getattr, "a", "join"),
    "attrgetter": lambda: Call(operator.attrgetter, "system"),
    "methodcaller": lambda: Call(operator.methodcaller, "mkdir", "executed"),
    "partial": lambda: Call(functools.partial(os.mkdir, "executed")),
    "torch.hub.load": lambda: Call(torch.hub.load, "a/b", "c"),
    "torch.load": lambda: Call(torch.load, "x.pth"),
    "torch.save": lambda: Call(torch.save, 1, "executed"),
    "rebuild with a function": lambda: Call(
        torch._tensor._rebuild_from_type_v2, os.mkdir, torch.Tensor, ("executed",), {}),
    "rebuild with a type": lambda: Call(
        torch._tensor._rebuild_from_type_v2, torch.Size, Restored, ((1,),), {}),
    "rebuild of a subclass": lambda: Call(
        torch._utils._rebuild_wrapper_subclass, Restored, torch.float32, (1,), (1,), 0,
        torch.strided, "cpu", False),
    "rebuild for a device": lambda: Call(
        torch._utils._rebuild_device_tensor_from_numpy, [1], torch.float32, "cuda", False),
    "rebuild of what is no storage": lambda: Call(
        torch._utils._rebuild_tensor_v2, Restored(), 0, (2,), (1,), False, {}),
    "__setstate__": Restored,
    "state of a class": lambda: Call(type, "x", (), {"a": 1}, state={"mkdir": "executed"}),
    "items": lambda: Call(dict, items=[("a", Call(os.mkdir, "executed"))]),
    "default": lambda: Call(collections.defaultdict, os.getcwd),
    "loads": lambda: Call(pickle.loads, pickle.dumps(Call(os.mkdir, "executed"))),
    "storage": lambda: Call(torch.storage._load_from_bytes, b"x"),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("zipped", [True, False])
def test_calls_are_not_made(file: Path, name: str, zipped: bool) -> None:
    loaded, state = model(), model().state_dict()
    beside = {"meta": CALLS[name](), "state_dict": state, "hooks": [CALLS[name]()]}
    torch.save(beside, file, _use_new_zipfile_serialization=zipped)
    instead = {"state_dict": {**state, "0.weight": CALLS[name]()}}
    torch.save(instead, file.with_name("instead.pth"), _use_new_zipfile_serialization=zipped)

    with watch() as events:
        checkpoint.load(loaded, file, "model.py")
        with pytest.raises(StageError, match=r"instead\.pth: "):
            checkpoint.load(model(), file.with_name("instead.pth"), "model.py")

    assert events == []
    assert all(torch.equal(loaded.state_dict()[key], state[key]) for key in state)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def storage(kind: bytes, key: str = "0", count: bytes = b"K\x06", view: bytes = b"") -> bytes:
    return b"(" + text("storage") + b"c" + kind + text(key) + text("cpu") + count + view + b"tQ"


def tensor(stored: bytes, offset: bytes = b"K\x00", shape: bytes = b"K\x03K\x02\x86",
           strides: bytes = b"K\x02K\x01\x86") -> bytes:  # fmt: skip
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n("
    return rebuild + stored + offset + shape + strides + b"\x89}tR"


def entry(value: bytes) -> bytes:
    """A state dict with one entry."""
    return b"}" + text("0.weight") + value + b"s."


FLOATS = b"torch\nFloatStorage\n"
HUGE = b"\x8a\x06\x00\x00\x00\x00\x00\x40"
PROGRAMS = {
    "a global, called in text": b"cos\nmkdir\n(S'executed'\ntR.",
    "INST": b"(S'executed'\nios\nmkdir\n.",
    "OBJ": b"(cos\nmkdir\nS'executed'\no.",
    "NEWOBJ": b"cos\nmkdir\nS'executed'\n\x85\x81.",
    "NEWOBJ_EX": b"cos\nmkdir\nS'executed'\n\x85}\x92.",
    "STACK_GLOBAL": b"\x8c\x02os\x8c\x05mkdir\x93\x8c\x08executed\x85R.",
    "a dotted name": b"\x8c\x05torch\x8c\x10hub.os.path.join\x93)R.",
    "a call of what a call returns": b"coperator\nattrgetter\nS'mkdir'\n\x85Rcos\npath\n\x85R.",
    "a call of a text": b"\x8c\x01x)R.",
    "a call of a number": b"K\x01)R.",
    "state of a class": b"ctorch.nn.parameter\nParameter\nN}\x8c\x07__new__K\x01s\x86b.",
    "state of a function": b"ctorch._utils\n_rebuild_tensor_v2\nN}\x8c\x08__code__K\x01s\x86b.",
    "items of a class": b"ctorch.nn.parameter\nParameter\n\x8c\x01aK\x01s.",
    "EXT1": b"\x82\x01.",
    "EXT4": b"\x84\x01\x00\x00\x00.",
    "a buffer": b"\x97.",
    "a persistent id in text": b"Pexecuted\n.",
    "a persistent id of a number": b"K\x01Q.",
    "a class with its source": b"(" + text("module") + b"cos\nmkdir\n" + text("/tmp/x.py")
    + text("source") + b"tQ.",
    "a storage of no type": entry(tensor(storage(b"os\nmkdir\n"))),
    "a storage of a class": entry(tensor(storage(b"torch\nFloatStorage.__class__\n"))),
    "a storage of another place": entry(tensor(storage(FLOATS, "../../../etc/passwd"))),
    "a storage that is not there": entry(tensor(storage(FLOATS, "9"))),
    "a huge storage": entry(tensor(storage(FLOATS, count=HUGE))),
    "a negative storage": entry(tensor(storage(FLOATS, count=b"J\xff\xff\xff\xff"))),
    "an offset behind the end": entry(tensor(storage(FLOATS), offset=b"K\x09")),
    "a negative offset": entry(tensor(storage(FLOATS), offset=b"J\xff\xff\xff\xff")),
    "strides behind the end": entry(tensor(storage(FLOATS), strides=b"K\xffK\x01\x86")),
    "negative strides": entry(tensor(storage(FLOATS), strides=b"J\xff\xff\xff\xffK\x01\x86")),
    "a huge shape": entry(tensor(storage(FLOATS), shape=HUGE + b"K\x02\x86",
                                 strides=b"K\x00K\x00\x86")),
    "a shape of texts": entry(tensor(storage(FLOATS), shape=b"\x8c\x01aK\x02\x86")),
    "a view behind the end": entry(tensor(storage(FLOATS, view=text("v") + b"K\x05K\x06\x87"))),
    "a large place in the memo": b"Nr\xff\xff\xff\x7f.",
    "a place in the memo that is empty": b"h\x07.",
    "a stack that is empty": b"R.",
    "a mark that is missing": b"K\x01t.",
    "no end": b"K\x01",
    "a text longer than the file": b"X\xff\xff\xff\x7fabc.",
    "a text longer than any": b"\x8d" + b"\xff" * 7 + b"\x7fabc.",
    "bytes longer than any": b"\x96" + b"\xff" * 6 + b"\x00\x00abc.",
    "a dictionary in itself": b"}q\x00\x8c\x01ah\x00s.",
    "a list in itself": b"]q\x00h\x00a.",
    "a key of nested tuples": b"}" + b"(K\x01K\x01t" + b"q\x00h\x00\x86" * 60 + b"K\x01s.",
    "a set of nested tuples": b"\x8f(" + b"K\x01" + b"q\x00h\x00\x86" * 60 + b"\x90.",
    "lists in lists": b"]" + b"\x85" * 200_000 + b".",
    "doubled lists": b"]" + b"q\x00h\x00\x86" * 200 + b".",
    "marks": b"(" * 200_000 + b".",
    "rebuilds in rebuilds": b"ctorch._tensor\n_rebuild_from_type_v2\nq\x00" + b"(h\x00N" * 5000
    + b")" + b"Nt" * 5000 + b"R.",
    "a key of many digits": b"}(\x8b" + struct.pack("<i", 5000) + b"\x7f" * 5000
    + tensor(storage(FLOATS)) + b"u.",
    "a number of many digits": b"I" + b"9" * 100_000 + b"\n.",
    "an opcode that is none": b"\xff.",
}  # fmt: skip


def write_zip(file: Path, program: bytes) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("w/data.pkl", program)
        archive.writestr("w/byteorder", "little")
        archive.writestr("w/data/0", bytes(24))


def write_legacy(file: Path, program: bytes) -> None:
    torch.save(0, file, _use_new_zipfile_serialization=False)
    head = file.read_bytes()
    head = head[: head.rindex(b"\x80\x02K\x00.")]
    data = struct.pack("<q", 6) + bytes(24)
    file.write_bytes(head + program + pickle.dumps(["0"], protocol=2) + data)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_a_program_is_refused_and_nothing_of_it_done(
    file: Path, name: str, write: Callable[[Path, bytes], None]
) -> None:
    write(file, PROGRAMS[name])
    before = set(file.parent.iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(copyreg._inverted_registry, 1, ("os", "mkdir"))  # type: ignore[attr-defined]
        patch.setitem(copyreg._extension_cache, 1, os.mkdir)  # type: ignore[attr-defined]

        with watch() as events, pytest.raises(StageError) as error:
            checkpoint.load(model(), file, "model.py")

    assert events == []
    assert "\n" not in str(error.value)
    assert set(file.parent.iterdir()) == before
    assert callable(torch.nn.Parameter.__new__)
    assert torch._utils._rebuild_tensor_v2.__code__ != 1


WEIGHTS = tensor(storage(FLOATS))
OF_PYTHON_2 = b"ccollections\nOrderedDict\n]](U\x080.weight" + WEIGHTS + b"ea\x85R."
"""An OrderedDict made from a list of pairs."""


@pytest.mark.parametrize("program", [entry(WEIGHTS), OF_PYTHON_2])
@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_a_program_of_weights_is_taken(
    tmp_path: Path, write: Callable[[Path, bytes], None], program: bytes
) -> None:
    """So that the programs above fail for what is wrong in them."""
    write(tmp_path / "w.pth", program)
    target = nn.Sequential(nn.Linear(2, 3, bias=False))

    checkpoint.load(target, tmp_path / "w.pth", "model.py")

    assert torch.equal(target[0].weight, torch.zeros(3, 2))


def test_a_pickle_of_more_objects_than_any_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpickle, "_MOST_OPERATIONS", 1000)  # in seconds and without gigabytes
    write_zip(tmp_path / "w.pth", b"]" * 2000 + b".")

    with pytest.raises(StageError, match="a damaged checkpoint"):
        checkpoint.load(model(), tmp_path / "w.pth", "model.py")


@pytest.mark.parametrize("member", ["w/data.pkl", "w/data/0"])
def test_a_zip_that_unpacks_to_more_than_it_is_is_refused(tmp_path: Path, member: str) -> None:
    write_zip(tmp_path / "plain.pth", entry(tensor(storage(FLOATS))))
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name) if name != member else b"N" * 10_000_000)

    with pytest.raises(StageError, match="a damaged checkpoint"):
        checkpoint.load(model(), tmp_path / "w.pth", "model.py")
