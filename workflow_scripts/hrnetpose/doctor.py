"""Say what runs on this machine, and what to install or fix for the rest.

    python -m hrnetpose.doctor           as text
    python -m hrnetpose.doctor --json    the same for programs

The exit status is 1 if no engine can run here.  This file alone is written for Python 3.8, so that
an older Python, such as JetPack's, can say that it is one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parents[2]
"""The checkout, if the library lies in one."""
JETPACKS = {
    32: ("4", "8.2 or older", "3.6"),
    34: ("5", "8.4", "3.8"),
    35: ("5", "8.4 to 8.5", "3.8"),
    36: ("6", "8.6 to 10.3", "3.10"),
    38: ("7", "10.13", "3.12"),
}
"""Release of L4T -> JetPack, and the TensorRT and Python that it brings (its release notes)."""
_SECONDS = 120
"""For a package to be imported."""
_LOAD_SECONDS = 0.5


def examine() -> dict[str, Any]:
    """Return what was found, as JSON has it."""
    found: dict[str, Any] = {"schema": 1, "python": look_at_python(), "jetpack": read_jetpack()}
    found["packages"] = compare_packages()
    if found["python"]["reason"] or found["packages"]["missing"]:
        return dict(found, machine=None, backends=[], auto=None)
    from hrnetpose import engines

    backends = look_at_backends()
    ready = {one["backend"] for one in backends if one["runs"] and not one["options"]}
    auto = next((name for name in engines.AUTO if name in ready), None)
    return dict(found, machine=describe_machine(), backends=backends, auto=auto)


def look_at_python() -> dict[str, Any]:
    """Return which Python this is, and why it cannot be used."""
    wanted = ".".join(map(str, OLDEST))
    reason = None
    if sys.version_info < OLDEST:
        reason = f"too old; Python {wanted} or newer is needed, in an environment of its own"
    return {"version": platform.python_version(), "path": sys.executable, "reason": reason}


def read_jetpack(file: Path = Path("/etc/nv_tegra_release")) -> str | None:
    """Return what to know of NVIDIA's JetPack; None where there is none."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    match = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    if not match:
        return "JetPack of an unknown release"
    release = "L4T R{}.{}".format(*match.groups())
    if int(match[1]) not in JETPACKS:
        return f"JetPack of a release that is not known here ({release})"
    jetpack, tensorrt, python = JETPACKS[int(match[1])]
    return (
        f"JetPack {jetpack} ({release}): its TensorRT is {tensorrt}, its Python {python}; "
        "TensorRT's Python package is for that Python alone"
    )


def compare_packages(pins: Path = ROOT / "envs" / "requirements.txt") -> dict[str, Any]:
    """Return which packages of the environment are missing, or of other versions than tested."""
    from importlib import metadata

    missing: list[str] = []
    other: dict[str, str] = {}
    try:
        lines = pins.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []  # installed without its checkout
    for name, version in re.findall(r"^([\w.-]+)==(\S+)", "\n".join(lines), re.MULTILINE):
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if found.partition("+")[0] != version:  # +cpu, for example
            other[name] = f"{found}, tested with {version}"
    return {"missing": missing, "other": other}


def look_at_backends() -> list[dict[str, Any]]:
    """Return every backend, and every device that it has an option for."""
    from concurrent.futures import ThreadPoolExecutor

    from hrnetpose import engines

    rows: list[tuple[Any, dict[str, Any]]] = []
    for name in engines.BACKENDS:
        backend = engines.backend(name)
        rows.append((backend, {}))
        for key in ("device", "provider"):
            field = backend.options.model_fields.get(key)
            if field:
                others = [value for value in field.annotation.__args__ if value != field.default]
                rows += [(backend, {key: value}) for value in others]
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda row: look_at_backend(*row), rows))


def look_at_backend(backend: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return one of them: whether it can run, and if not what to do."""
    missing = backend.missing_packages()
    reason = None
    versions = {}
    if missing:
        reason = "{} is not installed; install it with {}".format(
            ", ".join(missing), backend.install
        )
    else:
        versions = backend.versions()
        try:
            reason = backend.unavailable_reason(backend.options(**options))
        except Exception as error:  # of a package that is not what it seems
            reason = f"it cannot be asked: {error}"
        reason = reason or import_error(backend.packages)
    return {
        "backend": backend.name,
        "options": options,
        "precisions": list(backend.graphs),
        "versions": versions,
        "runs": reason is None,
        "reason": reason,
    }


def import_error(packages: Any) -> str | None:
    """Return why packages cannot be imported, in a process of its own: None if they can."""
    program = "import " + ", ".join(packages)
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"`{program}` takes longer than {_SECONDS} s"
    if done.returncode == 0:
        return None
    said = done.stderr.decode(errors="replace").strip().splitlines()
    last = said[-1] if said else f"exit status {done.returncode}"
    return f"`{program}` fails: {last}"


def describe_machine() -> dict[str, Any]:
    """Return processors, memory, disk, the GPU, and what else is running."""
    import time

    import psutil

    from hrnetpose.engines import cuda
    from hrnetpose.speed import host, monitor, nvml

    with monitor.Monitor() as watched:
        time.sleep(_LOAD_SECONDS)
    about, gpu = host.describe(), cuda.find_gpu()
    watch = None if isinstance(gpu, str) else nvml.Watch().report()
    others = watched.report.others
    return {
        "os": about.os,
        "cpu": about.cpu,
        "features": about.features,
        "cores": about.cores,
        "quota_cores": monitor.quota_cores(),
        "others_cores": None if others is None else round(others / watched.report.seconds, 2),
        "memory_bytes": about.memory_bytes,
        "memory_free_bytes": psutil.virtual_memory().available,
        "disk_free_bytes": shutil.disk_usage(os.curdir).free,
        "gpu": None if isinstance(gpu, str) else str(gpu),
        "no_gpu": gpu if isinstance(gpu, str) else None,
        "gpu_others": watch.others if watch else None,
    }


def as_text(found: dict[str, Any]) -> str:
    """Return what was found for a terminal."""
    python, packages = found["python"], found["packages"]
    lines = ["Python {version}, {path}".format(**python)]
    if python["reason"]:
        lines.append("  {}".format(python["reason"]))
    if found["jetpack"]:
        lines.append(found["jetpack"])
    if packages["missing"]:
        lines.append("not installed: {}".format(", ".join(packages["missing"])))
        lines.append(
            "  make the environment with `make report`, or `pip install -r envs/requirements.txt`"
        )
    lines += [f"{name} {text}" for name, text in packages["other"].items()]
    if found["machine"]:
        lines += ["", *_describe(found["machine"]), "", _table(found["backends"])]
    if found["auto"]:
        lines += ["", "`backend: auto` is {}".format(found["auto"])]
    elif found["backends"]:
        lines += ["", "no engine can run here"]
    return "\n".join(lines) + "\n"


def _describe(machine: dict[str, Any]) -> list[str]:
    from hrnetpose.files import bytes_text

    quota, busy = machine["quota_cores"], machine["others_cores"]
    lines = [
        machine["os"],
        "{}: {} cores{} ({})".format(
            machine["cpu"],
            machine["cores"],
            f", a quota of {quota:g}" if quota else "",
            " ".join(machine["features"]) or "no vector units that are known here",
        ),
        "memory {}, {} free; disk {} free here".format(
            bytes_text(machine["memory_bytes"]),
            bytes_text(machine["memory_free_bytes"]),
            bytes_text(machine["disk_free_bytes"]),
        ),
        "GPU: {}".format(machine["gpu"] or machine["no_gpu"]),
    ]
    if busy is not None and busy >= 0.1:
        lines.append(f"other processes take {busy:.1f} cores now: benchmarks wait, or are INVALID")
    if machine["gpu_others"]:
        lines.append("{} other processes are on the GPU".format(machine["gpu_others"]))
    return lines


def _table(backends: list[dict[str, Any]]) -> str:
    from tabulate import tabulate

    rows = [
        (
            one["backend"] + "".join(", {}: {}".format(*item) for item in one["options"].items()),
            " ".join(one["versions"].values()),
            "yes" if one["runs"] else "no",
            " ".join(one["precisions"]) if one["runs"] else one["reason"],
        )
        for one in backends
    ]
    return str(
        tabulate(
            rows,
            ["backend", "version", "runs", "precisions, or what to do"],
            "simple",
            disable_numparse=True,
            maxcolwidths=[None, None, None, 76],
            break_on_hyphens=False,
        )
    )


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m hrnetpose.doctor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="JSON in place of text")
    as_json = parser.parse_args().json
    found = examine()
    print(json.dumps(found, indent=2) if as_json else as_text(found), end="\n" if as_json else "")
    sys.exit(not found["auto"])


if __name__ == "__main__":
    main()
