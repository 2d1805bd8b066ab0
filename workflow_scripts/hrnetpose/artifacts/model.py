"""`model.json`, the model card: written by the export, or by the import of an ONNX file."""

import re
from decimal import Decimal
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from hrnetpose.artifacts.base import Artifact, Part, Sha256
from hrnetpose.recipes import Precision
from hrnetpose.stage import StageError, shown

LARGEST_SIDE = 4096
"""Of a crop, in pixels: ten times what mmpose's own models take."""
PADDING = 1.25
"""How much larger than its box a person is cut out; mmpose's default."""
LARGEST_PADDING = 100
Deviation = Annotated[float, Field(gt=0, lt=1000)]
"""Of a Gaussian, in elements of a vector."""


class Crop(Part):
    """How a person is cut out for a model: mmpose's GetBBoxCenterScale and TopdownAffine.

    Its name, for example `256x192` or `256x192-udp`, is the folder of the crops made with it.
    """

    height: int = Field(gt=0, le=LARGEST_SIDE)
    width: int = Field(gt=0, le=LARGEST_SIDE)
    padding: float = Field(PADDING, gt=0, le=LARGEST_PADDING)
    udp: bool = False

    NAME: ClassVar[re.Pattern[str]] = re.compile(
        r"([0-9]{1,9})x([0-9]{1,9})(?:-pad([0-9]{1,9}(?:\.[0-9]+)?))?(-udp)?"
    )

    def __str__(self) -> str:
        padding = "" if self.padding == PADDING else f"-pad{Decimal(str(self.padding)):f}"
        return f"{self.height}x{self.width}{padding}{'-udp' if self.udp else ''}"

    @classmethod
    def parse(cls, name: str) -> Self:
        """Read a name back.

        Raises:
            ValueError: `name` is not of the form HEIGHTxWIDTH[-padFACTOR][-udp].
        """
        refusal = (
            f"{shown(name)} is not HEIGHTxWIDTH, two numbers from 1 to {LARGEST_SIDE}, with "
            "-padFACTOR or -udp behind it"
        )
        match = cls.NAME.fullmatch(name)
        if not match:
            raise ValueError(refusal)
        height, width, padding, udp = match.groups()
        try:
            return cls(
                height=int(height),
                width=int(width),
                padding=float(padding or PADDING),
                udp=bool(udp),
            )
        except ValidationError as error:  # zero, for example
            raise ValueError(refusal) from error


class Keypoints(Part):
    """The keypoint set: names, mirror partners, links drawn and OKS constants.

    Some sets of mmpose, such as 300W's, have no OKS constants: nobody takes an AP of them.
    """

    names: list[str] = Field(min_length=1)
    flip_indices: list[int]
    sigmas: list[Annotated[float, Field(gt=0)]]
    skeleton: list[tuple[int, int]]

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        numbers = set(range(len(self.names)))
        if set(self.flip_indices) != numbers or len(self.flip_indices) != len(numbers):
            raise ValueError("flip_indices is not a permutation of the keypoints")
        if self.sigmas and len(self.sigmas) != len(numbers):
            raise ValueError("sigmas are not as many as names")
        if not {point for link in self.skeleton for point in link} <= numbers:
            raise ValueError("skeleton links keypoints that there are not")
        return self

    def oks_sigmas(self) -> list[float]:
        """Return the OKS constants.

        Raises:
            StageError: the set has none.
        """
        if not self.sigmas:
            raise StageError(
                f"a keypoint set of {len(self.names)} ({', '.join(self.names[:3])}, ...) has no "
                "OKS constants, so AP is not defined; give `sigmas` in the metainfo of the mmpose "
                "config, or set `weights: null` to measure speed only"
            )
        return self.sigmas


class HeatmapCodec(Part):
    """How heatmaps become coordinates; names and meaning as in mmpose."""

    OUTPUTS: ClassVar = ("heatmaps",)

    type: Literal["MSRAHeatmap", "UDPHeatmap", "MegviiHeatmap"]
    sigma: float
    unbiased: bool = False
    blur_kernel_size: int = Field(11, gt=0, lt=1000)
    heatmap_type: Literal["gaussian", "combined"] = "gaussian"
    radius_factor: float = 0.0546875

    @property
    def label(self) -> str:
        """The decoder's name in a protocol."""
        if self.type == "MegviiHeatmap":
            return "megvii"
        if self.type == "UDPHeatmap":
            return "udp" if self.heatmap_type == "gaussian" else "udp combined"
        return "dark" if self.unbiased else "plain"

    @property
    def flip_mode(self) -> Literal["heatmap", "udp_combined"]:
        """How mmpose mirrors such heatmaps."""
        return "udp_combined" if self.heatmap_type == "combined" else "heatmap"

    @property
    def channels(self) -> int:
        """Heatmaps for each keypoint: UDP's combined form has two of offsets beside it."""
        return 3 if self.heatmap_type == "combined" else 1

    def shapes(self, keypoints: int, crop: Crop) -> list[list[int | None]]:
        """Return the shapes of the outputs for one crop; None where any size fits."""
        return [[keypoints * self.channels, None, None]]


def _blur_kernel_sizes(sigma: float | tuple[float, float]) -> tuple[int, int]:
    x, y = (
        int((one * 20 - 7) // 3)
        for one in ([sigma] * 2 if isinstance(sigma, float | int) else sigma)
    )
    return x - (x % 2 == 0), y - (y % 2 == 0)


class SimCCCodec(Part):
    """How SimCC's two vectors for each keypoint become coordinates; names as in mmpose.

    `normalize` and `smoothing_type` say what the model was trained for: its scores are on that
    scale, and decoding is the same.
    """

    OUTPUTS: ClassVar = ("simcc_x", "simcc_y")

    type: Literal["SimCCLabel"]
    simcc_split_ratio: float = Field(2.0, gt=0, description="vector elements for each pixel")
    sigma: Deviation | tuple[Deviation, Deviation] = Field(6.0, description="of x and y")
    normalize: bool = True
    smoothing_type: Literal["gaussian", "standard"] = "gaussian"
    use_dark: bool = False

    @field_validator("use_dark")
    @classmethod
    def _can_be_blurred(cls, use_dark: bool, info: ValidationInfo) -> bool:
        if use_dark and min(_blur_kernel_sizes(info.data.get("sigma", 6.0))) < 3:
            raise ValueError("it needs a sigma of 0.8 or more, by which mmpose blurs")
        return use_dark

    @property
    def label(self) -> str:
        """The decoder's name in a protocol."""
        return "simcc dark" if self.use_dark else "simcc"

    @property
    def channels(self) -> int:
        """Vectors for each keypoint in an output."""
        return 1

    @property
    def blur_kernel_sizes(self) -> tuple[int, int]:
        """The blur before DARK along x and y, in vector elements: odd, as mmpose takes it."""
        return _blur_kernel_sizes(self.sigma)

    def shapes(self, keypoints: int, crop: Crop) -> list[list[int | None]]:
        """Return the shapes of the outputs for one crop."""
        return [
            [keypoints, int(side * self.simcc_split_ratio)] for side in (crop.width, crop.height)
        ]


Codec = Annotated[HeatmapCodec | SimCCCodec, Field(discriminator="type")]
"""What is needed to turn a model's outputs into coordinates."""


class Evaluation(Part):
    """How the model's config has predictions scored: keys and defaults of mmpose's CocoMetric."""

    score_mode: Literal["bbox", "bbox_keypoint"] = "bbox_keypoint"
    keypoint_score_thr: float = 0.2
    nms_mode: Literal["oks_nms", "soft_oks_nms", "none"] = "oks_nms"
    nms_thr: float = 0.9
    use_area: bool = True

    @property
    def label(self) -> str:
        """What departs from CocoMetric's defaults, as a protocol names it; else empty."""
        modes = {"oks_nms": "", "soft_oks_nms": "soft NMS", "none": "no NMS"}
        rescored = self.score_mode == "bbox_keypoint"
        parts = [
            "" if rescored else "scores of the boxes",
            f"keypoints above {self.keypoint_score_thr:g}"
            if rescored and self.keypoint_score_thr != 0.2
            else "",
            modes[self.nms_mode],
            f"NMS at {self.nms_thr:g}" if self.nms_mode != "none" and self.nms_thr != 0.9 else "",
            "" if self.use_area else "areas of the boxes",
        ]
        return ", ".join(filter(None, parts))


class Tensor(Part):
    """A tensor of the ONNX graph; a string is a dynamic dimension."""

    name: str
    shape: list[int | str]
    dtype: str


class MmposeOrigin(Part):
    """A config of mmpose and a checkpoint, exported here."""

    kind: Literal["mmpose"] = "mmpose"
    config: str
    weights_sha256: Sha256 | None
    files: dict[str, Sha256] = Field(
        {}, description="the user's own files that the config read or imported"
    )
    changes: str | None = Field(
        None, description="which changes of such files this export was made after (known.py)"
    )

    @property
    def trained(self) -> bool:
        """False for seeded initial weights."""
        return self.weights_sha256 is not None

    @property
    def original(self) -> str:
        """What the engines are compared with, for the report."""
        return "the original model in PyTorch"


class OnnxEnd(Part):
    """An input or output of an ONNX file, and how it becomes the card's.

    The card's axes are batch, channels, height, width, or batch, keypoints, bins.
    """

    name: str
    dtype: str
    shape: list[int | str] = Field(description="as the file declares it, or as it was measured")
    axes: list[int] = Field(
        description="for each axis of the card's, which one of the file's it is, counted after a "
        "batch that the file leaves out was put in front"
    )
    batched: bool = Field(True, description="false: the file has no axis for the batch")


class OnnxOrigin(Part):
    """An ONNX file, brought into the form of an export."""

    kind: Literal["onnx"] = "onnx"
    file: str = Field(description="as the configuration names it")
    sha256: Sha256 = Field(description="of the ONNX file")
    opset: int
    ir_version: int
    producer: str
    input: OnnxEnd
    outputs: list[OnnxEnd]
    sources: dict[str, str] = Field(description="key of the card -> what said it")

    @property
    def trained(self) -> bool:
        """Whether it has weights worth an accuracy; of a file it is taken for granted."""
        return True

    @property
    def original(self) -> str:
        """What the engines are compared with, for the report."""
        return "the fp32 engine of the original ONNX file"


Origin = Annotated[MmposeOrigin | OnnxOrigin, Field(discriminator="kind")]


class ModelCard(Artifact):
    """`model.json`: all that later stages need to know of a model, so none imports mmpose."""

    name: str
    origin: Origin
    architecture: str
    onnx_sha256: Sha256
    opset: int
    precision: Precision = Field("fp32", description="what the graph holds")
    input: Tensor
    outputs: list[Tensor] = Field(
        min_length=1, description="first those that the codec takes, in the order of its OUTPUTS"
    )
    channel_order: Literal["RGB", "BGR"]
    mean: list[float] = Field(min_length=3, max_length=3)
    std: list[Annotated[float, Field(gt=0)]] = Field(min_length=3, max_length=3)
    crop: Crop
    codec: Codec
    flip_shift: bool = Field(description="flipped heatmaps are moved by a pixel (mmpose)")
    keypoints: Keypoints
    evaluation: Evaluation = Evaluation()
    notes: list[str] = Field([], description="of the config: what has no effect here")
    parameters: int
    macs: int
    versions: dict[str, str]

    @field_validator("outputs")
    @classmethod
    def _fixed_but_for_the_batch(cls, outputs: list[Tensor]) -> list[Tensor]:
        for output in outputs:
            if not all(isinstance(size, int) and size > 0 for size in output.shape[1:]):
                raise ValueError(f"the shape of {output.name} is not fixed but for its batch")
        return outputs

    @model_validator(mode="after")
    def _as_many_outputs_as_the_codec_takes(self) -> Self:
        if len(self.outputs) < len(self.codec.OUTPUTS):
            raise ValueError(
                f"{self.codec.type} takes {len(self.codec.OUTPUTS)} outputs "
                f"({', '.join(self.codec.OUTPUTS)}), but there is {len(self.outputs)}"
            )
        return self

    @property
    def decoded(self) -> list[Tensor]:
        """The outputs that the codec takes, in order."""
        return self.outputs[: len(self.codec.OUTPUTS)]

    @property
    def trained(self) -> bool:
        """False for seeded initial weights: such a model has a speed but no accuracy."""
        return self.origin.trained

    @property
    def fixed_batch(self) -> int | None:
        """The only number of images that the graph takes at a time; None if it takes any."""
        batch = self.input.shape[0]
        return batch if isinstance(batch, int) else None
