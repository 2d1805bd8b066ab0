"""Dataclasses of arrays that are kept as a .npz."""

from pathlib import Path
from typing import Any, Self, get_type_hints

import numpy as np

from hrnetpose import files


class Table:
    """Base of dataclasses whose annotated fields are the columns of a .npz.

    `Annotated[NDArray[np.float64], "float64 N 4"]` is an array of that dtype and shape, as
    `files.read_table` takes it; a form without a shape is a scalar.
    """

    @classmethod
    def columns(cls) -> dict[str, str]:
        """Return the forms of the columns by name."""
        hints = get_type_hints(cls, include_extras=True)
        return {
            name: hint.__metadata__[0]
            for name, hint in hints.items()
            if hasattr(hint, "__metadata__")
        }

    def write(self, path: Path) -> None:
        """Write the table (.npz), atomically."""
        columns: dict[str, Any] = {name: getattr(self, name) for name in self.columns()}
        with files.atomic_path(path) as temporary:
            np.savez(temporary, **columns)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a table back.

        Raises:
            StageError: the file is missing, damaged or not such a table.
        """
        found = files.read_table(path, cls.columns())
        return cls(**{name: value if value.ndim else value.item() for name, value in found.items()})
