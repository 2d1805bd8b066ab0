"""The small model's config with changes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from support import TINY_CONFIG, replace_texts


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write the small model's config with texts replaced and lines added."""

    def write(*lines: str, replace: Mapping[str, str] | None = None) -> Path:
        text = replace_texts(TINY_CONFIG, replace or {})
        (tmp_path / "config.py").write_text("\n".join([text, *lines, ""]))
        return tmp_path / "config.py"

    return write


@pytest.fixture
def read(write: Callable[..., Path]) -> Callable[..., Any]:
    """Read it: `read("model.update(...)", replace={"sigma=1": "sigma=2"})`."""
    from hrnetpose.models import mmpose

    return lambda *lines, **replace: mmpose.read_config(str(write(*lines, **replace)))
