"""Names as a pattern, which rules have for a wildcard."""

import re

from hrnetpose.layout import any_of


def test_names_in_a_pattern_match_themselves_only() -> None:
    pattern = re.compile(any_of(["fp16", "fp16.b", "a+b"]))

    assert [name for name in ("fp16", "fp16.b", "a+b") if pattern.fullmatch(name)] == [
        "fp16", "fp16.b", "a+b",
    ]  # fmt: skip
    assert not pattern.fullmatch("fp16xb")
    assert not pattern.fullmatch("aab")
