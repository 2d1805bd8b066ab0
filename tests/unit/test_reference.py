"""The reference page says what the configuration accepts."""

from pathlib import Path

import pytest
import yaml

from hrnetpose import engines, reference
from hrnetpose.config import Config


def test_the_page_is_in_step_with_the_code(repository: Path) -> None:
    page = (repository / "docs" / "configuration.md").read_text(encoding="utf-8")

    if page.rstrip() != reference.page().rstrip():
        pytest.fail("docs/configuration.md is out of sync with the code. Run `make docs`.")


def test_every_key_and_every_option_is_explained() -> None:
    page = reference.page()

    for name in Config.model_fields:
        assert f"| `{name}` |" in page
    for name in engines.BACKENDS:
        assert f"`backend: {name}`" in page
        for option in engines.backend(name).options.model_fields:
            assert f"| `{option}` |" in page


def test_the_default_configuration_uses_explained_keys_only(repository: Path) -> None:
    default = yaml.safe_load((repository / "config.yaml").read_text(encoding="utf-8"))

    assert set(default) <= set(Config.model_fields)
