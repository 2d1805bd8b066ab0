"""From a pose checkpoint to engines with a measured accuracy and a measured speed.

snakemake --cores 4 report                      everything, on the embedded sample
snakemake --cores 4 results/fp16_perf.json      one figure
snakemake --cores 4 report --configfile configs/coco_val2017.yaml
"""

from snakemake.utils import min_version

min_version("9.0")


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/model.smk"
include: "rules/engine.smk"
include: "rules/evaluate.smk"
include: "rules/report.smk"
include: "rules/bundle.smk"
include: "rules/failures.smk"


rule report:
    """Make everything: the report, and the figures that it is made from."""
    default_target: True
    input:
        LAYOUT.report,
        collect(VARIANT.perf, variant=RUN.variants),
        collect(VARIANT.parity, variant=RUN.variants),
        collect(VARIANT.accuracy, variant=RUN.scored),


rule fetch:
    """Fetch all that comes from elsewhere, before a machine is without internet."""
    input:
        RUN.needed,


rule gate:
    """Fail when a variant is outside the limits of the configuration."""
    input:
        LAYOUT.gate,


if workflow.is_main_process:
    try:
        plan.check(RUN, is_made)  # all rules are known
        for note in disk.check(RUN):
            logger.warning(note)
    except ConfigError as error:
        raise WorkflowError(f"configuration: {error}")
