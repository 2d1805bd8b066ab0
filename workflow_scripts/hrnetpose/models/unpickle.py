"""Read what torch.save wrote without executing anything of it.

A pickle is a program that names functions and calls them.  Here its opcodes run on an interpreter
that cannot call.  A tensor becomes a `LazyTensor` (where its values are in the file), any other
object a `StandIn` that knows its name.  No module that a file names is imported, and no object of
Python or PyTorch that a file names is touched.

The opcodes are those of https://docs.python.org/3/library/pickletools.html; the two formats are
those of `torch.serialization`: a zip (since PyTorch 1.6), and before it a sequence of pickles with
the storages behind them.
"""

import io
import pickletools
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any

import torch

MAGIC = 0x1950A86A20F9469CFC6C
"""The first pickle of the format before the zip."""
_LARGEST_PICKLE = 1 << 30
"""Bytes.  A pickle holds no values of tensors, and a small zip could claim any size."""
_MOST_OPERATIONS = 20_000_000
"""Of a pickle: each may leave an object of some 70 bytes.  Those of models have some 100,000."""
_KEYS = (str, bytes, int, float, type(None))
"""Keys of a dictionary that are kept: others, such as nested tuples, may never finish hashing."""
_LARGEST_KEY = 64
"""Bits of a whole number that is a key: Python writes no number of some thousand digits."""
_DTYPES = {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}
_STORAGES = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ShortStorage": torch.int16,
    "UntypedStorage": torch.uint8,
}


@dataclass(frozen=True)
class Storage:
    """Bytes of the file: `size` of them, from `start` in the record `key`."""

    key: str
    dtype: torch.dtype
    start: int
    size: int


@dataclass(frozen=True, eq=False)
class LazyTensor:
    """A dense tensor whose values are not read yet.  Strides and offset count elements."""

    storage: Storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Global:
    """A class or function that the file names, for example `os.system`."""

    name: str


class StandIn(dict[Any, Any]):
    """Stands for an object that is not restored; entries of a dictionary are kept."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.state: Any = None
        """What the object would be restored from, mostly its attributes."""


class Checkpoint:
    """The content of a file, and access to the values of its tensors.

    Args:
        content: what was saved, with `LazyTensor` for its tensors.
        read_record: returns the bytes of a record.
    """

    def __init__(self, content: Any, read_record: Callable[[str], bytes]) -> None:
        self.content = content
        self._read_record = read_record
        self._records: dict[str, bytearray] = {}

    def read_tensor(self, tensor: LazyTensor) -> torch.Tensor:
        """Read a tensor; tensors that share a storage in the file share it here.

        Raises:
            Exception: the file is damaged.
        """
        storage = tensor.storage
        if storage.key not in self._records:
            self._records[storage.key] = bytearray(self._read_record(storage.key))
        content = memoryview(self._records[storage.key])[storage.start :][: storage.size]
        if len(content) != storage.size:
            raise ValueError(f"storage {storage.key} has {len(content)} bytes, not {storage.size}")
        if content:
            flat = torch.frombuffer(content, dtype=tensor.dtype)
        else:
            flat = torch.empty(0, dtype=tensor.dtype)
        return flat.as_strided(tensor.shape, tensor.strides, tensor.offset)


def read_zip(archive: zipfile.ZipFile, folder: str) -> Checkpoint:
    """Read a checkpoint in a zip.

    Args:
        archive: must stay open while tensors are read.
        folder: where in it `data.pkl` is: empty, or with a slash at its end.

    Raises:
        Exception: the file is damaged.
    """

    def read_record(name: str) -> bytes:
        info = archive.getinfo(folder + name)
        if info.compress_size < info.file_size:
            raise ValueError(f"{name} is compressed")
        if not info.CRC:  # PyTorch can be told not to compute it
            info.CRC = None  # type: ignore[assignment]
        return archive.read(info)

    names = set(archive.namelist())
    if f"{folder}byteorder" in names and read_record("byteorder") != b"little":
        raise ValueError("the byte order is not little-endian")
    if archive.getinfo(f"{folder}data.pkl").file_size > _LARGEST_PICKLE:
        raise ValueError("data.pkl is larger than 1 GiB")
    content = _Interpreter().run(io.BytesIO(read_record("data.pkl")))
    return Checkpoint(content, lambda key: read_record(f"data/{key}"))


def read_legacy(file: IO[bytes]) -> Checkpoint | None:
    """Read a checkpoint in the format before the zip; None if torch.save did not write the pickle.

    Args:
        file: must stay open while tensors are read.

    Raises:
        Exception: the file is damaged.
    """
    if _Interpreter().run(file) != MAGIC:
        return None
    for _ in ("version of the format", "sizes of C's integers"):
        _Interpreter().run(file)
    interpreter = _Interpreter()
    content = interpreter.run(file)
    places = {}
    for key in _Interpreter().run(file):
        count = int.from_bytes(file.read(8), "little")
        places[key] = (file.tell(), count * interpreter.item_sizes[key])
        file.seek(places[key][1], 1)

    def read_record(key: str) -> bytes:
        start, size = places[key]
        file.seek(start)
        return file.read(size)

    return Checkpoint(content, read_record)


class _Interpreter:
    """Interprets one pickle."""

    def __init__(self) -> None:
        self.item_sizes: dict[str, int] = {}
        """Storage -> bytes of an element."""
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        """The stacks below each mark."""
        self._memo: dict[int, Any] = {}

    def run(self, file: IO[bytes]) -> Any:
        """Return the pickle's content; leave the file at its end."""
        for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if opcode.name == "STOP":
                return self._stack[-1]
            if number > _MOST_OPERATIONS:
                raise ValueError(f"the pickle has more than {_MOST_OPERATIONS} operations")
            self._execute(opcode.name, argument)
        raise ValueError("the pickle has no end")

    def _execute(self, opcode: str, argument: Any) -> None:
        stack = self._stack
        match opcode:
            case "PROTO" | "FRAME":
                pass
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode == "NEWTRUE")
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_SET":
                stack.append(StandIn("set"))
            case "MARK":
                self._below.append(stack)
                self._stack = []
            case "POP" if stack:
                stack.pop()
            case "POP" | "POP_MARK":
                self._pop_mark()
            case "DUP":
                stack.append(stack[-1])
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._pop(int(opcode[-1]))))
            case "TUPLE":
                self._push(tuple(self._pop_mark()))
            case "LIST":
                self._push(self._pop_mark())
            case "DICT":
                items = self._pop_mark()
                self._push(_set_items({}, items))
            case "FROZENSET":
                self._pop_mark()
                self._push(StandIn("frozenset"))
            case "APPEND":
                _extend(stack, self._pop(1))
            case "APPENDS":
                items = self._pop_mark()
                _extend(self._stack, items)
            case "SETITEM":
                items = self._pop(2)
                _set_items(stack[-1], items)
            case "SETITEMS":
                items = self._pop_mark()
                _set_items(self._stack[-1], items)
            case "ADDITEMS":
                self._pop_mark()
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "GLOBAL":
                stack.append(Global(argument.replace(" ", ".")))
            case "STACK_GLOBAL":
                stack.append(Global(".".join(self._pop(2))))
            case "INST":
                self._pop_mark()
                self._push(StandIn(argument.replace(" ", ".")))
            case "OBJ":
                function, *arguments = self._pop_mark()
                self._push(_call(function, arguments))
            case "REDUCE" | "NEWOBJ":
                stack.append(_call(*self._pop(2)))
            case "NEWOBJ_EX":
                function, arguments, _ = self._pop(3)
                stack.append(_call(function, arguments))
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], StandIn):
                    stack[-1].state = state
            case "PERSID" | "BINPERSID":
                stack.append(self._load_persistent(argument if opcode == "PERSID" else stack.pop()))
            case _ if argument is not None and not opcode.startswith("EXT"):
                stack.append(argument)  # a number or a text
            case _:
                raise ValueError(f"opcode {opcode}")

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self, count: int) -> list[Any]:
        values = self._stack[-count:]
        if len(values) < count:
            raise ValueError("the stack is empty")
        del self._stack[-count:]
        return values

    def _pop_mark(self) -> list[Any]:
        values = self._stack
        self._stack = self._below.pop()
        return values

    def _load_persistent(self, key: Any) -> Any:
        """Return what lies outside of the pickle: a storage, or a class with its source."""
        match key:
            case ("storage", Global(kind), str(record), _, int(count), *view):
                dtype = _STORAGES.get(kind.rpartition(".")[2])
                if dtype is None:
                    return StandIn(kind)
                self.item_sizes[record] = dtype.itemsize
                start = 0
                match view:
                    case [(_, int(start), int(count))]:
                        pass
                return Storage(record, dtype, start * dtype.itemsize, count * dtype.itemsize)
            case ("module", Global() as name, *_):
                return name
            case _:
                raise ValueError("a persistent id of another kind")


def _extend(stack: Sequence[Any], items: list[Any]) -> None:
    if isinstance(stack[-1], list):
        stack[-1].extend(items)


def _set_items(target: Any, items: list[Any]) -> Any:
    """Put alternating keys and values into a dictionary; other targets stay as they are."""
    if isinstance(target, dict):
        for key, value in zip(items[::2], items[1::2], strict=True):
            is_huge = isinstance(key, int) and key.bit_length() > _LARGEST_KEY
            if isinstance(key, _KEYS) and not is_huge:
                target[key] = value
    return target


def _call(function: Any, arguments: Sequence[Any]) -> Any:
    """Return what stands for the result of a call."""
    if isinstance(function, StandIn):  # it may be callable where it was saved
        return StandIn(function.name)
    if not isinstance(function, Global):
        raise ValueError("a call of something other than a function")
    match function.name, arguments:
        case "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor", [
            Storage() as storage,
            int(offset),
            tuple(shape),
            tuple(strides),
            *rest,
        ] if not any(rest[2:]):  # no pending negation or conjugation
            return LazyTensor(storage, storage.dtype, offset, shape, strides)
        case "torch._utils._rebuild_tensor_v3", [
            Storage() as storage,
            int(offset),
            tuple(shape),
            tuple(strides),
            _,
            _,
            Global(dtype),
            *rest,
        ] if dtype in _DTYPES and not any(rest):
            return LazyTensor(storage, _DTYPES[dtype], offset, shape, strides)
        case (
            "torch._utils._rebuild_parameter"
            | "torch._utils._rebuild_parameter_with_state"
            | "torch.nn.parameter.Parameter",
            [data, *_],
        ):
            return data
        case "torch._tensor._rebuild_from_type_v2", [inner, _, list() | tuple() as inner_args, _]:
            return _call(inner, inner_args)
        case "torch.Size", [tuple(shape)]:
            return shape
        case "collections.OrderedDict", [list(pairs)]:  # written by Python 2
            return _set_items({}, [value for pair in pairs for value in pair])
        case "collections.OrderedDict" | "collections.defaultdict", _:
            return {}
        case "copy_reg._reconstructor" | "copyreg._reconstructor", [Global(name), *_]:
            return StandIn(name)
        case name, _:
            return StandIn(name)
