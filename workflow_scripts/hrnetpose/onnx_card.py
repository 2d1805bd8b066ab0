"""What the user says of an ONNX file: the `card` of the configuration."""

from typing import Annotated, Any, Literal

from pydantic import Field

from hrnetpose.section import Flag, Section, Text

Three = Field(min_length=3, max_length=3)


class OnnxCard(Section):
    """What is to be known of an ONNX file beside its graph: the keys of the model card.

    What is not given here comes from the graph, from the file's own `metadata_props`, or from
    `pipeline.json` and `detail.json` of an mmdeploy export; what nothing says is asked for by name
    (docs/models.md).
    """

    mean: Annotated[list[float], Three] | None = None
    """What is subtracted from the three channels, in pixel values; zeros for a graph that
    normalises its pixels itself."""
    std: Annotated[list[Annotated[float, Field(gt=0)]], Three] | None = None
    """What they are then divided by."""
    channel_order: Literal["RGB", "BGR"] | None = None
    """The order of the channels that the graph takes."""
    crop: Text | None = None
    """The input, HEIGHTxWIDTH, with -padFACTOR or -udp behind it; by default the graph's own size,
    a padding of 1.25, and udp for a UDPHeatmap."""
    codec: dict[str, Any] | None = None
    """mmpose's codec, as its config has it: `type` and what departs from its defaults."""
    flip_shift: Flag | None = None
    """Whether the mirrored heatmaps are moved by a pixel: mmpose's `shift_heatmap`; false unless
    said."""
    keypoints: Text | dict[str, Any] | None = None
    """The name of a keypoint set of mmpose, such as `coco`, or the set in full: as mmpose's
    `dataset_info` has it, or `names`, `flip_indices`, `sigmas` and `skeleton`."""
    evaluation: dict[str, Any] | None = None
    """How predictions are scored: `score_mode`, `keypoint_score_thr`, `nms_mode`, `nms_thr` and
    `use_area`, with the defaults of mmpose's CocoMetric."""
    input: Text | None = None
    """The input that takes images, by name, if the graph has several."""
    outputs: Annotated[list[Text], Field(min_length=1)] | None = None
    """The outputs that are decoded, by name, if several fit: one, or those along x and y."""
