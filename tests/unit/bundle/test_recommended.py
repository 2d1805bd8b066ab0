"""What `make bundle` bundles."""

from pathlib import Path

import pytest

from hrnetpose.artifacts.verdicts import Recommendation, Verdicts
from hrnetpose.bundle import recommended
from support import refusal


def write(folder: Path, *variants: str | None) -> None:
    found = [
        Recommendation(
            models=["mine"], variant=variant, text=f"Ship {variant}.", nearest=None, alike=[],
            outside=[],
        )
        for variant in variants
    ]  # fmt: skip
    Verdicts(verdicts=[], recommendations=found).write(folder / "verdicts.json")


def test_the_recommended_variants_are_bundled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "fp16", "other_int8")
    recommended.main(results=tmp_path)
    assert capsys.readouterr().out.split() == [
        f"{tmp_path}/bundles/fp16.zip",
        f"{tmp_path}/bundles/other_int8.zip",
    ]


def test_where_nothing_is_recommended_it_says_so(tmp_path: Path) -> None:
    write(tmp_path, "fp16", None)
    text = refusal(recommended.main, results=tmp_path)
    assert text.startswith("Ship None. Bundle one by its name: snakemake --cores 4 ")
