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
include: "rules/failures.smk"


rule report:
    """Everything: the report, and the figures that it is made from."""
    default_target: True
    input:
        f"{LAYOUT.results}/report.html",
        collect(f"{LAYOUT.results}/{{variant}}_perf.json", variant=VARIANTS),
        collect(f"{LAYOUT.results}/{{variant}}_parity.json", variant=VARIANTS),
        collect(f"{LAYOUT.results}/{{variant}}_accuracy.json", variant=SCORED),


rule fetch:
    """All that comes from elsewhere, before a machine is without internet."""
    input:
        PLAN.needed(),


rule gate:
    """Fails when a variant is outside the limits of the configuration."""
    input:
        f"{LAYOUT.results}/gate.txt",


rule no_such_variant:
    """Refuses the figures of a variant that the configuration does not have."""
    input:
        other_variant,
    output:
        f"{LAYOUT.results}/{{name}}_{{figure}}.json",
    wildcard_constraints:
        name=rf"(?!({plan.any_of(VARIANTS)})_(accuracy|perf|perf_samples|parity)\.json).+",
        figure="accuracy|perf|parity",


if workflow.is_main_process:
    check_plan()
