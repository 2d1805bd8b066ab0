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
from snakemake.logging import logger

plan.prefer_own_python()
try:
    PLAN = plan.make(config, engines.rules(), engines.resolve)
    TO_FETCH = [path.removeprefix("resources/") for path in PLAN.to_fetch()]
except (ConfigError, StageError) as error:
    raise WorkflowError(f"configuration: {error}")


if workflow.is_main_process:
    for note in PLAN.notes:
        logger.warning(note)

TO_EXTRACT = [path.removeprefix("resources/") for path in PLAN.archives]
# Between workflows, with `--cache`; without it Snakemake would warn of each rule that can.
SHARED = (
    workflow.workflow_settings.cache is not None
    and "SNAKEMAKE_OUTPUT_CACHE" in os.environ
)
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
    return [flag, str(value)] if value or value == 0 else []


def calibration_crops(kind, suffix):
    """Returns the crops, or the table beside them, that int8 and fp8 are calibrated on."""

    def path(wildcards):
        folder = f"build/datasets/{PLAN.config.dataset}/{PLAN.crops[wildcards.model]}"
        return f"{folder}/calibration/{kind}_1-of-1.{suffix}"

    return path


def benchmark_crops(wildcards):
    """Returns the crops that a variant is timed on."""
    folder = f"build/datasets/{PLAN.config.dataset}/{PLAN.crop(wildcards.variant)}"
    return f"{folder}/benchmark/crops_1-of-1.npy"


def model_benchmark_crops(wildcards):
    """Returns the crops that a model's stages are compared on."""
    folder = f"build/datasets/{PLAN.config.dataset}/{PLAN.crops[wildcards.model]}"
    return f"{folder}/benchmark/crops_1-of-1.npy"


def parity_graphs(wildcards):
    """Returns the graphs on the way to a variant's engine; PyTorch has none."""
    folder = f"build/models/{PLAN.model(wildcards.variant)}"
    files = {
        "reference": f"{folder}/reference_heatmaps.npz",
        "card": f"{folder}/model.json",
    }
    if PLAN.backends[wildcards.variant] != "pytorch":
        files["onnx"] = f"{folder}/model.onnx"
        files["simplified"] = f"{folder}/simplified.onnx"
        # ONNX Runtime, which runs the graphs here, has no bfloat16 on the CPU.
        if PLAN.graphs[wildcards.variant] != "bf16":
            files["precision"] = f"{folder}/{PLAN.graphs[wildcards.variant]}.onnx"
    return files


def parity_flags(wildcards, input):
    """Returns the flags that name those graphs."""
    graphs = ("onnx", "simplified", "precision")
    return [part for name in graphs for part in option(f"--{name}", input.get(name))]


def subset_images(wildcards):
    """Returns the images of a subset: those for calibration are others."""
    if wildcards.subset == "calibration":
        return PLAN.calibration(wildcards.dataset).images
    return PLAN.images(wildcards.dataset)


def subset_annotations(wildcards):
    """Returns the annotations of a subset."""
    if wildcards.subset == "calibration":
        return PLAN.calibration(wildcards.dataset).annotations
    return PLAN.annotations(wildcards.dataset)


def subset_detections(wildcards):
    """Returns the file of detected boxes; only `det` has one."""
    return PLAN.detections(wildcards.dataset) if wildcards.subset == "det" else []


def subset_detection_flags(wildcards, input):
    """Returns the flags that go with detected boxes."""
    if wildcards.subset != "det":
        return []
    minimum = PLAN.config.datasets[wildcards.dataset].detection_score
    return ["--detections", input.detections, "--minimum-score", str(minimum)]


def original_weights(wildcards):
    """Returns the checkpoint for PyTorch, the one backend that runs the original model."""
    if PLAN.backends[wildcards.variant] != "pytorch":
        return []
    return PLAN.weights(PLAN.model(wildcards.variant)) or []


def evaluated_crops(kind, suffix):
    """Returns one shard of the crops, or of the table beside them, that a variant takes."""

    def path(wildcards):
        folder = f"build/datasets/{PLAN.config.dataset}/{PLAN.crop(wildcards.variant)}"
        return f"{folder}/{wildcards.boxes}/{kind}_{wildcards.scatteritem}.{suffix}"

    return path


def predictions(variant):
    """Returns all predictions of a variant: every box set, all shards in order."""
    return [
        path
        for boxes in PLAN.config.protocols.boxes
        for path in gather.shards(
            f"build/predictions/{variant}/{boxes}_{{scatteritem}}.npz"
        )
    ]


def reference_predictions(wildcards):
    """Returns the predictions that a variant's are compared with; the reference has none."""
    reference = PLAN.reference(wildcards.variant)
    return predictions(reference) if reference else []


wildcard_constraints:
    model=plan.any_of(PLAN.config.models),
    dataset=plan.any_of(PLAN.config.datasets),
    variant=plan.any_of(PLAN.config.variants),
    split="train|val",
    crop=r"\d+x\d+(-pad[0-9.]+)?(-udp)?",
    subset="gt|det|calibration|benchmark",
    boxes="gt|det",
    precision="fp32|fp16|bf16|int8-fp16",
    int8="int8|int8-symmetric",
    scatteritem=r"\d+-of-\d+",


scattergather:
    shards=PLAN.config.shards,
