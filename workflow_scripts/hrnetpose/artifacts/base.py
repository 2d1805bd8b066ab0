"""What every artifact has in common: a JSON file with a versioned schema, read back and checked."""

import json
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from hrnetpose import files
from hrnetpose.stage import StageError

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Part(BaseModel):
    """A section of an artifact."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())


class Artifact(Part):
    """A JSON file with a versioned schema."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    schema_version: Literal[1] = Field(1, alias="schema")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check an artifact.

        Raises:
            StageError: the file is missing, is not JSON or lacks what it should hold.
        """
        try:
            return cls.parse(path.read_bytes(), str(path))
        except OSError as error:
            raise StageError(f"{path}: {error.strerror}") from error

    @classmethod
    def parse(cls, content: bytes, path: str) -> Self:
        """Check the content of an artifact; `path` is for messages.

        Raises:
            StageError: it is not JSON, or lacks what it should hold.
        """
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "content"
            raise StageError(
                f"{path}: {key}: {first['msg']}; delete the file and run again to rebuild it"
            ) from error

    def write(self, path: Path) -> None:
        """Write the artifact, atomically, in an order that does not vary."""
        text = json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False)
        files.write_text(path, text + "\n")
