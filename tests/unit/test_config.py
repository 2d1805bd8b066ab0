"""A wrong configuration is refused with one line: the key, its value and what is allowed."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hrnetpose import config, engines
from hrnetpose.backend_rules import BackendRules
from hrnetpose.config import ConfigError
from hrnetpose.models import config_file

Raw = dict[str, Any]


@pytest.fixture(scope="module")
def rules() -> dict[str, BackendRules]:
    return engines.rules()


@pytest.fixture(scope="module")
def default(repository: Path) -> Raw:
    return yaml.safe_load((repository / "config.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def refused(default: Raw, rules: dict[str, BackendRules]) -> Callable[[str, Any], str]:
    """Set one key of the default configuration (`a.b.c`) and return what is said of it."""

    def refuse(key: str, value: Any) -> str:
        raw = copy.deepcopy(default)
        *parents, last = key.split(".")
        section = raw
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = value
        with pytest.raises(ConfigError) as error:
            config.load(raw, rules)
        assert "\n" not in str(error.value)
        return str(error.value)

    return refuse


def test_the_default_configuration_is_right(default: Raw, rules: dict[str, BackendRules]) -> None:
    loaded = config.load(default, rules)

    assert loaded.variants.keys() >= {"pytorch", "fp32", "fp16", "bf16", "int8"}
    assert set(loaded.model) <= set(loaded.models)
    assert loaded.dataset in loaded.datasets


def test_what_is_set_to_null_is_left_out(default: Raw, rules: dict[str, BackendRules]) -> None:
    raw = copy.deepcopy(default)
    raw["variants"]["int8"] = None
    raw["models"]["unwanted"] = None

    loaded = config.load(raw, rules)

    assert list(loaded.variants) == [name for name in default["variants"] if name != "int8"]
    assert "unwanted" not in loaded.models


def test_loading_leaves_the_raw_configuration_alone(
    default: Raw, rules: dict[str, BackendRules]
) -> None:
    raw = copy.deepcopy(default)
    raw["variants"]["int8"] = None
    before = copy.deepcopy(raw)

    config.load(raw, rules)

    assert raw == before


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("shard", "shard: unknown key (did you mean shards?); allowed: baseline, benchmark, crops"),
        ("variants.fp16.bach", "variants.fp16.bach: unknown key (did you mean batch?); allowed:"),
        ("benchmark.seconds", "benchmark.seconds: unknown key"),
        ("limits.ap_drops", "limits.ap_drops: unknown key (did you mean ap_drop?); allowed: ap,"),
        ("variants.fp16.limits.ms", "variants.fp16.limits.ms: unknown key"),
        (
            "datasets.sample.calibration.image",
            "datasets.sample.calibration.image: unknown key (did you mean images?); "
            "allowed: annotations, count, images",
        ),
        ("models.sample.weigths", "models.sample.weigths: unknown key (did you mean weights?)"),
        ("protocols.flips", "protocols.flips: unknown key (did you mean flip?); allowed: boxes, "),
    ],
)
def test_an_unknown_key_is_answered_with_the_known_ones(
    refused: Callable[[str, Any], str], key: str, says: str
) -> None:
    assert refused(key, 1).startswith(says)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("shards", "4", "shards: '4': input should be a valid integer (inside --config every"),
        (
            "limits", {"ap": "null"},
            "limits.ap: 'null': input should be a valid number, unable to parse string as a number "
            "(inside --config every value is a string",
        ),
        ("shards", 0, "shards: 0: input should be greater than or equal to 1"),
        ("shards", True, "shards: True: input should be a valid integer"),
        ("benchmark.min_seconds", -1.0, "benchmark.min_seconds: -1.0: input should be greater"),
        ("variants.fp16.batch", 2.5, "variants.fp16.batch: 2.5: input should be a valid integer"),
        ("variants.fp16", 3, "variants.fp16: 3: input should be a valid dictionary"),
        ("variants", [], "variants: []: input should be a valid dictionary"),
        ("variants", {"fp32": None}, "variants: {}: dictionary should have at least 1 item"),
        (f"variants.{'x' * 101}", {"backend": "auto", "precision": "fp32"}, "variants.xxx"),
        ("variants.a/b", {"backend": "auto", "precision": "fp32"}, "variants.a/b: 'a/b': string"),
        ("protocols.flip", [1], "protocols.flip.0: 1: input should be a valid boolean"),
        ("protocols.flip", [], "protocols.flip: []: list should have at least 1 item"),
        ("protocols.boxes", ["det?"], "protocols.boxes.0: 'det?' is not allowed; 'gt'"),
        ("models.sample.sha256", 12345678, "models.sample.sha256: 12345678: input should be a"),
        ("models.sample.sha256", "c78d", "models.sample.sha256: 'c78d': string should match"),
        ("models.sample.weights", "", "models.sample.weights.0: '': string should have at least"),
        ("models.new", {"config": "x"}, "models.new.weights: missing; this key is required"),
        ("models.sample.weights", 5, "models.sample.weights: 5: input should be a valid list"),
        ("models.sample.weights", [], "models.sample.weights: []: value should have at least"),
        ("datasets.sample.images", None, "datasets.sample.images: None: input should be a valid"),
        ("datasets.sample.calibration.count", 0, "datasets.sample.calibration.count: 0: input"),
        (
            "datasets.sample.images", {"source": "a", "sha256": "0123"},
            "datasets.sample.images.sha256: '0123': string should match pattern",
        ),
        (
            "datasets.sample.images", {"source": "a", "size": "9"},
            "datasets.sample.images.size: '9': input should be a valid integer",
        ),
        (
            "datasets.sample.detections", {"sorce": "a"},
            "datasets.sample.detections.source: missing; this key is required",
        ),
        (
            "datasets.sample.detections", {"source": "a", "sha": "0"},
            "datasets.sample.detections.sha: unknown key (did you mean sha256?); allowed: member",
        ),
        (
            "datasets.sample.calibration.annotations", {"source": "a", "membre": "0"},
            "datasets.sample.calibration.annotations.membre: unknown key (did you mean member?)",
        ),
        (
            "datasets.sample.images", {"source": "a.zip", "member": "b"},
            "datasets.sample.images.member: only annotations are taken out of a zip",
        ),
        (
            "models.sample.weights", ["a.pth", "ftp://host/a.pth"],
            "models.sample.weights: 'ftp://host/a.pth': files are fetched from http, https, file",
        ),
        (
            "models.sample.weights", "http://[a.pth",
            "models.sample.weights: 'http://[a.pth': Invalid IPv6 URL",
        ),
        (
            "datasets.sample.images", "s3://bucket/a.zip",
            "datasets.sample.images.source: 's3://bucket/a.zip': files are fetched from http",
        ),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_its_key(
    refused: Callable[[str, Any], str], key: str, value: object, says: str
) -> None:
    assert refused(key, value).startswith(says)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("model", "sampel", "model: 'sampel' is not defined (did you mean sample?); allowed: sam"),
        ("dataset", "coco", "dataset: 'coco' is not defined; allowed: sample"),
        ("variants.fp16.model", "simple", "variants.fp16.model: 'simple' is not defined (did you"),
        (
            "variants.fp16.backend",
            "openvno",
            "variants.fp16.backend: 'openvno' is not defined (did you mean openvino?); "
            "allowed: auto, igie, ",
        ),
        ("variants.fp16.precision", "fp4", "variants.fp16.precision: 'fp4' is not allowed; 'fp32'"),
    ],
)
def test_an_unknown_name_is_answered_with_the_known_ones(
    refused: Callable[[str, Any], str], key: str, value: str, says: str
) -> None:
    assert refused(key, value).startswith(says)


def test_a_precision_that_the_backend_lacks_is_refused(refused: Callable[[str, Any], str]) -> None:
    said = refused("variants.pytorch.precision", "int8")

    assert said.startswith("variants.pytorch.precision: backend pytorch has no int8; allowed: ")
    assert "fp32" in said.split("allowed: ")[1]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"stream": 2}, "options.stream: unknown key (did you mean streams?); allowed: str"),
        ({"streams": 0}, "options.streams: 0: input should be greater than or equal to 1"),
    ],
)
def test_an_option_that_the_backend_lacks_is_refused(
    refused: Callable[[str, Any], str], options: dict[str, int], says: str
) -> None:
    variant = {"backend": "openvino", "precision": "fp32", "options": options}

    assert refused("variants.mine", variant).startswith(f"variants.mine.{says}")


def test_options_need_a_backend_with_a_name(refused: Callable[[str, Any], str]) -> None:
    said = refused("variants.fp16.options", {"threads": 1})

    assert said.startswith("variants.fp16.options: `backend: auto` takes none")


def test_detected_boxes_need_a_file_of_them(refused: Callable[[str, Any], str]) -> None:
    said = refused("protocols.boxes", ["gt", "det"])

    assert said.startswith("protocols.boxes: det needs a detector's boxes, but datasets.sample has")


@pytest.mark.parametrize("crop", ["256", "256x", "0x192", "256x192-pad0", "256x192-pad1.2.3"])
def test_a_crop_of_no_size_is_refused(refused: Callable[[str, Any], str], crop: str) -> None:
    assert refused("models.sample.crop", crop).startswith(f"models.sample.crop: {crop!r} is not")


def test_the_coco_configuration_is_right(
    repository: Path, default: Raw, rules: dict[str, BackendRules]
) -> None:
    overlay = yaml.safe_load((repository / "configs/coco_val2017.yaml").read_text("utf-8"))
    raw = {**default, **overlay, "models": default["models"] | overlay["models"]}

    loaded = config.load(raw, rules)

    assert loaded.model == ["hrnet_w32_256x192"]
    assert loaded.datasets["coco_val2017"].images.size == 815_585_330


def zoo(repository: Path) -> Raw:
    overlay = yaml.safe_load((repository / "configs/coco_val2017.yaml").read_text("utf-8"))
    return overlay["models"]


def test_each_model_of_the_zoo_is_one_that_mmpose_publishes(repository: Path) -> None:
    """By the index in mmpose's own package, whose APs are of the same or an older checkpoint."""
    folder = config_file.find("td-hm_hrnet-w32_8xb64-210e_coco-256x192").parent
    published = {}
    for index in folder.glob("hrnet*_coco.yml"):
        for entry in yaml.safe_load(index.read_text("utf-8"))["Models"]:
            published[entry["Weights"]] = (entry["Name"], entry["Results"][0]["Metrics"]["AP"])
    models = zoo(repository)

    for name, model in models.items():
        if name == "hrnet_w32_256x192_2020":
            continue
        config_name, ap = published[model["weights"]]
        assert model["config"] == config_name
        assert model["published"]["AP"] == pytest.approx(ap, abs=0.0031)
    sizes = ("256x192", "384x288")
    kinds = ("hrnet_w32", "hrnet_w48")
    assert set(models) == {"hrnet_w32_256x192_2020"} | {
        f"{kind}{decoding}_{size}"
        for kind in kinds
        for decoding in ("", "_dark", "_udp")
        for size in sizes
    }


def test_the_hashes_of_the_zoo_are_those_of_the_file_names(repository: Path) -> None:
    for name, model in zoo(repository).items():
        assert re.search(rf"-{model['sha256']}_20\d{{6}}\.pth$", model["weights"]), name
        assert config_file.read_crop(config_file.find(model["config"])).udp == ("udp" in name)
        assert "256x192" in name or "384x288" in name
        assert model["published"]["protocol"] == "det+flip"
