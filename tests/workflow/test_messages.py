"""The messages that docs/troubleshooting.md explains are those that the code has."""

import ast
import re
from collections.abc import Iterator

from support import ROOT


def texts_in(source: str) -> Iterator[str]:
    """Yield all texts of a Python file; what is put into them is `...`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            parts = [v.value if isinstance(v, ast.Constant) else "..." for v in node.values]
            yield "".join(map(str, parts))


def test_every_message_is_one_of_the_code() -> None:
    known = "\n".join(
        text
        for path in sorted(ROOT.glob("workflow_scripts/**/*.py"))
        for text in texts_in(path.read_text(encoding="utf-8"))
    )
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)

    assert len(messages) > 15
    unknown = [
        message
        for message in messages
        if not all(part in known for part in re.split(r" ?\.\.\.,? ?", message) if part)
    ]
    assert unknown == []
