"""The JSON files that stages write for each other and for the user, with their types.

Every artefact is a model of this module, carries `schema` (its version) and is read back with
`read`, which names the file and the key when one is damaged or of another version.
"""

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from hrnetpose import files
from hrnetpose.stage import StageError

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Precision = Literal["fp32", "fp16", "bf16", "int8", "fp8"]
Graph = Literal["fp32", "fp16", "bf16", "int8", "int8-fp16", "fp8"]
"""The ONNX graphs that engines are built from: build/models/{model}/{graph}.onnx.

`int8` has fp32 beside its int8 layers; `int8-fp16` and `fp8` have fp16 there, and zero points that
are all 0, as TensorRT demands.
"""

ENGINE_FILE = "engine.bin"
ENGINE_CARD = "engine.json"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())


class Artifact(_Part):
    """A JSON file with a versioned schema."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    schema_version: Literal[1] = Field(1, alias="schema")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads and checks an artefact.

        Raises:
            StageError: the file is missing, is not JSON or lacks what it should hold.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise StageError(f"{path}: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "content"
            raise StageError(
                f"{path}: {key}: {first['msg']}; delete the file and run again to rebuild it"
            ) from error

    def write(self, path: Path) -> None:
        """Writes the artefact, atomically, in an order that does not vary."""
        text = json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False)
        files.write_text(path, text + "\n")


class Crop(_Part):
    """How a person is cut out for a model: mmpose's GetBBoxCenterScale and TopdownAffine.

    Its name, for example `256x192` or `256x192-udp`, is the folder of the crops made with it.
    """

    height: int = Field(gt=0)
    width: int = Field(gt=0)
    padding: float = Field(1.25, gt=0)
    udp: bool = False

    _NAME: ClassVar[re.Pattern[str]] = re.compile(
        r"([0-9]+)x([0-9]+)(?:-pad([0-9]+(?:\.[0-9]+)?))?(-udp)?"
    )

    def __str__(self) -> str:
        padding = "" if self.padding == 1.25 else f"-pad{Decimal(str(self.padding)):f}"
        return f"{self.height}x{self.width}{padding}{'-udp' if self.udp else ''}"

    @classmethod
    def parse(cls, name: str) -> Self:
        """Reads a name back.

        Raises:
            ValueError: `name` is not of the form HEIGHTxWIDTH[-padFACTOR][-udp].
        """
        refusal = f"{name!r} is not HEIGHTxWIDTH, with -padFACTOR or -udp behind it"
        match = cls._NAME.fullmatch(name)
        if not match:
            raise ValueError(refusal)
        height, width, padding, udp = match.groups()
        try:
            return cls(
                height=int(height), width=int(width), padding=float(padding or 1.25), udp=bool(udp)
            )
        except ValidationError as error:  # zero, for example
            raise ValueError(refusal) from error


class Keypoints(_Part):
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
        """Returns the OKS constants.

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


class Codec(_Part):
    """What is needed to turn heatmaps into coordinates; names and meaning as in mmpose."""

    type: Literal["MSRAHeatmap", "UDPHeatmap", "MegviiHeatmap"]
    sigma: float
    unbiased: bool = False
    blur_kernel_size: int = 11
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


class Evaluation(_Part):
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


class Tensor(_Part):
    """A tensor of the ONNX graph; a string is a dynamic dimension."""

    name: str
    shape: list[int | str]
    dtype: str


class ModelCard(Artifact):
    """`model.json`: all that later stages need to know of a model, so none imports mmpose."""

    name: str
    config: str
    architecture: str
    weights_sha256: Sha256 | None
    onnx_sha256: Sha256
    opset: int
    input: Tensor
    outputs: list[Tensor] = Field(min_length=1)
    channel_order: Literal["RGB", "BGR"]
    mean: list[float] = Field(min_length=3, max_length=3)
    std: list[Annotated[float, Field(gt=0)]] = Field(min_length=3, max_length=3)
    crop: Crop
    codec: Codec
    flip_shift: bool = Field(description="the flipped heatmaps are moved by a pixel (mmpose)")
    keypoints: Keypoints
    evaluation: Evaluation = Evaluation()
    notes: list[str] = Field([], description="of the config: what has no effect here")
    parameters: int
    macs: int
    versions: dict[str, str]
    files: dict[str, Sha256] = Field(
        {}, description="the user's own files that the config read or imported"
    )
    changes: str | None = Field(
        None, description="which changes of such files this export was made after (plan.py)"
    )

    @property
    def trained(self) -> bool:
        """False for seeded initial weights: such a model has a speed but no accuracy."""
        return self.weights_sha256 is not None


class Simplification(Artifact):
    """`build/models/{model}/simplified.json`: whether onnxsim's graph is the one that is used."""

    used: bool
    reason: str | None = Field(description="why the exported graph is kept instead")
    nodes_before: int
    nodes_after: int | None = Field(description="of onnxsim's graph, if it gave one")
    relative_error: float | None = Field(description="of its heatmaps, if they are finite")
    onnxsim: str = Field(description="its version")
    graph_sha256: Sha256 = Field(description="of simplified.onnx")


class Finding(_Part):
    """Something in the data of a run that its user should know."""

    kind: str
    count: int = Field(description="how many entries it is about")
    text: str = Field(description="one sentence")
    label: str | None = Field(None, description="what a figure's label says, if it changes figures")
    boxes: Literal["gt", "det"] | None = Field(None, description="if it is about one box set alone")


class Audit(Artifact):
    """`build/datasets/{dataset}/audit.json`: what was found in a dataset.

    `calibration_audit.json` is the same for the images that int8 is calibrated on.
    """

    annotations_sha256: Sha256
    category: str
    keypoints: list[str] = Field(description="as the annotations name them; empty if they do not")
    number_of_keypoints: int
    images: int = Field(description="listed")
    images_with_persons: int
    persons: int = Field(description="annotations of the category that have keypoints")
    evaluated: int = Field(description="of them, those that are cut out by their annotated boxes")
    findings: list[Finding]


class PersonList(Artifact):
    """`build/datasets/{dataset}/persons_{listed}.json`: whose boxes are cut out."""

    boxes: Literal["gt", "det"]
    images: int
    persons: int
    findings: list[Finding]


class CalibrationImage(_Part):
    """An image that int8 is calibrated on."""

    id: int
    file_name: str
    sha256: Sha256 = Field(description="of the encoded image")


class CalibrationSet(Artifact):
    """`build/datasets/{dataset}/calibration.json`: what int8 is calibrated on.

    None of the images is among those that are evaluated.
    """

    images: list[CalibrationImage]
    persons: int
    evaluated_images: int


class SensitiveLayer(_Part):
    """A layer, and the relative error of the heatmaps when it alone is in int8."""

    name: str
    error: float


class Trial(_Part):
    """The AP on the calibration persons with so many layers left in floating point."""

    left: int
    AP: float


class Sensitivity(_Part):
    """What the accuracy-aware quantisation did; every AP is of the calibration persons."""

    ap_drop: float = Field(description="the loss of AP that was allowed")
    ap_fp32: float
    ap_int8: float
    left: list[SensitiveLayer] = Field(description="in floating point, the worst one first")
    trials: list[Trial]


class Quantization(Artifact):
    """`build/models/{model}/int8.json`: which layers are in int8, and how that was decided."""

    graph_sha256: Sha256
    calibration_sha256: Sha256 = Field(description="of the calibration set's file")
    persons: int
    symmetric: bool = Field(description="activations have the zero point 0")
    layers: int = Field(description="convolutions, but for depthwise and grouped ones")
    int8_layers: int
    sensitivity: Sensitivity | None


class ExecutedPrecision(_Part):
    """What the backend says it runs the heavy layers in."""

    precision: str
    layers: dict[str, int] = Field(description="convolutions and matrix products by precision")


class Device(_Part):
    """What an engine runs on."""

    kind: Literal["cpu", "gpu"]
    name: str | None = Field(None, description="None: not known where the engine was built")

    def __str__(self) -> str:
        if self.kind == "gpu":
            return self.name or "a GPU (it was built without one)"
        return f"CPU: {self.name}" if self.name else "CPU"


class EngineCard(Artifact):
    """`engine.json`: what an engine is, on what it runs and from what it was made."""

    variant: str
    backend: str
    device: Device
    requested: Precision
    executed: ExecutedPrecision
    batch: int = Field(ge=1, le=4096)
    options: dict[str, Any]
    sha256: Sha256
    bytes: int
    graph: str | None = Field(None, description="the ONNX file it was built from")
    graph_sha256: Sha256 | None
    built_for: dict[str, str] = Field({}, description="where it runs; checked before it is loaded")
    modules: dict[str, Sha256] = Field({}, description="imported before it is opened, by file")
    build_seconds: float
    versions: dict[str, str]
    model: ModelCard


class Metrics(_Part):
    """COCO's ten keypoint figures; None where no person is of that size."""

    AP: float | None
    AP50: float | None
    AP75: float | None
    APM: float | None
    APL: float | None
    AR: float | None
    AR50: float | None
    AR75: float | None
    ARM: float | None
    ARL: float | None


class Protocol(_Part):
    """What an AP was measured under; two figures compare only under the same label."""

    boxes: Literal["gt", "det"]
    flip: bool
    decode: str
    subset: str
    label: str

    @property
    def short(self) -> str:
        """Boxes and flip test alone, as `published` gives them: `gt`, `det+flip`, ..."""
        return f"{self.boxes}{'+flip' if self.flip else ''}"


class Delta(_Part):
    """Change of AP against the reference variant, under the same protocol."""

    reference: str
    AP: float
    ci95: tuple[float, float]
    verdict: Literal["better", "worse", "not distinguishable"]
    resamples: int


class JointError(_Part):
    """Distance from the true position, over the persons on whom the joint is labelled."""

    mean_px: float | None
    median_px: float | None
    mean_share: float | None = Field(description="of the longer side of the annotated box")
    labelled: int


class KeypointView(_Part):
    """What AP does not show; with ground-truth boxes only, where each prediction has its truth."""

    mean_oks: float
    pck: dict[str, float] = Field(description="share of joints within 0.05, 0.1, 0.2 of the box")
    by_joint: dict[str, JointError]
    ap_by_visible_keypoints: dict[str, float | None]


class ProtocolResult(_Part):
    """The accuracy under one protocol."""

    metrics: Metrics
    protocol: Protocol
    delta: Delta | None
    instances: int
    images: int
    keypoints: KeypointView | None


class EngineReference(_Part):
    """Which engine a figure belongs to."""

    variant: str
    sha256: Sha256


class Accuracy(Artifact):
    """`results/{variant}_accuracy.json`: the headline protocol at the top, all in `protocols`."""

    metrics: Metrics
    protocol: Protocol
    delta: Delta | None
    instances: int
    images: int
    keypoints: KeypointView | None
    engine: EngineReference
    protocols: list[ProtocolResult]
    findings: list[Finding] = Field([], description="what was found in the dataset")


class KeypointShift(_Part):
    """How far keypoints move, in pixels of the model's input."""

    mean: float
    p99: float
    max: float


class Drift(_Part):
    """How a stage's heatmaps differ from the original model's."""

    max_abs: float
    cosine: float
    keypoint_shift_px: KeypointShift


class Parity(Artifact):
    """`results/{variant}_parity.json`: where in the pipeline an error comes in.

    Every stage is compared with the original model in PyTorch at fp32, on the same crops; `pytorch`
    itself is therefore zero.  Shifts are of the keypoints that the original is sure of.
    """

    stages: dict[Literal["pytorch", "onnx", "simplified", "precision", "engine"], Drift]
    crops: int
    keypoints: int
    minimum_score: float
    engine: EngineReference


class Latency(_Part):
    """Statistics in milliseconds; percentiles by linear interpolation."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    p99_9: float
    iqr: float = Field(description="inter-quartile range, p75 - p25")
    min: float
    max: float


class LatencyScenario(_Part):
    """One request at a time, from pixels to heatmaps on the host; its figures are `latency_ms`."""

    batch: int
    streams: int | None
    samples: int
    duration_s: float
    spread: float = Field(description="(largest - smallest) / middle of the windows' medians")


class SweepPoint(_Part):
    """Throughput at one batch size and number of streams, measured shortly."""

    batch: int
    streams: int | None = Field(description="None: the backend has no streams")
    fps: float
    samples: int
    duration_s: float
    load_seconds: float


class Throughput(_Part):
    """The best point of the sweep, measured at full length: several requests in flight."""

    fps: float
    batch: int
    streams: int | None
    requests: int = Field(description="batches in flight")
    samples: int = Field(description="batches")
    images: int = Field(description="heatmaps that came back, counted")
    duration_s: float
    spread: float = Field(description="(largest - smallest) / middle of the windows' rates")
    sweep: list[SweepPoint]


class WarmUp(_Part):
    """What ran before anything was measured."""

    seconds: float
    stable: bool = Field(description="the last windows agreed; otherwise the time was up")


class EndToEnd(_Part):
    """From images on disk to keypoints, one inference for each person, with ground-truth boxes."""

    persons_per_s: float = Field(
        description="at the batch and streams of the throughput, all parts at the same time"
    )
    persons: int
    images: int
    ms_per_person: dict[str, float] = Field(
        description="at the batch of the latency, one part after the other: decode, crop, copy_in, "
        "inference, copy_out, keypoints, other; they add up to the total"
    )
    total_ms_per_person: float


class Roofline(_Part):
    """What the machine could do at most, from what was measured in the same run."""

    flops_per_image: float
    bytes_per_image: float = Field(description="that must cross memory at least")
    precision: str = Field(description="of the matrix product that was measured")
    peak_flops: float | None
    bandwidth_bytes_s: float | None
    measured_with: str
    bound: Literal["compute", "memory"] | None
    limit_fps: float | None
    fraction: float | None


class Validity(_Part):
    """Whether the figures can be believed, as MLPerf's LoadGen says it."""

    verdict: Literal["VALID", "INVALID"]
    reasons: list[str]


class Energy(_Part):
    """Energy of the whole device while throughput was measured."""

    joules_per_image: float | None
    source: str = Field(description="RAPL or NVML, or why it is not available")


class PrecisionPair(_Part):
    """What was asked for and what the backend ran."""

    requested: Precision
    executed: str


class Host(_Part):
    """The machine that a figure was measured on."""

    cpu: str
    features: list[str]
    cores: int
    cache_bytes: int | None = Field(description="the last-level cache")
    clock_mhz: float | None
    virtual: bool = Field(description="a virtual machine")
    gpu: str | None
    memory_bytes: int
    os: str
    python: str
    load_average: float


class Perf(Artifact):
    """`results/{variant}_perf.json`; the raw samples are in the file that `raw` names.

    `samples`, `duration_s` and `batch` are those of the throughput:
    fps = batch x samples / duration_s.  `device_ms` is a batch on the device alone, without copies,
    where the backend can tell.
    """

    throughput: Throughput
    latency_ms: Latency
    latency: LatencyScenario
    device_ms: Latency | None
    end_to_end: EndToEnd | None
    samples: int
    duration_s: float
    batch: int
    threads: int
    build_seconds: float
    load_seconds: float
    first_inference_ms: float
    warm_up: WarmUp
    precision: PrecisionPair
    roofline: Roofline
    validity: Validity
    energy: Energy
    device: Device
    engine: EngineReference
    host: Host
    versions: dict[str, str]
    raw: str

    @property
    def invalid(self) -> list[str]:
        """Why the figures cannot be believed: as found when they were measured, and read again."""
        return list(dict.fromkeys([*self.validity.reasons, *self.contradictions()]))

    def contradictions(self) -> list[str]:
        """Returns what does not add up within the figures themselves."""
        found = []
        declared = self.batch * self.samples
        if self.throughput.images != declared:
            found.append(
                f"batch arithmetic: {self.samples} batches of {self.batch} are {declared} images, "
                f"but {self.throughput.images} came back"
            )
        rate = self.throughput.images / self.duration_s
        if abs(rate / self.throughput.fps - 1) > 0.01:
            found.append(
                f"batch arithmetic: {self.throughput.images} images in {self.duration_s:.2f} s are "
                f"{rate:.1f} images/s, not {self.throughput.fps:.1f}"
            )
        limit = self.roofline.limit_fps
        if limit is not None and self.throughput.fps > limit:
            found.append(
                f"above the limit: {self.throughput.fps:.1f} images/s, but the machine can do "
                f"{limit:.1f} at most"
            )
        return found


class FetchedImage(_Part):
    """One image that was fetched by itself."""

    id: int
    file_name: str
    url: str
    sha256: Sha256
    bytes: int


class FetchedImages(Artifact):
    """`calibration/manifest.json`: which images were fetched, from where, and what they are."""

    source: str = Field(description="hash and member of the annotations that they were chosen from")
    count: int = Field(description="how many were asked for; there may be fewer")
    images: list[FetchedImage]
    archive_sha256: Sha256
    annotations_sha256: Sha256
