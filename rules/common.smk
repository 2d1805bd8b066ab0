"""The run that rules ask, and what rules of several phases have in common.

Takes: config.yaml and overlays.  Makes: nothing.
"""

import os
import sys
from functools import cache, partial

from snakemake.common.configfile import load_configfile
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.utils import update_config

ROOT = Path(str(workflow.current_basedir)).parent
if not (ROOT / "workflow_scripts").is_dir():
    raise WorkflowError(
        f"{ROOT}: Snakemake fetches single files from there, but stages need the whole"
        ' repository; clone it, and give `snakefile: "CHECKOUT/Snakefile"`'
    )
sys.path.insert(0, str(ROOT / "workflow_scripts"))

from hrnetpose import config_text, disk, environment, imports, locks, paths, plan
from hrnetpose.config import ConfigError
from hrnetpose.data import contents
from hrnetpose.flags import option
from hrnetpose.layout import any_of
from hrnetpose.resolve import resolve
from hrnetpose.stage import StageError
from hrnetpose.version import VERSION

if paths.has_wildcard(os.path.realpath(ROOT)):
    raise WorkflowError(
        f"{os.path.realpath(ROOT)}: Snakemake takes braces in a path for a wildcard; rename the"
        " folder"
    )
MODIFIER = workflow.modifier.path_modifier
if MODIFIER.prefix or MODIFIER.modifies_prefixes:
    raise WorkflowError(
        "prefix: the paths of this workflow are fixed; leave `prefix` and `replace_prefix` out, and"
        " give `run: NAME` in the module's `config` to keep its results apart"
    )

IS_MODULE = not workflow.modifier.is_main_snakefile()
HAS_CONDA = "conda" in map(str, workflow.deployment_settings.deployment_method)
# Between workflows, with `--cache`; without it Snakemake would warn of each rule that can.
IS_CACHED = (
    workflow.workflow_settings.cache is not None
    and "SNAKEMAKE_OUTPUT_CACHE" in os.environ
)
# `code(script)`: the script, and the library files that it imports; a stage is made from them too.
# Links are followed: inputs have the same names from whichever of them Snakemake is started.
SCRIPTS = Path(os.path.relpath(os.path.realpath(ROOT / "workflow_scripts")))
code = partial(imports.imported_files, SCRIPTS)
# With conda it is the environment's file that says versions.
versions = environment.installed_versions if not HAS_CONDA else lambda *packages: None

# What is given on the command line, or by the workflow that has this one as a module, goes over the
# files that the configuration is based on.
CONFIG, BASE = {}, config_text.base_files(ROOT, IS_MODULE)
if workflow.config_settings.replace_workflow_config:
    BASE = []
try:
    if workflow.is_main_process:
        overlays = [] if IS_MODULE else workflow.overwrite_configfiles
        config_text.check(*BASE, *overlays)
    for section in [*map(load_configfile, BASE), config]:
        config_text.forget_replaced(CONFIG, section)
        update_config(CONFIG, section)
    RUN = resolve(config_text.locate(CONFIG, ROOT), is_module=IS_MODULE)
    TO_FETCH = RUN.resources.to_fetch()
except (ConfigError, StageError) as error:
    raise WorkflowError(f"configuration: {error}")
environment.prefer_own_python()
if workflow.is_main_process:
    logger.info(f"hrnetpose {VERSION}")
    locks.drop_stale(Path(".snakemake"))
    for note in plan.notes(RUN):
        logger.warning(note)

LAYOUT = RUN.layout
# Where the files of any model, dataset and variant lie.
MODEL = LAYOUT.model("{model}")
DATASET = LAYOUT.dataset("{dataset}")
VARIANT = LAYOUT.variant("{variant}")


def scale_with_attempt(amount):
    """Return a resource of which a job that ran out of it gets more."""
    return lambda wildcards, attempt: amount * attempt


def is_made(path):
    """Return True if a rule makes a file."""
    return any(known.is_producer(path) for known in workflow.rules)


@cache
def is_given(path):
    """Return True if a file is the user's own: neither made by a rule nor brought from elsewhere."""
    return not is_made(path) and not RUN.resources.brings(path)


def images_in(path):
    """Return images as an input.  The user's own are compared by content, not by date."""
    return ancient(path) if is_given(path) else path


@cache
def contents_of(path):
    """Return a digest of the user's own file or images; jobs on other nodes have no use for it."""
    is_compared = workflow.is_main_process and is_given(path)
    return contents.digest_given(Path(path)) if is_compared else None
