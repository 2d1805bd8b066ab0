"""Helpers only: the checked configuration, and the files that rules take.

Takes: config.yaml and overlays.  Makes: nothing.
"""

import os
import sys
from functools import cache

sys.path.insert(0, str(Path(workflow.basedir) / "workflow_scripts"))

from hrnetpose import config_text, engines, files, locks, plan
from hrnetpose.config import ConfigError, no_such
from hrnetpose.data import contents
from hrnetpose.stage import StageError
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

for file in map(Path, ["config.yaml", *workflow.overwrite_configfiles]):
    if workflow.is_main_process and file.is_file():
        try:
            config_text.check(file)
        except ConfigError as error:
            raise WorkflowError(f"configuration: {error}")


configfile: "config.yaml"


plan.prefer_own_python()
if workflow.is_main_process:
    locks.drop_stale(Path(".snakemake"))
try:
    PLAN = plan.make(config, engines.rules(), plan.decided_once(engines.resolve))
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
PERSON_LISTS = [
    f"build/datasets/{PLAN.config.dataset}/persons_{boxes}.json"
    for boxes in PLAN.config.protocols.boxes
]
AUDITS = [
    f"build/datasets/{PLAN.config.dataset}/{audited}.json" for audited in PLAN.audits()
]
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


def more(amount):
    """Returns a resource that grows with each attempt: a job that ran out of it gets more."""
    return lambda wildcards, attempt: amount * attempt


def memory_of_json(wildcards, input, attempt):
    """Returns the memory (MB) of a stage that parses COCO's JSON, which takes 15 times its size."""
    return attempt * (1500 + 15 * os.path.getsize(input.annotations) // 1_000_000)


def all_cores(wildcards):
    """Returns all cores of this machine; on a cluster it is the profile that sets them."""
    try:
        return workflow.cores
    except WorkflowError:
        return 8


def gpus(wildcards):
    """Returns how many GPUs a variant's jobs need."""
    return PLAN.gpus[wildcards.variant]


def backend_versions(wildcards):
    """Returns the installed versions of a variant's backend: other ones make another engine."""
    return versions(*engines.backend(PLAN.backends[wildcards.variant]).packages)


def versions(*packages):
    """Returns versions of packages.  With conda it is the environment's file that says them."""
    if "conda" in map(str, workflow.deployment_settings.deployment_method):
        return None
    return {package: plan.version(package) for package in packages}


def is_made(path):
    """Tells whether a rule makes a file."""
    return any(known.is_producer(path) for known in workflow.rules)


@cache
def given(path):
    """Tells whether a file is the user's own: neither made by a rule nor brought from elsewhere."""
    return not is_made(path) and not PLAN.brings(path)


def check_plan():
    """Refuses what cannot come to anything, before anything runs; all rules must be known."""
    try:
        PLAN.check_given(PLAN.crops, is_made)
        PLAN.check_annotations(is_made)
    except ConfigError as error:
        raise WorkflowError(f"configuration: {error}")


def other_variant(wildcards):
    """Says which variants there are: a figure of another one that lies there is an old one."""
    said = no_such("variant", wildcards.name, VARIANTS)
    # Snakemake would show a traceback of any other exception.
    sys.exit(f"configuration: results/{wildcards.name}_{wildcards.figure}.json: {said}")


def images_in(path):
    """Returns images as an input.  The user's own are compared by content, not by date."""
    return ancient(path) if given(path) else path


@cache
def contents_of(path):
    """Returns a digest of the user's own file or images, whatever their dates.

    Jobs on other nodes have no use for it.
    """
    if not workflow.is_main_process or not given(path):
        return None
    return contents.digest(Path(path), files.CONTENTS) or files.content(Path(path))


def option(flag, value):
    """Returns a flag and its value or values for a command line; nothing if there is none."""
    values = value if isinstance(value, list | tuple) else [value]
    return [flag, *map(str, values)] if value or value == 0 else []


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


def subset_persons(wildcards):
    """Returns the persons of a subset; the benchmark takes the first of the annotated ones."""
    boxes = "gt" if wildcards.subset == "benchmark" else wildcards.subset
    return f"build/datasets/{wildcards.dataset}/persons_{boxes}.npz"


def audited_annotations(wildcards):
    """Returns the annotations that an audit reads."""
    if wildcards.audited == "calibration_audit":
        return PLAN.calibration(wildcards.dataset).annotations
    return PLAN.annotations(wildcards.dataset)


def audited_images(wildcards):
    """Returns their images."""
    if wildcards.audited == "calibration_audit":
        return PLAN.calibration(wildcards.dataset).images
    return PLAN.images(wildcards.dataset)


def listed_annotations(wildcards):
    """Returns the audited annotations that persons are listed from."""
    audited = "calibration_audit" if wildcards.listed == "calibration" else "audit"
    return f"build/datasets/{wildcards.dataset}/{audited}.npz"


def listed_detections(wildcards):
    """Returns the file of detected boxes; only `det` has one."""
    return PLAN.detections(wildcards.dataset) if wildcards.listed == "det" else []


def listed_detection_flags(wildcards, input):
    """Returns the flags that go with detected boxes."""
    if wildcards.listed != "det":
        return []
    minimum = PLAN.config.datasets[wildcards.dataset].detection_score
    return ["--detections", input.detections, "--minimum-score", str(minimum)]


def engine_graph(wildcards):
    """Returns a variant's graph; of an engine in PyTorch it is no part, so it may be newer."""
    variant = wildcards.variant
    path = f"build/models/{PLAN.model(variant)}/{PLAN.graphs[variant]}.onnx"
    return ancient(path) if PLAN.backends[variant] == "pytorch" else path


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
    audited="audit|calibration_audit",
    listed="gt|det|calibration",
    boxes="gt|det",
    precision="fp32|fp16|bf16|int8-fp16",
    int8="int8|int8-symmetric",
    scatteritem=r"\d+-of-\d+",


scattergather:
    shards=PLAN.config.shards,
