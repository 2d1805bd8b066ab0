"""The doctor says what runs here, and what to do about the rest."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hrnetpose import doctor, engines
from hrnetpose.backend_rules import Options
from hrnetpose.engines.plugin import Backend


@pytest.fixture(scope="module")
def found() -> dict[str, object]:
    """What the command says as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "hrnetpose.doctor", "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return {"status": done.returncode, **json.loads(done.stdout)}


def test_every_backend_has_a_row_and_what_cannot_run_has_a_remedy(found: dict) -> None:
    rows = {(one["backend"], *one["options"].values()): one for one in found["backends"]}

    assert {name for name, *_ in rows} == set(engines.BACKENDS)
    assert {("pytorch", "cuda"), ("onnxruntime", "cuda"), ("onnxruntime", "tensorrt")} <= set(rows)
    assert rows["openvino",]["runs"]
    assert rows["openvino",]["versions"]["openvino"]
    for one in found["backends"]:
        assert one["runs"] == (one["reason"] is None)
    assert found["auto"] == engines.resolve("auto")
    assert found["status"] == 0


def test_the_text_says_the_same(found: dict) -> None:
    text = doctor.as_text(found)

    assert f"`backend: auto` is {found['auto']}" in text
    for one in found["backends"]:
        assert f"\n{one['backend']}" in text
    machine = found["machine"]
    assert f"{machine['cores']} cores" in text
    assert machine["memory_free_bytes"] <= machine["memory_bytes"]


def backend(package: str, **options: object) -> Backend:
    return Backend(
        name="paper", graphs={"fp32": "fp32"}, packages=(package,), options=Options,
        build=None, open=None, device=None, install="a shop", **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("package", "content", "reason"),
    [
        ("missing_here", None, "missing_here is not installed; install it with a shop"),
        ("broken_here", "import ctypes; ctypes.CDLL('libnone.so')", "`import broken_here` fails: "),
        ("whole_here", "__version__ = '3'", None),
    ],
)
def test_a_package_that_is_missing_or_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, content: str, reason: str
) -> None:
    if content:
        (tmp_path / f"{package}.py").write_text(content)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("hrnetpose.engines.plugin.version", lambda name: "3")

    one = doctor.look_at_backend(backend(package), {})

    assert (one["reason"] or "").startswith(reason or "")
    assert one["runs"] == (reason is None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("# R35 (release), REVISION: 4.1, GCID: 1", "JetPack 5 (L4T R35.4.1): its TensorRT is 8.4"),
        ("# R36 (release), REVISION: 4.0, GCID: 1", "JetPack 6 (L4T R36.4.0): its TensorRT is 8.6"),
        ("# R99 (release), REVISION: 1.0, GCID: 1", "JetPack of a release that is not known here"),
    ],
)
def test_jetpack_is_named_as_what_it_is(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "nv_tegra_release"
    file.write_text(text)

    assert doctor.read_jetpack(file).startswith(says)
    assert doctor.read_jetpack(tmp_path / "none") is None


def test_packages_are_compared_with_those_that_were_tested(tmp_path: Path) -> None:
    pins = tmp_path / "requirements.txt"
    pins.write_text("# pins\nno-such-package==1.0\nnumpy==0.1\npip==0\n")

    compared = doctor.compare_packages(pins)

    assert compared["missing"] == ["no-such-package"]
    assert compared["other"]["numpy"].endswith(", tested with 0.1")


def test_an_old_python_is_told_that_it_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as a newer one can show it: the file is one that it could read."""
    ast.parse(Path(doctor.__file__).read_text(encoding="utf-8"), feature_version=(3, 8))
    monkeypatch.setattr(sys, "version_info", (3, 8, 10))

    found = doctor.examine()

    assert found["auto"] is None
    assert "too old; Python 3.11 or newer is needed" in doctor.as_text(found)
