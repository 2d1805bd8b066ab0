"""What is wrong with a file of the configuration as text."""

from pathlib import Path

import pytest

from hrnetpose import config_text
from hrnetpose.config import ConfigError


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"model: a\nmodel: b\n", "model stands in line 1 and in line 2; leave one"),
        (b"a:\n  b: {c: 1, d: 2, c: 3}\n", "a.b.c stands in line 2 and in line 2"),
        (b"a:\n- {b: 1}\n- {b: 1, b: 2}\n", "a.b stands in line 3"),
        (b'{"a": {"b": 1, "b": 2}}', "'b' stands twice in one section"),
        (b"a:\n\tb: 1\n", "line 2: no YAML: found character '\\t'"),
        (b"a: [1\n", "line 2: no YAML"),
        (b"a: *b\n", "line 1: no YAML: found undefined alias"),
        (b'a: "\xff"\n', "byte 4 is not UTF-8"),
        (b"\xff\xfea\0:\0", "byte 0 is not UTF-8"),
        (b"", "expected keys with values"),
        (b"# nothing\n", "expected keys with values"),
        (b"- a\n", "expected keys with values"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_wrong_file_is_refused_by_its_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "overlay.yaml"
    path.write_bytes(content)

    with pytest.raises(ConfigError) as error:
        config_text.check(path)

    assert str(error.value).startswith(f"{path}: ")
    assert says in str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    "content",
    [
        "a: 1\nb: {a: 2}\n",
        "a: &a {b: 1}\nc: {<<: *a, b: 2}\nd: {<<: *a, e: *a}\n",
        '{"a":\t1,\n\t"b": {"a": 2}}',
        "a: &a [*a]\n",
    ],
)
def test_a_right_file_is_taken(tmp_path: Path, content: str) -> None:
    (tmp_path / "overlay.yaml").write_text(content)

    config_text.check(tmp_path / "overlay.yaml")


def test_all_files_of_this_project_are_right(repository: Path) -> None:
    for path in [repository / "config.yaml", *(repository / "configs").glob("*.yaml")]:
        config_text.check(path)


def test_the_results_are_where_the_last_file_with_a_run_says(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `make report CONFIG=...` asks it."""
    monkeypatch.chdir(repository)
    other = tmp_path / "other.yaml"
    other.write_text("shards: 2\n")
    tabs = tmp_path / "tabs.json"
    tabs.write_text('{\n\t"run": "mine"\n}\n')

    assert config_text.find_results("config.yaml") == "results"
    assert config_text.find_results("config.yaml", "configs/gpu.yaml", other) == "results/gpu"
    assert config_text.find_results("config.yaml", tabs) == "results/mine"


def test_a_question_that_is_not_answered_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text('models:\n  m:\n    # asked\n    config: "?"\n')

    with pytest.raises(ConfigError, match=r"mine\.yaml: line 4: models\.m\.config: a question"):
        config_text.check(file)
