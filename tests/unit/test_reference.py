"""The reference page and the JSON schema say what the configuration accepts."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
import yaml

from hrnetpose import engines, reference
from hrnetpose.config import Config
from hrnetpose.version import VERSION


def test_the_page_is_in_step_with_the_code(repository: Path) -> None:
    page = (repository / "docs" / "configuration.md").read_text(encoding="utf-8")

    if page.rstrip() != reference.page().rstrip():
        pytest.fail("docs/configuration.md is out of sync with the code. Run `make docs`.")
    headings = re.findall(r"^##+ .*", page, re.MULTILINE)
    assert len(headings) == len(set(headings))


def test_the_schema_is_in_step_with_the_code(repository: Path) -> None:
    schema = json.loads((repository / "config.schema.json").read_text(encoding="utf-8"))

    if schema != reference.schema():
        pytest.fail("config.schema.json is out of sync with the code. Run `make docs`.")


def files() -> list[Path]:
    root = Path(__file__).parents[2]
    return [root / "config.yaml", *sorted((root / "configs").glob("*.yaml"))]


@pytest.mark.parametrize("file", files(), ids=lambda path: path.name)
def test_configurations_name_the_schema_and_fit_it(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)

    assert named
    schema = json.loads((file.parent / named[1]).read_text(encoding="utf-8"))
    jsonschema.validate(yaml.safe_load(text), schema)


@pytest.mark.parametrize(
    ("overlay", "wrong"),
    [
        ({"model": "mine"}, None),
        ({"variants": {"int8": None, "fp16": {"batch": 4}}}, None),
        ({"variants": {"ort": {"backend": "onnxruntime", "options": {"provider": "cuda"}}}}, None),
        ({"models": {"mine": {"config": "m.py", "weights": ["a.pth", "https://b/c.pth"]}}}, None),
        ({"datasets": {"mine": {"images": {"source": "a.zip", "sha256": "01234567"}}}}, None),
        ({"protocol": {}}, "'protocol' was unexpected"),
        ({"variants": {"x": {"precison": "fp16"}}}, "'precison' was unexpected"),
        ({"variants": {"x": {"precision": "fp4"}}}, "'fp4' is not one of"),
        ({"variants": {"x": {"backend": "openvin"}}}, "'openvin' is not one of"),
        ({"variants": {"x": {"backend": "openvino", "precision": "fp8"}}}, "'fp8' is not one of"),
        ({"variants": {"x": {"backend": "igie", "options": {"streams": 2}}}}, "'streams' was"),
        ({"variants": {"a b": {"precision": "fp16"}}}, "does not match any of the regexes"),
        ({"shards": "2"}, "'2' is not of type 'integer'"),
    ],
)  # fmt: skip
def test_the_schema_takes_overlays_and_marks_what_planning_refuses(
    overlay: dict[str, Any], wrong: str | None
) -> None:
    # As an editor does, which goes into the alternatives of `anyOf`.
    errors = list(jsonschema.Draft7Validator(reference.schema()).iter_errors(overlay))
    deepest = [e.message for error in errors for e in ([error, *(error.context or [])])]

    assert bool(errors) == bool(wrong)
    assert not wrong or any(wrong in message for message in deepest)


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


def rules_of(repository: Path) -> set[str]:
    """Names of all rules that make files."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in repository.glob("rules/*.smk"))
    return set(re.findall(r"^\s*rule (\w+):", text, re.MULTILINE))


def test_a_picture_of_stages_has_them_in_the_order_of_what_they_take(tmp_path: Path) -> None:
    import draw_stages

    graph = tmp_path / "stages.dot"
    graph.write_text(
        'digraph d {\n 0[label = "report"];\n 1[label = "last"];\n 2[label = "first"];\n'
        ' 3[label = "middle"];\n 1 -> 0\n 2 -> 1\n 3 -> 1\n 2 -> 3\n}\n'
    )

    draw_stages.main(graph=graph, output=tmp_path / "stages.svg")

    picture = (tmp_path / "stages.svg").read_text()
    assert re.findall(r">(\w+)</text>", picture) == ["first", "middle", "last"]
    assert picture.count("<path") == 2  # not the one that leads around the middle
    ElementTree.fromstring(picture)


def test_the_picture_of_the_documents_has_the_stages_that_there_are(repository: Path) -> None:
    picture = (repository / "docs/stages.svg").read_text(encoding="utf-8")
    drawn = set(re.findall(r">(\w+)</text>", picture))

    if not drawn <= rules_of(repository):
        pytest.fail("docs/stages.svg is out of sync with the rules. Run `make docs`.")


def test_the_version_is_that_of_the_changelog_and_the_citation(repository: Path) -> None:
    changelog = (repository / "CHANGELOG.md").read_text(encoding="utf-8")
    citation = yaml.safe_load((repository / "CITATION.cff").read_text(encoding="utf-8"))

    assert re.search(r"^## ([\d.]+)", changelog, re.MULTILINE)[1] == VERSION
    assert str(citation["version"]) == VERSION


def test_the_catalogue_finds_what_it_asks_for(repository: Path) -> None:
    """As the Snakemake Workflow Catalog's own checks: usage, page of the configuration."""
    content = yaml.safe_load(
        (repository / ".snakemake-workflow-catalog.yml").read_text(encoding="utf-8")
    )

    assert set(content["usage"]) == {"software-stack-deployment", "mandatory-flags", "report"}
    assert content["usage"]["software-stack-deployment"]["conda"] is True
    assert (repository / "config/README.md").is_file()
    assert (repository / "Snakefile").is_file()
