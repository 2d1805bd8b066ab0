"""The report.

Takes: all that was measured, and older results to compare with.
Makes: results/report.html, summary.txt, summary.md, results.csv and verdicts.json.
"""

import json


rule write_report:
    """Write the report."""
    input:
        code=code("write_report"),
        templates=collect(
            str(SCRIPTS / "hrnetpose/report/templates/{file}"),
            file=["report.html", "style.css", "recommend.js", "page.js"],
        ),
        engines=collect(VARIANT.card, variant=RUN.variants),
        perf=collect(VARIANT.perf, variant=RUN.variants),
        samples=collect(VARIANT.perf_samples, variant=RUN.variants),
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
        baseline=images_in(RUN.config.baseline) if RUN.config.baseline else [],
    output:
        page=report(
            LAYOUT.report,
            caption="captions/report.rst",
            category="Report",
            labels={"file": "the page"},
        ),
        summary=report(
            LAYOUT.summary,
            caption="captions/summary.rst",
            category="Report",
            labels={"file": "the table, as text"},
        ),
        markdown=report(
            LAYOUT.markdown,
            caption="captions/summary.rst",
            category="Report",
            labels={"file": "the table, for a pull request"},
        ),
        table=report(
            LAYOUT.table,
            caption="captions/table.rst",
            category="Report",
            labels={"file": "the table, for a spreadsheet"},
        ),
        verdicts=report(
            LAYOUT.verdicts,
            caption="captions/verdicts.rst",
            category="Report",
            labels={"file": "which variant to ship"},
        ),
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
        baseline=lambda w: option("--baseline", RUN.config.baseline),
        baseline_contents=lambda w: (
            contents_of(RUN.config.baseline) if RUN.config.baseline else None
        ),
        run=option("--run", RUN.config.run),
        made=LAYOUT.made,
    shell:
        "python {input.code[0]:q} --engines {params.engines:q} --perf {input.perf:q}"
        " --samples {input.samples:q}"
        " --accuracy {input.accuracy:q} --parity {input.parity:q}"
        " --models {params.models:q} --dataset {params.dataset:q}"
        " --annotations {input.annotations:q} --audits {input.audits:q}"
        " --persons {input.persons:q} --images {input.images:q}"
        " --predictions {input.predictions:q}"
        " --published {params.published:q} --limits {params.limits:q}"
        " --own-limits {params.own_limits:q} {params.baseline:q} {params.run:q}"
        " --made {params.made:q} --output {output.page:q} --summary {output.summary:q}"
        " --markdown {output.markdown:q} --table {output.table:q}"
        " --verdicts {output.verdicts:q} --log {log:q}"
