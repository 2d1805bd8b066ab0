"""The report of a run in which jobs failed: made from what is there, and only then.

Takes: what was measured, and the logs of what failed.
Makes: what the report's rule makes, which the next run makes again.
"""

import json
import re
import shlex
import subprocess

PARTS = {
    "engines": "engine",
    "accuracy": "accuracy",
    "perf": "speed",
    "parity": "parity",
}
"""What a row is made of: the report's input, and its name for the user."""
FLAGS = [
    *PARTS,
    *"samples models annotations audits persons images predictions baseline".split(),
]
"""Inputs of the report that its script has a flag for, of the same name."""


REPORT_FILES = {
    "output": "page",
    "summary": "summary",
    "markdown": "markdown",
    "table": "table",
    "verdicts": "verdicts",
}
"""Flag of the report's script -> its output."""


def is_there(file, made_by):
    """Return True if a file is up to date: old figures are no figures."""
    if file in made_by:
        return workflow.dag.noneedrun_finished(made_by[file])
    return os.path.exists(file)


def find_failed(job, failed):
    """Return the job that failed, of one that was not run and all that it waits for."""
    waiting, seen = [job], set()
    while waiting:
        job = waiting.pop(0)
        if job in failed:
            return job
        if job not in seen and not workflow.dag.noneedrun_finished(job):
            seen.add(job)
            waiting += sorted(workflow.dag.dependencies[job], key=str)
    return None


def describe_failure(part, job, failed):
    """Return a part of a variant that is missing, and the stage that failed, for the report."""
    found = find_failed(job, failed)
    if found is None:
        return {"part": part}
    return {"part": part, "stage": found.rule.name, "log": str(found.log[0])}


def rows_asked_for(made_by, job, failed):
    """Return all variants, and what failed of them, for the report."""
    failures = {name: [] for name in RUN.variants}
    for name, part in PARTS.items():
        for file in job.input[name]:
            if not is_there(file, made_by):
                failure = describe_failure(part, made_by[file], failed)
                failures[made_by[file].wildcards.variant].append(failure)
    return [
        {
            "name": name,
            "model": variant.model.name,
            "backend": variant.backend,
            "precision": variant.precision,
            "failures": failures[name],
        }
        for name, variant in RUN.variants.items()
    ]


def report_what_is_there(job, failed):
    """Make the report of a job that was not run, as its rule does, from the inputs that exist."""
    made_by = {
        file: producer
        for producer, made in workflow.dag.dependencies[job].items()
        for file in made
    }
    python = sys.executable
    if HAS_CONDA:
        python = Path(job.conda_env.address, "bin/python")
    command = [python, job.input.code[0]]
    command += ["--variants", json.dumps(rows_asked_for(made_by, job, failed))]
    for name in FLAGS:
        given = job.input[name]
        given = [given] if isinstance(given, str) else given
        there = [Path(file) for file in given if is_there(file, made_by)]
        if name in ("engines", "models"):  # they are named by their folders
            there = [card.parent for card in there]
        command += option(f"--{name}", there)
    command += ["--dataset", job.params.dataset, "--published", job.params.published]
    command += ["--limits", job.params.limits, "--own-limits", job.params.own_limits]
    command += [*job.params.run, "--made", job.params.made, "--log", job.log[0]]
    for flag, file in REPORT_FILES.items():
        command += [f"--{flag}", getattr(job.output, file)]
    # The next run makes these files again, also if what failed is no longer asked for.
    workflow.persistence.started(job)
    if subprocess.run(command).returncode:
        return
    print(
        "", Path(job.output.summary).read_text(), f"report: {job.output.page}", sep="\n"
    )


def write_made():
    """Leave what Snakemake was started with, for the report; passwords of addresses are left out."""
    made = Path(LAYOUT.made)
    made.parent.mkdir(parents=True, exist_ok=True)
    told = {
        "command": shlex.join(["snakemake", *sys.argv[1:]]),
        "configuration": RUN.config.model_dump(mode="json"),
    }
    text = re.sub(r"//[^/@\s\"]*@", "//***@", json.dumps(told, ensure_ascii=False))
    made.write_text(text, encoding="utf-8")


# In a module of another workflow that one decides: Snakemake leaves its own hooks in place.
onstart:
    write_made()
    # Snakemake limits how many jobs start in a second, and looks once more a second later, for each
    # job that ended, as long as others wait: a tenth of a core or more, beside the benchmarks.  On
    # one machine there is nothing to limit.
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None
    # A job whose turn does not come, since another fails or the run is killed, leaves its old
    # output.  Where what that was made from is gone by then, the next run would find nothing to do.
    for job in workflow.dag.needrun_jobs():
        if any(os.path.exists(file) for file in job.output):
            workflow.persistence.started(job)


onerror:
    failed = {
        job
        for entry in workflow.scheduler.failed
        for job in getattr(entry, "jobs", [entry])
    }
    for job in list(workflow.dag.needrun_jobs()):
        # None failed: somebody stopped the run.
        if job.rule.name != "write_report" or not failed or job in failed:
            continue
        if any(file.is_storage for file in job.input):
            logger.warning("no report: what is there is in a storage, and not here")
        else:
            report_what_is_there(job, failed)
