"""Helpers only: the checked configuration, and the files that rules take.

Takes: config.yaml and overlays.  Makes: nothing.
"""

import os
import sys

sys.path.insert(0, str(Path(workflow.basedir) / "workflow_scripts"))

from hrnetpose import engines, plan
from hrnetpose.config import ConfigError
from hrnetpose.stage import StageError
from snakemake.exceptions import WorkflowError

plan.prefer_own_python()
try:
    PLAN = plan.make(config, engines.rules(), engines.resolve)
except (ConfigError, StageError) as error:
    raise WorkflowError(f"configuration: {error}")


VARIANTS = list(PLAN.config.variants)
SCORED = [variant for variant in VARIANTS if PLAN.trained(variant)]
SCRIPTS = Path(os.path.relpath(Path(workflow.basedir) / "workflow_scripts"))


def library(path):
    """Returns a file of the library."""
    return str(SCRIPTS / path)


def code(script, *modules):
    """Returns a script, then the library files that it imports: a stage is made from them too."""
    return plan.imported_files(SCRIPTS, script, modules)


def engine_code(script):
    """Returns the same for a script that opens the engine of a variant."""
    return lambda wildcards: code(
        script, f"hrnetpose.engines.{PLAN.backends[wildcards.variant]}"
    )


def engine_environment(wildcards):
    """Returns the conda environment of a variant's backend."""
    name = "mmpose" if PLAN.backends[wildcards.variant] == "pytorch" else "engines"
    return f"../envs/{name}.yaml"


def option(flag, value):
    """Returns a flag and its value for a command line; nothing if there is no value."""
    return [flag, str(value)] if value else []


def calibration_crops(wildcards):
    """Returns the crops that an int8 graph is calibrated on; other graphs need none."""
    if wildcards.precision != "int8":
        return []
    folder = f"build/datasets/{PLAN.config.dataset}/{PLAN.crops[wildcards.model]}"
    return f"{folder}/calibration/crops_1-of-1.npy"


def crops(subset, scatteritem="1-of-1", kind="crops", suffix="npy"):
    """Returns the crops that a variant's model takes."""
    folder = f"build/datasets/{PLAN.config.dataset}"
    file = f"{subset}/{kind}_{scatteritem}.{suffix}"
    return lambda wildcards: f"{folder}/{PLAN.crop(wildcards.variant)}/{file}"


def source(path_or_url):
    """Returns the file that a copy is made of; a URL is none."""
    return [] if plan.is_url(path_or_url) else path_or_url


def original_weights(wildcards):
    """Returns the checkpoint for PyTorch, the one backend that runs the original model."""
    if PLAN.backends[wildcards.variant] != "pytorch":
        return []
    return PLAN.weights(PLAN.model(wildcards.variant)) or []


def reference_accuracy(wildcards):
    """Returns the accuracy that a variant's is compared with; the reference has none."""
    reference = PLAN.reference(wildcards.variant)
    return f"results/{reference}_accuracy.json" if reference else []


def scored_instances(wildcards):
    """Returns which person is which: the same for all variants, whatever their crops."""
    if not SCORED:
        return []
    folder = f"build/datasets/{PLAN.config.dataset}/{PLAN.crop(SCORED[0])}/gt"
    return gather.shards(f"{folder}/instances_{{scatteritem}}.npz")


wildcard_constraints:
    model=plan.any_of(PLAN.config.models),
    dataset=plan.any_of(PLAN.config.datasets),
    variant=plan.any_of(PLAN.config.variants),
    split="train|val",
    crop=r"\d+x\d+(-pad[0-9.]+)?(-udp)?",
    subset="gt|calibration|benchmark",
    precision="fp32|fp16|int8",
    scatteritem=r"\d+-of-\d+",


scattergather:
    shards=PLAN.config.shards,
