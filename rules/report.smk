"""The report.

Takes: all that was measured.  Makes: results/report.html and results/summary.txt.
"""


rule write_report:
    """Writes the report."""
    input:
        code=code("write_report"),
        template=library("hrnetpose/report/templates/report.html"),
        engines=collect("build/engines/{variant}/engine.json", variant=VARIANTS),
        perf=collect("results/{variant}_perf.json", variant=VARIANTS),
        accuracy=collect("results/{variant}_accuracy.json", variant=SCORED),
        parity=collect("results/{variant}_parity.json", variant=VARIANTS),
        models=collect(
            "build/models/{model}/model.json",
            model=sorted({PLAN.model(variant) for variant in VARIANTS}),
        ),
        simplified=collect(
            "build/models/{model}/simplified.json",
            model=sorted(
                {
                    PLAN.model(variant)
                    for variant in VARIANTS
                    if PLAN.backends[variant] != "pytorch"
                }
            ),
        ),
        quantization=[
            f"build/models/{PLAN.model(variant)}/{PLAN.quantization(variant)}.json"
            for variant in VARIANTS
            if PLAN.quantization(variant)
        ],
        annotations=f"build/datasets/{PLAN.config.dataset}/audit.npz",
        audits=AUDITS,
        persons=PERSON_LISTS,
        images=lambda wildcards: images_in(PLAN.images(PLAN.config.dataset)),
        predictions=[path for variant in SCORED for path in predictions(variant)],
    output:
        page=report("results/report.html", category="Report"),
        summary="results/summary.txt",
    log:
        "logs/write_report/report.log",
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=more(4000),
        runtime=more(30),
        gpu=0,
    params:
        engines=lambda wildcards, input: [Path(card).parent for card in input.engines],
        models=lambda wildcards, input: [Path(card).parent for card in input.models],
        published=PLAN.published(),
        boxes=PLAN.config.protocols.boxes,
        contents=lambda wildcards: contents_of(PLAN.images(PLAN.config.dataset)),
    shell:
        "python {input.code[0]:q} --engines {params.engines:q} --perf {input.perf:q}"
        " --accuracy {input.accuracy:q} --parity {input.parity:q}"
        " --models {params.models:q}"
        " --annotations {input.annotations:q} --audits {input.audits:q}"
        " --persons {input.persons:q} --images {input.images:q}"
        " --predictions {input.predictions:q}"
        " --published {params.published:q} --output {output.page:q}"
        " --summary {output.summary:q} --log {log:q}"
