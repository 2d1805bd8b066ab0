"""The site of the documents: `make docs`, or `sphinx-build -W docs build/site`.

The pages are Markdown (MyST); those of the library's modules are made from its docstrings.
"""

import inspect
import sys
from pathlib import Path
from typing import Any, get_origin

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "workflow_scripts"))

from hrnetpose.version import VERSION  # noqa: E402

project = "hrnetpose"
release = version = VERSION
copyright = "the authors of hrnetpose"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
templates_path = ["_templates"]
html_theme = "furo"
html_title = f"hrnetpose {VERSION}"
html_copy_source = False

myst_heading_anchors = 3
suppress_warnings = ["config.cache"]

default_role = "code"
autosummary_generate = True
napoleon_use_ivar = True
autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_default_options = {
    "members": True,
    "show-inheritance": True,
    "exclude-members": "model_config",
}


def _prepare(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Change the lines of a docstring before napoleon reads it."""
    if get_origin(value) and "\n".join(lines).strip() == inspect.getdoc(get_origin(value)):
        lines.clear()  # an alias of a type has the docstring of that
    elif what in ("attribute", "data", "property"):
        lines.insert(0, "")  # napoleon takes what is before a colon in the first line for a type


def setup(app: Any) -> None:
    """Connect with Sphinx."""
    app.connect("autodoc-process-docstring", _prepare, priority=100)
