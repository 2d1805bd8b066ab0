"""The report of a run in which jobs failed: made from what is there, and only then.

Takes: what was measured, and the logs of what failed.
Makes: the run's report.html and summary.txt, which the next run makes again.
"""

import json
import subprocess

# Also without a profile.  In a module of another workflow that one decides, here and in `onerror`.
if workflow.is_main_process and workflow.modifier.is_main_snakefile():
    if workflow.execution_settings:
        workflow.execution_settings.keep_going = True


def is_there(file, made_by):
    """Returns True if a file is up to date: old figures are no figures."""
    job = made_by.get(file)
    return os.path.exists(file) and (
        job is None or workflow.dag.noneedrun_finished(job)
    )


def find_failed(job, failed):
    """Returns the job that failed, of a job that was not run and those that it waits for."""
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
    """Returns a part of a variant that is missing, and the stage that failed, for the report."""
    found = find_failed(job, failed)
    log = str(found.log[0]) if found and found.log else None
    return {"part": part, "stage": (found or job).rule.name, "log": log}


def report_what_is_there(job, failed):
    """Makes the report of a job that was not run, as its rule does, from the inputs that exist."""
    made_by = {
        file: producer
        for producer, files in workflow.dag.dependencies[job].items()
        for file in files
    }
    failures = {variant: [] for variant in VARIANTS}
    for name, part in {
        "engines": "engine",
        "accuracy": "accuracy",
        "perf": "speed",
        "parity": "parity",
    }.items():
        for file in job.input[name]:
            if not is_there(file, made_by):
                failure = describe_failure(part, made_by[file], failed)
                failures[made_by[file].wildcards.variant].append(failure)
    variants = [
        {
            "name": variant,
            "model": PLAN.model(variant),
            "backend": PLAN.backends[variant],
            "precision": PLAN.variant(variant).precision,
            "failures": failures[variant],
        }
        for variant in VARIANTS
    ]
    command = [sys.executable, job.input.code[0], "--variants", json.dumps(variants)]
    for name in (
        "engines",
        "perf",
        "accuracy",
        "parity",
        "models",
        "annotations",
        "audits",
        "persons",
        "images",
        "predictions",
    ):
        given = job.input[name]
        files = [given] if isinstance(given, str) else given
        there = [file for file in files if is_there(file, made_by)]
        # Engines and models are named by their folders.
        folders = name in ("engines", "models")
        command += option(
            f"--{name}", [Path(file).parent if folders else file for file in there]
        )
    command += ["--dataset", job.params.dataset, "--published", job.params.published]
    command += ["--log", job.log[0]]
    command += ["--output", job.output.page, "--summary", job.output.summary]
    if subprocess.run(command).returncode:
        return
    # Nothing is known of these files, and all that they are made from is newer: the next run makes
    # them again, also if what failed is no longer asked for.
    oldest = min(os.stat(file).st_mtime for file in job.input if os.path.exists(file))
    for file in job.output:
        workflow.persistence.cleanup_metadata(file)
        os.utime(file, (oldest - 1, oldest - 1))
    print(
        "", Path(job.output.summary).read_text(), f"report: {job.output.page}", sep="\n"
    )


onerror:
    failed = {
        job
        for entry in workflow.scheduler.failed
        for job in getattr(entry, "jobs", [entry])
    }
    for job in list(workflow.dag.needrun_jobs()):
        # None failed: somebody stopped the run.
        if job.rule.name == "write_report" and failed and job not in failed:
            report_what_is_there(job, failed)
