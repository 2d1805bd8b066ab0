"""Rows that are not complete, since a stage failed: which parts are missing, and why."""

import os
import re
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from hrnetpose import stage
from hrnetpose.artifacts.engine import EngineCard

Part = Literal["engine", "accuracy", "speed", "parity"]
"""What a row is made of."""
TAIL = 1 << 16
"""Bytes at the end of a log in which its error is looked for."""
LONGEST = 400
"""Characters of a reason."""
KILLED = "it was killed, perhaps for its memory or time"
ESCAPE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)?")
"""Terminal control sequences (ECMA-48: CSI, OSC and two-character ones)."""


class Failure(BaseModel):
    """A part of a row that was not made.

    Attributes:
        part: what is missing.
        stage: the stage that failed, which may be an earlier one than the one that makes the part;
            None if none failed, but the run was stopped.
        log: the stage's.
    """

    model_config = ConfigDict(extra="forbid")

    part: Part
    stage: str | None = None
    log: Path | None = None


class Variant(BaseModel):
    """A row as the configuration asks for it."""

    model_config = ConfigDict(extra="forbid")

    name: str
    model: str
    backend: str
    precision: str
    failures: list[Failure] = []

    @classmethod
    def of(cls, card: EngineCard) -> Self:
        """Return the row of an engine that was built."""
        return cls(
            name=card.variant,
            model=card.model.name,
            backend=card.backend,
            precision=card.requested,
        )

    def lacks(self, part: Part) -> bool:
        """Return True if a failure is the reason that the part is missing."""
        return any(failure.part == part for failure in self.failures)

    def reasons(self) -> list[str]:
        """Return a line for each stage that failed: what is missing, the stage and its error."""
        parts: dict[tuple[str | None, Path | None], list[str]] = {}
        for failure in self.failures:
            parts.setdefault((failure.stage, failure.log), []).append(failure.part)
        return [
            f"no {', '.join(missing)}: {_explain(failed, log)}"
            for (failed, log), missing in parts.items()
        ]


def _explain(name: str | None, log: Path | None) -> str:
    if name is None or log is None:
        return "not run, since the run was stopped"
    return f"{name}: {read_reason(name, log)}"


def read_reason(name: str, log: Path) -> str:
    """Return the error of a stage that failed, on one line, printable and not too long.

    Args:
        name: of the stage.
        log: the stage's.
    """
    try:
        with log.open("rb") as file:
            file.seek(-min(TAIL, os.path.getsize(log)), os.SEEK_END)
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return f"no message and no log: the job did not start, or {KILLED}"
    prefix = stage.error_prefix(name)
    errors = [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]
    if not errors:
        return f"no message: {KILLED}; see {stage.name(str(log))}"
    text = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for character in ESCAPE.sub("", errors[-1])
    )
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... (see {stage.name(str(log))})"
