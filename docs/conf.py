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
# Names of types, such as Floats, stand in several modules.
suppress_warnings = ["config.cache", "ref.python"]

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


_kept: dict[str, list[str]] = {}


def _keep(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Keep the docstring of an attribute: napoleon takes what is before a colon for its type."""
    if get_origin(value) and "\n".join(lines).strip() == inspect.getdoc(get_origin(value)):
        lines.clear()  # an alias of a type has the docstring of that
    if what in ("attribute", "data", "property"):
        _kept[name] = list(lines)


def _put_back(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    lines[:] = _kept.pop(name, lines)


def setup(app: Any) -> None:
    """Connect with Sphinx, before and after napoleon."""
    app.connect("autodoc-process-docstring", _keep, priority=100)
    app.connect("autodoc-process-docstring", _put_back, priority=900)
