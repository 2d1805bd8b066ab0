"""Where an ONNX file is: alone, in the folder of an mmdeploy export, or in a zip of one."""

import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hrnetpose import archives
from hrnetpose.models import mmdeploy
from hrnetpose.models.onnx_file import OnnxFacts
from hrnetpose.stage import StageError, name


@dataclass(frozen=True)
class OnnxSource:
    """An ONNX file and what lies beside it.

    Attributes:
        graph: the file.
        exported: JSON files of an mmdeploy export, by name; none beside a file that is given alone.
    """

    graph: Path
    exported: dict[str, Any]

    def list_files(self, facts: OnnxFacts) -> list[Path]:
        """Return the files that it is made of: the graph, its weights, what says something of it.

        Raises:
            StageError: one in which the graph keeps weights is not there, or is a link.
        """
        beside = [self.graph.parent / file for file in facts.external]
        for path, file in zip(beside, facts.external, strict=True):
            if not os.path.isfile(path):
                raise StageError(
                    f"{self.graph}: its weights are in {name(file)}, which is not beside it; put "
                    "the two into a folder or a zip, and give that"
                )
            if path.is_symlink() or path.stat().st_nlink > 1:
                raise StageError(
                    f"{self.graph}: its weights are in {name(file)}, which is a link, as in a "
                    "cache; ONNX reads none: copy the two into a folder (`cp -L`), and give that"
                )
        return [self.graph, *beside, *(self.graph.parent / name for name in self.exported)]


@contextmanager
def opened(place: Path) -> Iterator[OnnxSource]:
    """Yield what is at a place; what is in a zip is unpacked for the time being.

    Args:
        place: an ONNX file, a folder with one, or a zip of such a folder.

    Raises:
        StageError: there is no ONNX file, or several, or the zip is refused (archives.py).
    """
    if place.is_dir():
        yield _in_folder(place)
    elif zipfile.is_zipfile(place):
        with tempfile.TemporaryDirectory() as folder:
            _unpack(place, Path(folder))
            try:
                yield _in_folder(Path(folder))
            except StageError as error:
                text = str(error).replace(f"{folder}/", f"{place}: ").replace(folder, str(place))
                raise StageError(text, error.details) from error
    else:
        yield OnnxSource(place, {})


def glance(place: Path) -> tuple[Path, dict[str, Any]]:
    """Return the file that tells whether a source has changed, and the JSON files of a folder."""
    if not place.is_dir():
        return place, {}
    source = _in_folder(place)
    return source.graph, source.exported


def _in_folder(folder: Path) -> OnnxSource:
    exported = mmdeploy.read_files(folder)
    return OnnxSource(mmdeploy.find_graph(folder, exported), exported)


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack the files beside the ONNX file of a zip, under their own names, without folders."""
    with archives.open_zip(archive) as opened:
        members = [PurePosixPath(one.filename) for one in opened.infolist() if not one.is_dir()]
    graphs = {member.parent for member in members if member.suffix == ".onnx"}
    if len(graphs) != 1:
        raise StageError(
            f"{archive}: expected a zip with the folder of one ONNX file; it has "
            f"{len(graphs) or 'no'} such folders"
        )
    for member in members:
        if member.parent in graphs:
            archives.extract(archive, str(member), folder / member.name)
