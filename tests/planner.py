"""Runs of Snakemake by the dozen: a process that has Snakemake loaded forks for each of them.

What runs in the fork is the `snakemake` command itself, on its command line; what is saved is the
second that Python takes to import it.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SERVER = """
import json, os, sys
import snakemake.cli
for line in sys.stdin:
    request = json.loads(line)
    child = os.fork()
    if child == 0:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            del os.environ[name]
        os.chdir(request["folder"])
        sys.path[:0] = request["path"]
        output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        try:
            snakemake.cli.main(request["arguments"])
        except SystemExit as exit:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(exit.code or 0)
        os._exit(1)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Job:
    """A job that would run."""

    rule: str
    wildcards: tuple[tuple[str, str], ...]

    def __getitem__(self, wildcard: str) -> str:
        return dict(self.wildcards).get(wildcard, "")


class Planner:
    """Runs Snakemake again and again; to be used in a `with` statement."""

    def __init__(self, scratch: Path) -> None:
        self.output = scratch / "planned.txt"

    def __enter__(self) -> "Planner":
        # No thread pools: what forks must have one thread only.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._server.stdin
        self._server.stdin.close()
        self._server.wait()

    def start(self, folder: Path, *arguments: str, path: Sequence[Path] = ()) -> int:
        """Start the command and return its process id; `finish` waits for it.

        Args:
            folder: where to run it.
            arguments: its command line.
            path: folders in which packages are looked for first.
        """
        request = {
            "folder": str(folder),
            "arguments": ["--cores", "2", *arguments],
            "output": str(self.output),
            "path": [str(entry) for entry in path],
        }
        # A stage that lost its Snakemake may still write into the file of the run before, and a run
        # may be killed before it has one.
        self.output.unlink(missing_ok=True)
        self.output.touch()
        assert self._server.stdin
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return self._answer()

    def finish(self) -> tuple[int, str]:
        """Return the command's exit status and what it printed."""
        return self._answer(), self.output.read_text()

    def snakemake(
        self, folder: Path, *arguments: str, path: Sequence[Path] = ()
    ) -> tuple[int, str]:
        """Run the command; return its exit status and what it printed."""
        self.start(folder, *arguments, path=path)
        return self.finish()

    def _answer(self) -> int:
        assert self._server.stdout
        return int(self._server.stdout.readline())

    def jobs(self, folder: Path, *arguments: str, path: Sequence[Path] = ()) -> set[Job]:
        """Return the jobs that would run, target rules left out."""
        status, printed = self.snakemake(folder, "--dry-run", *arguments, path=path)
        assert status == 0, printed
        return jobs_in(printed)


def jobs_in(printed: str) -> set[Job]:
    """Read the jobs in what a dry run printed."""
    return {job for job, _ in inputs_in(printed)}


def inputs_in(printed: str) -> Iterator[tuple[Job, list[str]]]:
    """Read the jobs in what a dry run printed, with the files that they take."""
    # With or without a blank line, or the shell command, between two jobs.
    for block in re.split(r"\n\n|\n(?=\[)", printed):
        lines = [line.strip() for line in block.splitlines() if line and line[0] != "["]
        if lines and lines[0].startswith(("rule ", "localrule ")):
            rule = lines[0].split()[1].rstrip(":")
            listed = dict(line.partition(": ")[::2] for line in lines[1:])
            pairs = [pair.partition("=") for pair in listed.get("wildcards", "").split(", ")]
            wildcards = tuple(sorted((name, value) for name, _, value in pairs if name))
            if rule not in ("report", "gate"):
                yield Job(rule, wildcards), listed.get("input", "").split(", ")


def fabricate(planner: Planner, folder: Path, *arguments: str) -> None:
    """Make a project look finished: all outputs exist, with the records of having been made.

    `snakemake --touch` writes the records that a run writes.  What the files hold does not matter
    for what is stale.
    """
    status, printed = planner.snakemake(folder, "--summary", *arguments)
    assert status == 0, printed
    for line in printed.splitlines():
        name, tab, _ = line.partition("\t")
        if tab and name != "output_file":
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"stands for {name}\n")
    status, printed = planner.snakemake(folder, "--touch", "--forceall", *arguments)
    assert status == 0, printed
