"""The report.

Takes: all that was measured.  Makes: results/report.html, summary.txt and verdicts.json.
"""

import json


rule write_report:
    """Write the report."""
    input:
        code=code("write_report"),
        template=str(SCRIPTS / "hrnetpose/report/templates/report.html"),
        engines=collect(VARIANT.card, variant=RUN.variants),
        perf=collect(VARIANT.perf, variant=RUN.variants),
        accuracy=collect(VARIANT.accuracy, variant=RUN.scored),
        parity=collect(VARIANT.parity, variant=RUN.variants),
        models=collect(MODEL.card, model=RUN.used_models),
        simplified=collect(MODEL.summary("simplified"), model=RUN.converted_models),
        quantization=RUN.quantizations,
        annotations=RUN.dataset.paths.annotations(),
        audits=RUN.audits,
        persons=RUN.person_summaries,
        images=lambda w: images_in(RUN.dataset.evaluated.images),
        predictions=[path for name in RUN.scored for path in RUN[name].predictions],
    output:
        page=report(LAYOUT.report, category="Report"),
        summary=LAYOUT.summary,
        verdicts=LAYOUT.verdicts,
    log:
        LAYOUT.log("write_report", "report"),
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=scale_with_attempt(4000),
        runtime=scale_with_attempt(30),
    params:
        engines=lambda w, input: [Path(card).parent for card in input.engines],
        models=lambda w, input: [Path(card).parent for card in input.models],
        dataset=RUN.config.dataset,
        published=json.dumps(RUN.published, sort_keys=True),
        limits=RUN.config.limits.model_dump_json(),
        own_limits=json.dumps(RUN.own_limits, sort_keys=True),
        boxes=RUN.config.protocols.boxes,
        contents=lambda w: contents_of(RUN.dataset.evaluated.images),
    shell:
        "python {input.code[0]:q} --engines {params.engines:q} --perf {input.perf:q}"
        " --accuracy {input.accuracy:q} --parity {input.parity:q}"
        " --models {params.models:q} --dataset {params.dataset:q}"
        " --annotations {input.annotations:q} --audits {input.audits:q}"
        " --persons {input.persons:q} --images {input.images:q}"
        " --predictions {input.predictions:q}"
        " --published {params.published:q} --limits {params.limits:q}"
        " --own-limits {params.own_limits:q}"
        " --output {output.page:q} --summary {output.summary:q}"
        " --verdicts {output.verdicts:q} --log {log:q}"
