"""What a user of figures should know of the data."""

from typing import Literal

from pydantic import Field

from hrnetpose.artifacts.base import Part


class Finding(Part):
    """Something in the data of a run that its user should know."""

    kind: str
    count: int = Field(description="how many entries it is about")
    text: str = Field(description="one sentence")
    label: str | None = Field(None, description="what a figure's label says, if it changes figures")
    boxes: Literal["gt", "det"] | None = Field(None, description="if it is about one box set alone")
