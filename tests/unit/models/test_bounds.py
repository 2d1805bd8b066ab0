"""A number with some digits too many is refused before the memory is gone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hrnetpose.models import bounds, config_file, mmpose
from hrnetpose.stage import StageError
from support import refusal

Write = Callable[..., Path]
STAGE = "model.backbone.extra.stage"


def refuse(path: Path) -> str:
    text = refusal(lambda: mmpose.build_model(mmpose.read_config(str(path)), None))
    assert text.startswith(f"{path}: ")
    return text


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("1, num_branches=2", f"{10**30}, num_branches=2", f"{STAGE}2.num_modules is {10**30}"),
        ("(8, 16, 32)", f"[8, {2**63}, 32]", f"{STAGE}3.num_channels[1] is {2**63}"),
        ("in_channels=8", f"in_channels={10**999}", "model.head.in_channels is 1000000"),
        ("in_channels=3", "in_channels=1_000_001", "model.backbone.in_channels is 1000001"),
        (
            "heatmap_size=(8, 16)",
            f"heatmap_size=(8, {2**63})",
            "model.head.decoder.heatmap_size[1]",
        ),
    ],
    ids=lambda value: value[:40],
)
def test_a_number_that_no_network_has_is_refused_when_planned_and_when_read(
    write: Write, old: str, new: str, key: str
) -> None:
    path = write(replace={old: new})

    text = refuse(path)

    assert text.startswith(f"{path}: {key}")
    assert "expected at most 1,000,000" in text
    assert refusal(config_file.check, path) == text


def test_mmposes_own_numbers_are_taken() -> None:
    configs = config_file.find("td-hm_hrnet-w32_8xb64-210e_coco-256x192").parents[3]
    paths = sorted(configs.rglob("topdown_heatmap/*/td-hm_*.py"))
    refusals = []
    for path in paths:
        try:
            config_file.check(path)
        except StageError as error:
            refusals.append(str(error))
    assert len(paths) > 200
    assert all("_evaluator" in text for text in refusals), refusals  # a metric that is not COCO's


def test_the_model_with_the_most_layers_is_built() -> None:
    assert mmpose.build_model(mmpose.read_config("td-hm_3xrsn50_8xb32-210e_coco-256x192"), None)


@pytest.mark.parametrize(
    ("bound", "value", "old", "new", "blamed"),
    [
        ("LAYERS", 3000, "1, num_branches=2", "700, num_branches=2", f"{STAGE}2.num_modules, 700"),
        ("PARAMETERS", 10**6, "(8, 16, 32)", "(8, 16, 900)", f"{STAGE}3.num_channels[2], 900"),
    ],
)
def test_a_product_of_moderate_numbers_is_stopped_while_it_is_built(
    write: Write, monkeypatch: pytest.MonkeyPatch,
    bound: str, value: int, old: str, new: str, blamed: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(bounds, bound, value)

    text = refuse(write(replace={old: new}))

    assert f"the model has more than {value:,} {bound.lower()}" in text
    assert f"the largest number in its config is {blamed}" in text


def test_each_model_is_counted_by_itself(
    read: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = mmpose.build_model(read(), None)
    monkeypatch.setattr(bounds, "PARAMETERS", sum(p.numel() for p in model.parameters()))

    for _ in range(2):
        assert mmpose.build_model(read(), None)


def test_a_layer_that_does_not_fit_into_the_memory_is_blamed(write: Write) -> None:
    text = refuse(write(replace={"num_channels=(16,)": "num_channels=(1_000_000,)"}))

    assert f"the largest number in its config is {STAGE}1.num_channels[0], 1,000,000" in text
