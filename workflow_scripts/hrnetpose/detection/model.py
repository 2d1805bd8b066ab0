"""A detector's ONNX graph, run by ONNX Runtime on the CPU."""

import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hrnetpose.artifacts.detector import Preprocessing
from hrnetpose.detection import boxes
from hrnetpose.detection.boxes import Boxes, Floats, Pixels
from hrnetpose.detector import DetectorCard
from hrnetpose.stage import StageError

SCORE, NMS = 0.01, 0.65
"""YOLOX is evaluated with these (`test_conf`, `nmsthre` of its exp files)."""
_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_WHOLE = ("tensor(int64)", "tensor(int32)")
_LARGEST_SIDE = 8192


class Detector:
    """A detector of persons, whose output is one of two.

    `dets` [batch, n, 5] and `labels` [batch, n], as mmdeploy exports RTMDet, YOLOX and others with
    NMS inside; or one array [batch, cells, 5 + classes], as YOLOX's own export gives it.

    Args:
        path: the ONNX file.
        card: what it does not say, as `card.complete` returns it.
        threads: of the CPU.

    Raises:
        StageError: it cannot be loaded, is no such detector, or the card does not fit it.
    """

    def __init__(self, path: Path, card: DetectorCard, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions have no common base
            raise StageError(f"{path}: ONNX Runtime cannot load it: {_told(error)}") from error
        self._path, self._person = path, card.person
        self.how = self._read_input(card)
        self._dets, self._labels = self._find_outputs()
        self.score, self.nms, self._decoded = self._read_grid_keys(card)

    @property
    def output(self) -> Literal["boxes after NMS", "YOLOX's grid, decoded", "YOLOX's grid"]:
        """What comes out of the graph."""
        if self._labels:
            return "boxes after NMS"
        return "YOLOX's grid, decoded" if self._decoded else "YOLOX's grid"

    def detect(self, image: Pixels) -> Boxes:
        """Find the persons on an image.

        Args:
            image: uint8 [h, w, 3] BGR.

        Returns:
            At most 100 boxes in pixels of the image, clipped to it, by falling score.

        Raises:
            StageError: what comes out is not finite, or not of the shape that it should have.
        """
        given = boxes.prepare(image, self.how).astype(self._type)
        names = [self._dets, self._labels] if self._labels else [self._dets]
        try:
            found = self._session.run(names, {self._input: given})
        except Exception as error:
            raise StageError(f"{self._path}: ONNX Runtime cannot run it: {_told(error)}") from error
        first = found[0].astype(np.float32)
        if not np.isfinite(first).all():
            raise StageError(f"{self._path}: its output {self._dets} is not finite")
        read = self._read_dets(first, found[1]) if self._labels else self._read_grid(first)
        return boxes.to_image(read, image.shape[1], image.shape[0], self.how)

    def _read_dets(self, dets: Floats, labels: npt.NDArray[np.int64]) -> Boxes:
        if dets.ndim != 3 or dets.shape[2] != 5 or labels.shape != dets.shape[:2] or len(dets) != 1:
            raise StageError(
                f"{self._path}: gave {self._dets} {list(dets.shape)} and {self._labels} "
                f"{list(labels.shape)}; expected [1, n, 5] and [1, n]"
            )
        # Where there are fewer boxes than rows, the others have score 0.
        wanted = (labels[0] == self._person) & (dets[0, :, 4] > 0)
        return Boxes(dets[0, wanted, :4], dets[0, wanted, 4])

    def _read_grid(self, output: Floats) -> Boxes:
        if output.ndim != 3 or output.shape[:2] != (1, self._cells) or output.shape[2] < 6:
            raise StageError(
                f"{self._path}: gave {self._dets} {list(output.shape)}; YOLOX's is [1, "
                f"{self._cells}, 5 + classes] for an input of {self.how.height}x{self.how.width}"
            )
        if self._person >= output.shape[2] - 5:
            raise StageError(
                f"detector.card.person: {self._person}, but {self._path} has "
                f"{output.shape[2] - 5} classes, the first of which is 0"
            )
        assert self.score is not None
        assert self.nms is not None
        return boxes.read_grid(
            output[0], self.how, bool(self._decoded), self._person, self.score, self.nms
        )

    @property
    def _cells(self) -> int:
        """How many cells YOLOX's grids have for this input."""
        return sum(
            (self.how.height // stride) * (self.how.width // stride) for stride in boxes.STRIDES
        )

    def _read_input(self, card: DetectorCard) -> Preprocessing:
        inputs = self._session.get_inputs()
        shapes = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
        first = inputs[0]
        if len(inputs) != 1 or len(first.shape) != 4 or first.type not in _FLOATS:
            raise StageError(
                f"{self._path}: takes {shapes}; a detector takes one image, [batch, 3, height, "
                "width] in fp32 or fp16"
            )
        self._input, self._type = first.name, _FLOATS[first.type]
        batch, channels, *sides = first.shape
        fixed = [side for side in sides if isinstance(side, int)]
        if (isinstance(batch, int) and batch != 1) or (isinstance(channels, int) and channels != 3):
            raise StageError(
                f"{self._path}: takes {shapes}; expected 3 channels, and a batch of 1 or any"
            )
        asked = [int(side) for side in card.input.split("x")] if card.input else fixed
        if len(asked) != 2:
            raise StageError(
                f"detector.card.input: missing, and {self._path} takes any size; give HEIGHTxWIDTH,"
                " for example 640x640"
            )
        if any(isinstance(side, int) and side != a for side, a in zip(sides, asked, strict=True)):
            raise StageError(
                f"detector.card.input: {asked[0]}x{asked[1]}, but {self._path} takes {sides}"
            )
        if max(asked) > _LARGEST_SIDE or any(side % boxes.STRIDES[-1] for side in asked):
            raise StageError(
                f"detector.card.input: {asked[0]}x{asked[1]}; sides are multiples of "
                f"{boxes.STRIDES[-1]}, up to {_LARGEST_SIDE}"
            )
        assert card.mean
        assert card.std
        assert card.channel_order
        assert card.pad is not None
        return Preprocessing(
            height=asked[0],
            width=asked[1],
            mean=card.mean,
            std=card.std,
            channel_order=card.channel_order,
            pad=card.pad,
        )

    def _find_outputs(self) -> tuple[str, str | None]:
        """Return the names of boxes and labels, or of YOLOX's grid and None."""
        outputs = self._session.get_outputs()
        arrays = [one for one in outputs if one.type in _FLOATS and len(one.shape) == 3]
        labels = [one for one in outputs if one.type in _WHOLE and len(one.shape) == 2]
        dets = [one for one in arrays if _can_be(one, lambda size: size == 5)]
        if len(dets) > 1 or len(labels) > 1:  # such as the proposals beside them
            dets = [one for one in dets if one.name == "dets"] or dets
            labels = [one for one in labels if one.name == "labels"] or labels
        if len(dets) == 1 and len(labels) == 1:
            return dets[0].name, labels[0].name
        if len(arrays) == len(outputs) == 1 and _can_be(arrays[0], lambda size: size > 5):
            cells = arrays[0].shape[1]
            if not isinstance(cells, int) or cells == self._cells:
                return arrays[0].name, None
        given = ", ".join(f"{one.name} {one.shape}" for one in outputs)
        raise StageError(
            f"{self._path}: gives {given}; a detector gives dets [batch, n, 5] and labels "
            f"[batch, n], as mmdeploy exports it, or [batch, {self._cells}, 5 + classes], as YOLOX "
            f"does for an input of {self.how.height}x{self.how.width}"
        )

    def _read_grid_keys(self, card: DetectorCard) -> tuple[float | None, float | None, bool | None]:
        """Return score, NMS and whether the grid is decoded; the first has none of them."""
        given = [key for key in ("decoded", "score", "nms") if getattr(card, key) is not None]
        if self._labels:
            if given:
                raise StageError(
                    f"detector.card.{given[0]}: {self._path} decides that itself: its boxes have "
                    "gone through NMS; leave the key out"
                )
            return None, None, None
        if card.decoded is None:
            raise StageError(
                f"detector.card.decoded: missing; {self._path} has YOLOX's one output: say whether "
                "it was exported with --decode_in_inference (true) or without (false)"
            )
        return SCORE if card.score is None else card.score, card.nms or NMS, card.decoded


def _told(error: Exception) -> str:
    """Return what ONNX Runtime says, without the name and number that it begins with."""
    return " ".join(re.sub(r"^\[\w+\] : \d+ : \w+ : ", "", str(error)).split())


def _can_be(output: Any, fits: Any) -> bool:
    """Return True if the last side of an output fits, or is not known."""
    size = output.shape[-1]
    return fits(size) if isinstance(size, int) else True
