"""`engine.json`, the engine card: written by build_engine."""

from typing import Any, Literal

from pydantic import Field

from hrnetpose.artifacts.base import Artifact, Part, Sha256
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.recipes import Precision

ENGINE_FILE = "engine.bin"


ENGINE_CARD = "engine.json"


class Device(Part):
    """What an engine runs on."""

    kind: Literal["cpu", "gpu"]
    name: str | None = Field(None, description="None: not known where the engine was built")

    def __str__(self) -> str:
        if self.kind == "gpu":
            return self.name or "a GPU (it was built without one)"
        return f"CPU: {self.name}" if self.name else "CPU"


class ExecutedPrecision(Part):
    """What the backend says it runs the heavy layers in."""

    precision: str
    layers: dict[str, int] = Field(description="convolutions and matrix products by precision")


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


class EngineReference(Part):
    """Which engine a figure belongs to."""

    variant: str
    sha256: Sha256
