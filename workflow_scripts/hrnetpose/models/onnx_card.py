"""The model card of an ONNX file, put together from all that says something of it.

For each key the configuration's `card` counts first, then what the file says of itself
(`metadata_props`), then the JSON files of an mmdeploy export; all of it is checked against the
graph, which also fills in what shapes can tell.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any, NoReturn

import numpy as np
from pydantic import TypeAdapter, ValidationError

from hrnetpose.artifacts.model import Codec, Crop, Evaluation, Keypoints, OnnxEnd
from hrnetpose.models import keypoints as keypoint_sets
from hrnetpose.models import mmdeploy, sections
from hrnetpose.models.onnx_file import OnnxFacts, OnnxTensor, OriginalGraph
from hrnetpose.onnx_card import OnnxCard
from hrnetpose.stage import StageError, name, shown

EXAMPLES = {
    "mean": "[123.675, 116.28, 103.53]",
    "std": "[58.395, 57.12, 57.375]",
    "channel_order": "RGB",
    "codec": "{type: MSRAHeatmap}",
    "keypoints": "coco",
    "crop": "256x192",
}
"""Keys without which nothing comes out right, as one would write them."""
_PLAIN = ("mean", "std", "channel_order", "codec")
"""Keys of `metadata_props` that hold one key of the card, if it has no card."""
METADATA, GRAPH, CARD = "metadata_props", "the graph", "card"
Sizes = Sequence[int | None]


@dataclass
class OnnxDescription:
    """What the card of an ONNX file will say.

    Attributes:
        input: the end that takes images.
        outputs: the ends that are used, in the order of the codec.
        sources: key of the card -> what said it.
        notes: what the user should know.
    """

    crop: Crop
    channel_order: Any
    mean: list[float]
    std: list[float]
    codec: Codec
    flip_shift: bool
    keypoints: Keypoints
    evaluation: Evaluation
    architecture: str
    input: OnnxEnd
    outputs: list[OnnxEnd]
    sources: dict[str, str]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Said:
    """What is said of a model, by key; the source of each key is known."""

    values: Mapping[str, Any]
    sources: Mapping[str, str]
    path: str

    def place(self, key: str) -> str:
        """Return a key of the file's card with what said it, for a message."""
        source = f" (from {self.sources[key]})" if key in self.sources else ""
        return f"{self.path}: card.{key}{source}"


def describe(
    given: OnnxCard, facts: OnnxFacts, exported: Mapping[str, Any], path: str
) -> OnnxDescription:
    """Put a card together and check it against the graph.

    Args:
        given: `card` of the configuration.
        facts: what the file declares, or what was measured.
        exported: the JSON files of an mmdeploy export, by name.
        path: of the file, for messages.

    Raises:
        StageError: something is not said by anybody, is invalid, or contradicts the graph.
    """
    said = _gather(given, facts, exported, path)
    source, height, width = _find_input(said, facts, path)
    if missing := _list_missing(said, facts, height, width):
        _refuse_missing(missing, exported, path)
    points = _read_keypoints(said)
    crop = _read_crop(said, height, width)
    codec, outputs, sources = _read_outputs(said, facts, points, crop, path)
    mean, std = (_read_numbers(said, key) for key in ("mean", "std"))
    if min(std) <= 0:
        raise StageError(f"{said.place('std')} is {shown(std)}; expected numbers above 0")
    if max(std) < 1:
        raise StageError(
            f"{said.place('std')} is {shown(std)}, which is of pixels from 0 to 1; expected `mean` "
            "and `std` of pixels from 0 to 255: multiply both by 255"
        )
    order = said.values["channel_order"]
    if order not in ("RGB", "BGR"):
        raise StageError(f"{said.place('channel_order')} is {shown(order)}; expected RGB or BGR")
    if source.dtype == "uint8" and (any(mean) or set(std) != {1.0}):
        raise StageError(
            f"{path}: the input {source.name} takes whole numbers (uint8), so it normalises them "
            f"itself; expected `mean: [0, 0, 0]`, `std: [1, 1, 1]`, not {shown(mean)}, {shown(std)}"
        )
    used = {end.name for end in outputs}
    left_out = [str(output) for output in facts.outputs if output.name not in used]
    notes = [f"outputs that are not used: {', '.join(left_out)}"] if left_out else []
    sources = {**said.sources, **sources}
    sources.setdefault("flip_shift", "false by default")
    if [end.name for end in outputs] != said.values.get("outputs"):
        sources.pop("outputs", None)  # what was said is of another export
    told = said.sources.get("crop")
    sources["crop"] = ", ".join(filter(None, [GRAPH if height else None, told])) or CARD
    if "padding" not in (said.values.get("crop") or {}):
        sources["crop"] += f", padding {crop.padding} by default"
    return OnnxDescription(
        crop=crop,
        channel_order=order,
        mean=mean,
        std=std,
        codec=codec,
        flip_shift=_read_flag(said, "flip_shift"),
        keypoints=points,
        evaluation=_read_part(
            Evaluation, said.values.get("evaluation") or {}, said.place("evaluation")
        ),
        architecture=str(said.values.get("architecture") or "ONNX"),
        input=_image_end(source, crop),
        outputs=outputs,
        sources={key: sources[key] for key in sorted(sources)},
        notes=notes,
    )


def measure(
    given: OnnxCard,
    facts: OnnxFacts,
    exported: Mapping[str, Any],
    path: str,
    original: OriginalGraph,
) -> OnnxFacts:
    """Return the facts with the shapes of outputs as running the file gives them.

    Raises:
        StageError: as `describe`, or the file cannot be run on an image of the size it declares.
    """
    said = _gather(given, facts, exported, path)
    source, height, width = _find_input(said, facts, path)
    if height is None and "crop" not in said.values:
        _refuse_missing(["crop"], exported, path)
    crop = _read_crop(said, height, width)
    batch = source.shape[0] if source.shape else None
    images = np.zeros((batch or 1, 3, crop.height, crop.width), np.float32)
    shapes = original.measure(_image_end(source, crop), images)
    outputs = [
        one.model_copy(update={"shape": _measured(shapes[one.name], batch)})
        if one.name in shapes  # a sequence has none
        else one
        for one in facts.outputs
    ]
    return facts.model_copy(update={"outputs": outputs})


def _measured(shape: tuple[int, ...], batch: int | None) -> list[int | None]:
    """Return a shape as it was measured; of a dynamic batch the first dimension stays open."""
    is_open = batch is None and shape and shape[0] == 1
    return [None, *shape[1:]] if is_open else list(shape)


def look_ahead(
    given: OnnxCard, facts: OnnxFacts, exported: Mapping[str, Any], path: str
) -> tuple[Crop, Keypoints]:
    """Return what a plan needs of a card; all of it is checked as far as the file declares it.

    Raises:
        StageError: as `describe`.
    """
    declared = all(one.shape and all(one.shape[1:]) for one in facts.outputs)
    if declared:
        found = describe(given, facts, exported, path)
        return found.crop, found.keypoints
    said = _gather(given, facts, exported, path)
    _, height, width = _find_input(said, facts, path)
    if "keypoints" not in said.values or (height is None and "crop" not in said.values):
        _refuse_missing(
            [key for key in ("keypoints", "crop") if key not in said.values], exported, path
        )
    return _read_crop(said, height, width), _read_keypoints(said)


def list_missing(facts: OnnxFacts, exported: Mapping[str, Any], path: str) -> list[str]:
    """Return the keys of the card of a file that only its user can tell.

    Raises:
        StageError: as `describe`.
    """
    said = _gather(OnnxCard(), facts, exported, path)
    _, height, width = _find_input(said, facts, path)
    return _list_missing(said, facts, height, width)


def _list_missing(
    said: _Said, facts: OnnxFacts, height: int | None, width: int | None
) -> list[str]:
    missing = [key for key in EXAMPLES if key not in said.values and key != "crop"]
    if "codec" in missing and _simcc_fits(facts, height, width):
        missing.remove("codec")
    if height is None and "crop" not in said.values:
        missing.append("crop")
    return missing


def _refuse_missing(missing: Sequence[str], exported: Mapping[str, Any], path: str) -> NoReturn:
    examples = ", ".join(f"{key}: {EXAMPLES[key]}" for key in missing)
    raise StageError(
        f"{path}: nothing says {', '.join(missing)}{mmdeploy.hint(exported)}; give "
        f"{'it' if len(missing) == 1 else 'them'}, for example `card: {{{examples}}}`"
    )


def _gather(given: OnnxCard, facts: OnnxFacts, exported: Mapping[str, Any], path: str) -> _Said:
    """Join what is said, the weightiest last."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}

    def add(said: Mapping[str, Any], source: Mapping[str, str]) -> None:
        for key, value in said.items():
            old, old_source = values.get(key), sources.get(key)
            values[key], sources[key] = value, source[key]
            if key not in ("crop", "codec"):
                continue
            kind = value.get("type") if isinstance(value, dict) else ()
            if not isinstance(kind, str | None):
                raise StageError(
                    f"{path}: card.{key} (from {source[key]}) is {shown(value)}; expected a section"
                )
            # What is said in part goes over the rest, and a codec over one of the same type.
            if old is not None and kind in (None, old.get("type", kind)):
                values[key] = old | value
                sources[key] = f"{source[key]}, {old_source}"

    from_files = mmdeploy.read_card(exported)
    add({k: v for k, (v, _) in from_files.items()}, {k: s for k, (_, s) in from_files.items()})
    own = _read_metadata(facts.metadata, path)
    add(own, dict.fromkeys(own, METADATA))
    said = given.model_dump(exclude_none=True)
    if isinstance(said.get("crop"), str):
        said["crop"] = Crop.parse(said["crop"]).model_dump()
    add(said, dict.fromkeys(said, CARD))
    return _Said(values, sources, path)


def _read_metadata(metadata: Mapping[str, str], path: str) -> dict[str, Any]:
    """Return what a file says of itself: a model card, or some keys of one."""
    from hrnetpose.graphs import metadata as own

    if own.CARD not in metadata:
        return {key: _parse(metadata[key]) for key in _PLAIN if key in metadata}
    card = _parse(metadata[own.CARD])
    if not isinstance(card, dict):
        raise StageError(
            f"{path}: metadata_props: {own.CARD} is {shown(card)}; expected a model card in JSON"
        )
    keys = [*EXAMPLES, "flip_shift", "evaluation", "architecture"]
    found = {key: card[key] for key in keys if card.get(key) is not None}
    outputs = card.get("outputs")
    if isinstance(outputs, list) and all(isinstance(one, dict) for one in outputs):
        found["outputs"] = [str(one.get("name")) for one in outputs]
    return found


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _find_input(
    said: _Said, facts: OnnxFacts, path: str
) -> tuple[OnnxTensor, int | None, int | None]:
    """Return the input that takes images, and its height and width if they are fixed."""
    asked = said.values.get("input")
    images = [one for one in facts.inputs if _is_first(one.shape) or _is_last(one.shape)]
    if asked is not None and said.sources["input"] == CARD:
        images = [one for one in images if one.name == asked]
    if len(images) != 1 or (others := len(facts.inputs) - 1):
        few = len(images) == 1
        raise StageError(
            f"{path}: not a model that takes one image: expected one input, floats [batch, 3, "
            f"height, width] or [batch, height, width, 3]; it has "
            f"{', '.join(map(str, facts.inputs))}{_further(few, others if few else 0)}"
        )
    (found,) = images
    if found.dtype not in ("float32", "float16", "float64", "uint8"):
        raise StageError(f"{path}: the input {found} is no image; expected floats or uint8")
    if found.shape is None:
        return found, None, None
    height, width = found.shape[1:3] if _is_last(found.shape) else found.shape[2:]
    return found, height, width


def _further(few: bool, others: int) -> str:
    return f"; what the other {others} take is not known" if few else ""


def _is_first(shape: Sizes | None) -> bool:
    """Return True if channels can be in front."""
    return shape is None or (len(shape) == 4 and shape[1] in (3, None) and not _is_last(shape))


def _is_last(shape: Sizes | None) -> bool:
    return shape is not None and len(shape) == 4 and shape[3] == 3 and shape[1] != 3


def _image_end(source: OnnxTensor, crop: Crop) -> OnnxEnd:
    """Return how images go in; dimensions that are open have the size of the crop."""
    is_last = _is_last(source.shape)
    sizes = [crop.height, crop.width, 3] if is_last else [3, crop.height, crop.width]
    batch = source.shape[0] if source.shape else None
    return OnnxEnd(
        name=source.name,
        dtype=source.dtype,
        shape=["batch" if batch is None else batch, *sizes],
        axes=[0, 3, 1, 2] if is_last else [0, 1, 2, 3],
    )


def _read_keypoints(said: _Said) -> Keypoints:
    return keypoint_sets.read_set(said.values["keypoints"], said.place("keypoints"))


def _read_crop(said: _Said, height: int | None, width: int | None) -> Crop:
    value, place = dict(said.values.get("crop") or {}), said.place("crop")
    for key, size in (("height", height), ("width", width)):
        if size is not None and value.get(key) not in (None, size):
            raise StageError(
                f"{place}: {key} is {shown(value[key])}, but the graph's input is "
                f"{height}x{width} (height x width); correct it, or leave it out"
            )
        value[key] = size if size is not None else value.get(key)
    if "udp" not in value:  # as in every config of mmpose
        value["udp"] = (said.values.get("codec") or {}).get("type") == "UDPHeatmap"
    return _read_part(Crop, value, place)


def _read_outputs(
    said: _Said, facts: OnnxFacts, points: Keypoints, crop: Crop, path: str
) -> tuple[Codec, list[OnnxEnd], dict[str, str]]:
    """Return the codec and the outputs that it decodes, and what the graph told of the codec."""
    given = dict(said.values.get("codec") or {})
    sources = {}
    candidates = _named_outputs(said, facts, path) or facts.outputs
    count = len(points.names)
    if "type" not in given:
        given["type"], sources["codec"] = "SimCCLabel", GRAPH
    if given["type"] != "SimCCLabel":
        given.setdefault("sigma", 2.0)
    elif "simcc_split_ratio" not in given:
        ratios = {pair.ratio for pair in _pairs(candidates, count, crop, None)}
        if len(ratios) == 1:
            given["simcc_split_ratio"] = ratios.pop()
            said_by = said.sources.get("codec")
            sources["codec"] = f"{said_by}, {GRAPH}" if said_by else GRAPH
    codec = _read_part(Codec, given, said.place("codec"))
    if codec.type == "SimCCLabel":
        pairs = _pairs(candidates, count, crop, codec.simcc_split_ratio)
        found = [pair.ends for pair in pairs]
    else:
        channels = count * codec.channels
        found = [[end] for one in candidates for end in _heatmap_ends(one, channels, crop)]
    shapes = [
        f"[batch, {', '.join('?' if size is None else str(size) for size in shape)}]"
        for shape in codec.shapes(count, crop)
    ]
    expected = f"{'an output' if len(shapes) == 1 else 'outputs'} {' and '.join(shapes)}"
    if not found:
        ratio = "" if len(shapes) > 1 else "; heatmaps have the height and width of crops, scaled"
        raise StageError(
            f"{path}: not the pose model that its card describes: {count} keypoints, {codec.type} "
            f"and crops {crop} need {expected}; it has {', '.join(map(str, facts.outputs))}{ratio}"
        )
    if len(found) > 1:
        choices = [", ".join(end.name for end in ends) for ends in found]
        raise StageError(
            f"{path}: several outputs fit {expected}: {'; '.join(choices)}; say which with "
            f"`card: {{outputs: [{choices[0]}]}}`"
        )
    return codec, found[0], sources


def _named_outputs(said: _Said, facts: OnnxFacts, path: str) -> list[OnnxTensor] | None:
    """Return the outputs that are asked for, in that order; None if nothing is said of them."""
    asked = said.values.get("outputs")
    if asked is None:
        return None
    known = {output.name: output for output in facts.outputs}
    if not isinstance(asked, list) or not all(one in [*known] for one in asked):
        if said.sources["outputs"] != CARD:
            return None  # of another export of the same model
        raise StageError(
            f"{said.place('outputs')} is {shown(asked)}; the graph's outputs are "
            f"{', '.join(map(name, known))}"
        )
    return [known[one] for one in asked]


@dataclass(frozen=True)
class _Pair:
    ends: list[OnnxEnd]
    ratio: float


def _pairs(
    outputs: Sequence[OnnxTensor], keypoints: int, crop: Crop, ratio: float | None
) -> list[_Pair]:
    """Return the pairs of outputs that can be SimCC's vectors along x and y.

    Args:
        outputs: what there is.
        keypoints: how many.
        crop: what the model takes.
        ratio: vector elements for each pixel; None: whatever it is.
    """
    found = []
    for x, y in permutations(outputs, 2):
        for end_x, bins_x in _vector_ends(x, keypoints):
            for end_y, bins_y in _vector_ends(y, keypoints):
                own = bins_x / crop.width if ratio is None else ratio
                if (int(crop.width * own), int(crop.height * own)) == (bins_x, bins_y):
                    found.append(_Pair([end_x, end_y], own))
    if len(found) == 2 and crop.width == crop.height:
        # Both ways round fit; the names tell.
        named = [
            pair
            for pair in found
            if _axis(pair.ends[0].name) == "x" and _axis(pair.ends[1].name) == "y"
        ]
        return named or found
    return found


def _axis(text: str) -> str:
    """Return x or y if a name ends with it or begins with it; else nothing."""
    low = text.lower()
    return next((axis for axis in "xy" if low.endswith(axis) or low.startswith(f"{axis}_")), "")


def _with_batch(output: OnnxTensor, dimensions: int) -> tuple[list[int | None], bool]:
    """Return a shape of so many dimensions, and whether the batch among them is the output's own.

    The shape is empty where an output does not have them, or is not of floats.
    """
    if not output.dtype.startswith("float") or output.shape is None:
        return [], False
    batched = len(output.shape) == dimensions
    shape = list(output.shape) if batched else [1, *output.shape]
    return (shape, batched) if len(shape) == dimensions else ([], False)


def _vector_ends(output: OnnxTensor, keypoints: int) -> Iterator[tuple[OnnxEnd, int]]:
    """Yield how an output can be [batch, keypoints, bins], and its bins."""
    shape, batched = _with_batch(output, 3)
    for axes in ([0, 1, 2], [0, 2, 1]) if shape else ():
        bins = shape[axes[2]]
        if shape[axes[1]] == keypoints and bins is not None and bins > 1:
            yield _end(output, axes, batched), bins
            return


def _heatmap_ends(output: OnnxTensor, channels: int, crop: Crop) -> Iterator[OnnxEnd]:
    """Yield how an output can be [batch, channels, height, width], shaped like the crop."""
    shape, batched = _with_batch(output, 4)
    fits = []
    for axes in ([0, 1, 2, 3], [0, 3, 1, 2]) if shape else ():
        height, width = shape[axes[2]], shape[axes[3]]
        if shape[axes[1]] != channels or not height or not width:
            continue
        # In elements of the longer side: one is rounded away where strides do not divide the crop.
        off = abs(height * crop.width - width * crop.height) / max(crop.height, crop.width)
        if 1 < height <= crop.height and 1 < width <= crop.width and off <= 1:
            fits.append((off, axes))
    if fits:  # of two ways the one that is shaped like the crop
        yield _end(output, min(fits)[1], batched)


def _end(output: OnnxTensor, axes: list[int], batched: bool) -> OnnxEnd:
    return OnnxEnd(
        name=output.name,
        dtype=output.dtype,
        shape=["batch" if size is None else size for size in output.shape or []],
        axes=axes,
        batched=batched,
    )


def _simcc_fits(facts: OnnxFacts, height: int | None, width: int | None) -> bool:
    """Return True if two outputs look like SimCC's, and none like heatmaps."""
    if height is None or width is None:
        return False
    vectors = [one for one in facts.outputs if one.shape and len(one.shape) == 3]
    counts = {size for one in vectors for size in (one.shape or [])[1:]}
    crop = Crop(height=height, width=width)
    maps = [one for one in facts.outputs if one.shape and len(one.shape) == 4]
    return not maps and any(_pairs(vectors, count, crop, None) for count in counts if count)


def _read_numbers(said: _Said, key: str) -> list[float]:
    value = said.values[key]
    numbers = isinstance(value, list) and len(value) in (1, 3)
    if not numbers or not all(isinstance(one, int | float) and abs(one) < 1e9 for one in value):
        raise StageError(f"{said.place(key)} is {shown(value)}; expected three numbers")
    return [float(one) for one in (*value,) * 3][:3]


def _read_flag(said: _Said, key: str) -> bool:
    value = said.values.get(key, False)
    if not isinstance(value, bool):
        raise StageError(f"{said.place(key)} is {shown(value)}; expected true or false")
    return value


def _read_part(kind: Any, value: Any, place: str) -> Any:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise StageError(f"{place}: {sections.describe_invalid(error)}") from error
