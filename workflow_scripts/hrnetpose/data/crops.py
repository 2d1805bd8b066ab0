"""Crops and the table beside them, as files."""

import math
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hrnetpose import files
from hrnetpose.stage import StageError

COLUMNS = {
    "id": "int64 N",
    "image_id": "int64 N",
    "box": "float32 N 4",
    "box_score": "float32 N",
    "center": "float32 N 2",
    "scale": "float32 N 2",
    "boxes_from": "str",
}
"""The table beside crops, as `files.read_table` reads it."""

Pixels = npt.NDArray[np.uint8]


def write(path: Path, shape: tuple[int, int, int, int], crops: Iterable[Pixels]) -> None:
    """Write crops one after the other; memory does not grow with their number.

    Args:
        path: a .npy, uint8 [N, height, width, 3] RGB, that can be memory-mapped.
        shape: of all of them.
        crops: N of uint8 [height, width, 3].

    Raises:
        StageError: the disk has no room for them.
    """
    # As a plain file: a full disk is then an error, not a SIGBUS of a memory map.
    with files.atomic_path(path) as temporary, temporary.open("wb") as file:
        needed, free = math.prod(shape), shutil.disk_usage(path.parent).free
        if needed > free:
            raise StageError(
                f"{path}: {shape[0]} crops take {files.bytes_text(needed)}, but there "
                f"{files.bytes_text(free)} are free; free some, or set `crops: temporary` and more "
                "`shards`"
            )
        header: dict[str, Any] = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for pixels in crops:
            file.write(pixels.data)


def write_instances(path: Path, table: Mapping[str, Any]) -> None:
    """Write the table beside crops, a .npz.

    Args:
        path: the file.
        table: `COLUMNS`, in the order of the crops; boxes are corners, in image pixels as centres
            and scales are; `boxes_from` is `gt` or `det`.
    """
    columns: dict[str, Any] = {
        name: np.asarray(table[name], kind.split()[0]) for name, kind in COLUMNS.items()
    }
    with files.atomic_path(path) as temporary:
        np.savez(temporary, **columns)


def read(path: Path) -> Pixels:
    """Memory-map crops.

    Raises:
        StageError: the file is missing or is not what `write` makes.
    """
    try:
        # An empty array cannot be mapped.
        crops = np.load(path, mmap_mode="r" if path.stat().st_size > 4096 else None)
    except Exception as error:
        raise StageError(f"{path}: no crops ({error}); delete it and run again") from error
    if not isinstance(crops, np.ndarray):
        raise StageError(f"{path}: holds several arrays; delete it and run again")
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[-1] != 3:
        raise StageError(
            f"{path}: holds {crops.dtype} {list(crops.shape)}; expected uint8 [N, height, width, 3]"
        )
    return crops


def read_batches(path: Path, size: int) -> Iterator[Pixels]:
    """Read crops in batches, uint8 [size, H, W, 3]; the last may be smaller.

    The file is read and not mapped: mapped pages would count as this process's memory.

    Raises:
        StageError: the file is missing or is not what `write` makes.
    """
    shape = read(path).shape
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        for start in range(0, shape[0], size):
            batch = np.empty((min(size, shape[0] - start), *shape[1:]), np.uint8)
            file.readinto(batch.data)
            yield batch


def read_instances(path: Path, count: int) -> dict[str, npt.NDArray[Any]]:
    """Read the table beside crops.

    Args:
        path: what `write_instances` made.
        count: how many crops there are.

    Raises:
        StageError: the file is missing, damaged or belongs to other crops.
    """
    table = files.read_table(path, COLUMNS)
    if len(table["id"]) != count:
        raise StageError(f"{path}: has {len(table['id'])} rows for {count} crops; make both again")
    return table
