"""`simplified.json`: written by simplify_onnx."""

from pydantic import Field

from hrnetpose.artifacts.base import Artifact, Sha256


class Simplification(Artifact):
    """`build/models/{model}/simplified.json`: whether onnxsim's graph is the one that is used."""

    used: bool
    reason: str | None = Field(description="why the exported graph is kept instead")
    nodes_before: int
    nodes_after: int | None = Field(description="of onnxsim's graph, if it gave one")
    relative_error: float | None = Field(description="of its outputs, if they are finite")
    onnxsim: str = Field(description="its version")
    graph_sha256: Sha256 = Field(description="of simplified.onnx")
