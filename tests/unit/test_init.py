"""An overlay for one's own model and data works; what is wrong with them ends it in one line."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import yaml

from hrnetpose import config_text, init
from hrnetpose.config import ConfigError
from hrnetpose.resolve import resolve
from support import TINY_CONFIG, refusal


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of drawn people, and their annotations."""
    folder = tmp_path_factory.mktemp("drawn")
    import draw_sample

    draw_sample.main(
        split="val", images=4, archive=folder / "val.zip", annotations=folder / "val.json"
    )
    return folder


@pytest.fixture
def given(drawn: Path, tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a checkpoint, its config and data, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    for name in ("val.zip", "val.json"):
        shutil.copy(drawn / name, tmp_path / name)
    Path("tiny.py").write_text(TINY_CONFIG)
    torch.save({"state_dict": {"w": torch.zeros(1)}}, "tiny.pth")
    return tmp_path


def run(**changes: Any) -> dict[str, Any]:
    """Run the command and return the overlay that it wrote."""
    flags = {
        "model": "tiny.pth", "config": None, "images": Path("val.zip"),
        "annotations": Path("val.json"), "category": None, "detector": None,
        "output": Path("mine.yaml"),
    } | changes  # fmt: skip
    init.main(**flags)
    return yaml.safe_load(flags["output"].read_text(encoding="utf-8"))


def planned(overlay: dict[str, Any], repository: Path) -> Any:
    """Resolve an overlay as a plan does."""
    config_text.check("mine.yaml")
    raw = yaml.safe_load((repository / "config.yaml").read_text(encoding="utf-8"))
    for key, value in overlay.items():
        merged = isinstance(value, dict) and isinstance(raw.get(key), dict)
        raw[key] = {**raw[key], **value} if merged else value
    return resolve(config_text.locate(raw, repository), "openvino")


def test_a_config_of_the_same_name_is_found_and_the_overlay_is_planned(
    given: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overlay = run()
    made = planned(overlay, repository)

    assert made.config.run == "mine"
    assert made.models["tiny"].section.config == "tiny.py"
    assert set(made.variants) == {"pytorch", "fp32", "fp16", "bf16"}
    assert "# beside the checkpoint, of the same name" in Path("mine.yaml").read_text()
    printed = capsys.readouterr().out
    assert printed.startswith("4 images, 4 of them with persons\n")
    assert "# 4 images, 4 of them with persons" in Path("mine.yaml").read_text()


def test_a_config_that_is_saved_in_the_checkpoint_is_written_and_not_run(
    given: Path, repository: Path
) -> None:
    Path("tiny.py").unlink()
    text = f"{TINY_CONFIG}\nopen('executed', 'w')\n"
    torch.save({"meta": {"cfg": text}, "state_dict": {"w": torch.zeros(1)}}, "tiny.pth")

    overlay = run()

    assert planned(overlay, repository).models["tiny"].section.config == "mine_config.py"
    assert Path("mine_config.py").read_text() == text
    assert not Path("executed").exists()


def test_of_what_is_refused_no_config_is_left(given: Path, repository: Path) -> None:
    Path("tiny.py").unlink()
    torch.save({"meta": {"cfg": TINY_CONFIG}, "state_dict": {"w": torch.zeros(1)}}, "tiny.pth")
    Path("no.json").write_text('{"images": [], "annotations": []}')

    assert "no annotation has `keypoints`" in refusal(lambda: run(annotations=Path("no.json")))
    assert planned(run(), repository).models["tiny"].section.config == "mine_config.py"
    Path("mine.yaml").unlink()
    assert "mine_config.py: is there already" in refusal(run)
    assert Path("mine_config.py").read_text() == TINY_CONFIG


def test_a_published_checkpoint_is_known_by_its_name(given: Path, repository: Path) -> None:
    name = "td-hm_hrnet-w32_8xb64-210e_coco-256x192"
    url = f"https://download.openmmlab.com/mmpose/v1/{name}-81c58e40_20220909.pth"

    (model,) = run(model=url)["models"].values()

    assert model == {"config": name, "weights": url, "sha256": "81c58e40"}


def test_what_could_not_be_told_is_a_question_that_is_refused(
    given: Path, repository: Path
) -> None:
    Path("tiny.py").rename("other.py")

    overlay = run()

    line = Path("mine.yaml").read_text().splitlines().index('    config: "?"') + 1
    with pytest.raises(ConfigError) as error:
        planned(overlay, repository)
    assert str(error.value).startswith(
        f"mine.yaml: line {line}: models.tiny.config: a question that is not answered yet"
    )
    assert "# QUESTION: which mmpose config" in Path("mine.yaml").read_text()


@pytest.mark.parametrize("name", ["2024", "pytorch", "a b: [c]", "-"])
def test_names_that_yaml_or_the_default_would_take_otherwise(
    given: Path, repository: Path, name: str
) -> None:
    Path("tiny.pth").rename(f"{name}.pth")

    overlay = run(model=f"{name}.pth", config="tiny.py")

    assert planned(overlay, repository).config.models[overlay["model"]].weights == [f"{name}.pth"]


def test_a_detector_asks_for_what_its_pipeline_does_not_say(given: Path) -> None:
    Path("d.onnx").write_bytes(b"a graph")
    run(detector=Path("d.onnx"))
    assert "# QUESTION: is it `rtmdet` or `yolox`" in Path("mine.yaml").read_text()

    Path("pipeline.json").write_text("{}")
    overlay = run(detector=Path("d.onnx"), output=Path("other.yaml"))

    (dataset,) = overlay["datasets"].values()
    assert dataset["detector"] == {"onnx": "d.onnx", "card": {"pipeline": "pipeline.json"}}
    assert overlay["protocols"]["boxes"] == ["gt", "det"]


def test_an_onnx_file_asks_for_what_it_does_not_say(
    given: Path, tiny: Path, repository: Path
) -> None:
    model = onnx.load(tiny / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, "m.onnx")

    overlay = run(model="m.onnx")

    card = {
        "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375],
        "channel_order": "RGB", "codec": {"type": "MSRAHeatmap"}, "keypoints": "coco",
    }  # fmt: skip
    assert overlay["models"]["m"]["card"] == dict.fromkeys(card, "?")
    assert "# takes input float32 [?, 3, 64, 32]" in Path("mine.yaml").read_text()
    overlay["models"]["m"]["card"] = card
    Path("mine.yaml").write_text(yaml.safe_dump(overlay))
    assert planned(overlay, repository).models["m"].crop == "64x32"


def test_a_file_that_is_there_is_not_written_over(given: Path) -> None:
    Path("mine.yaml").write_text("mine\n")

    assert "mine.yaml: is there already" in refusal(run)
    assert Path("mine.yaml").read_text() == "mine\n"


def without_image(content: dict[str, Any]) -> None:
    content["images"][1]["file_name"] = "gone.jpg"


def of_other_size(content: dict[str, Any]) -> None:
    image = content["images"][1]
    image["width"], image["height"] = image["height"] + 40, image["width"]


def of_13_keypoints(content: dict[str, Any]) -> None:
    for person in content["annotations"]:
        person["keypoints"] = person["keypoints"][:39]
    content["categories"][0]["keypoints"] = content["categories"][0]["keypoints"][:13]


def with_an_id_twice(content: dict[str, Any]) -> None:
    content["annotations"][1]["id"] = content["annotations"][0]["id"]


def of_boxes_alone(content: dict[str, Any]) -> None:
    for person in content["annotations"]:
        del person["keypoints"]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (without_image, "holds no image gone.jpg"),
        (of_other_size, "but its annotation says"),
        (of_13_keypoints, "13 keypoints"),
        (with_an_id_twice, "the id is there twice; give each annotation its own"),
        (of_boxes_alone, "no annotation has `keypoints`"),
    ],
)
def test_damaged_data_ends_in_the_right_complaint(given: Path, damage: Any, says: str) -> None:
    content = json.loads(Path("val.json").read_text())
    damage(content)
    Path("val.json").write_text(json.dumps(content))

    assert says in refusal(run)
    assert not Path("mine.yaml").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "gone.pth"}, "gone.pth: there is no such file"),
        ({"images": Path("gone")}, "gone: there is no such file"),
        ({"model": "val.json"}, "val.json: JSON; expected a checkpoint"),
        (
            {"model": "https://host/m.onnx"},
            "https://host/m.onnx: what is in it must be seen",
        ),
        ({"config": "td-hm_hrnet-w99"}, "td-hm_hrnet-w99: mmpose has no config of that name"),
    ],
)
def test_what_is_no_model_or_data_is_refused(
    given: Path, changes: dict[str, Any], says: str
) -> None:
    assert says in refusal(lambda: run(**changes))


@pytest.mark.parametrize("is_here", [False, True])
def test_the_command_to_go_on_with_can_be_copied(
    given: Path, repository: Path, capsys: pytest.CaptureFixture[str], is_here: bool
) -> None:
    if is_here:
        Path("Snakefile").touch()
    run(config="?", output=Path("my people.yaml"))

    where = "" if is_here else f"--snakefile {shlex.quote(str(repository / 'Snakefile'))} "
    command = f"snakemake --cores 4 report {where}--configfile 'my people.yaml'"
    assert capsys.readouterr().out.endswith(f"for you to answer: 1; then:\n{command}\n")
    assert f"#     {command}\n" in Path("my people.yaml").read_text()


def test_the_command_prints_one_line(given: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hrnetpose.init", "--model", "gone.pth", "--images", "val.zip",
         "--annotations", "val.json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert done.stderr == "init: error: gone.pth: there is no such file; correct the path\n"


def test_make_hands_names_over_as_they_are(repository: Path, tmp_path: Path) -> None:
    """`make init` puts no shell command together from them."""
    (tmp_path / "run.stamp").touch()
    python = tmp_path / "bin/python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)

    done = subprocess.run(
        ["make", "--no-print-directory", "init", f"VENV={tmp_path}",
         'MODEL=the "best" `one`.pth', "IMAGES=a folder"],
        cwd=repository, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout.splitlines()[-4:] == [
        "--model", 'the "best" `one`.pth', "--images", "a folder",
    ]  # fmt: skip
