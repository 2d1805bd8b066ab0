"""`persons_{listed}.json`: written by list_persons."""

from typing import Literal

from hrnetpose.artifacts.base import Artifact
from hrnetpose.artifacts.findings import Finding


class PersonList(Artifact):
    """`build/datasets/{dataset}/persons_{listed}.json`: whose boxes are cut out."""

    boxes: Literal["gt", "det"]
    images: int
    persons: int
    findings: list[Finding]
