"""A stage's `main` takes what its command line gives, by name and by type."""

import argparse
import importlib
import inspect
from typing import Any, Literal, get_type_hints

import pytest
from pydantic import BaseModel

from hrnetpose.stage import Json
from support import SCRIPTS

HANDS_ON = {"bench_worker"}
"""Tools whose `main` hands flags on to the measurement that is asked for."""


def kinds(action: argparse.Action) -> list[Any]:
    """Return the types that fit what a flag gives; choices may also be told one by one."""
    convert = action.type or (bool if action.const is True else str)
    if isinstance(convert, Json):
        one = convert.kind
    elif isinstance(convert, type):
        one = convert
    else:
        one = get_type_hints(convert)["return"]
        owner = getattr(convert, "__self__", None)
        one = owner if isinstance(owner, type) and issubclass(owner, BaseModel) else one
    ones = [one, *([Literal[tuple(action.choices)]] if action.choices else [])]
    if action.nargs in ("*", "+"):
        ones = [list[kind] for kind in ones]  # type: ignore[valid-type]
    is_given = action.required or action.default is not None
    return ones if is_given else [kind | None for kind in ones]


@pytest.mark.parametrize("script", [path.stem for path in SCRIPTS])
def test_main_takes_what_the_parser_gives(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSE_REAL_DATA", raising=False)  # the default of a flag
    module = importlib.import_module(script)
    actions = {a.dest: a for a in module.parser()._actions if a.dest != "help"}
    parameters = inspect.signature(module.main).parameters
    named = {name for name, one in parameters.items() if one.kind is one.KEYWORD_ONLY}
    hints = get_type_hints(module.main)

    if script in HANDS_ON:
        assert named < actions.keys()
    else:
        assert named == parameters.keys() == actions.keys()
    for name in named:
        assert hints[name] in kinds(actions[name]), f"--{name.replace('_', '-')}"
        assert parameters[name].default is inspect.Parameter.empty, "the parser has the defaults"
