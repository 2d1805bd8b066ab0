"""Bundles: what a person takes home.

Takes: an engine, its graphs and its figures.  Makes: results/bundles/{variant}.zip.
"""


rule make_bundle:
    """Pack an engine with all that running it takes, and try it."""
    input:
        code=lambda w: code(
            "make_bundle", RUN[w.variant].module, *RUN[w.variant].bundled
        ),
        engine=VARIANT.engine,
        card=VARIANT.card,
        simplified=lambda w: RUN[w.variant].model.paths.simplified,
        graph=lambda w: RUN[w.variant].graph,
        perf=VARIANT.perf,
        accuracy=lambda w: (
            RUN[w.variant].paths.accuracy if RUN[w.variant].model.is_trained else []
        ),
        parity=VARIANT.parity,
        license=str(SCRIPTS.parent / "LICENSE"),
    output:
        VARIANT.bundle,
    log:
        LAYOUT.log("make_bundle", "{variant}"),
    wildcard_constraints:
        variant=any_of(RUN.bundled),
    conda:
        "../envs/engines.yaml"
    threads: 2
    resources:
        mem_mb=scale_with_attempt(4000),
        runtime=scale_with_attempt(30),
        gpu=lambda w: RUN[w.variant].gpus,
    params:
        folder=subpath(input.engine, parent=True),
        versions=versions("opencv-python-headless", "numpy"),
        accuracy=lambda w, input: option("--accuracy", input.accuracy),
        license=lambda w: option("--license", RUN[w.variant].model.section.license),
        attribution=lambda w: option(
            "--attribution", RUN[w.variant].model.section.attribution
        ),
    shell:
        "python {input.code[0]:q} --engine {params.folder:q} --simplified {input.simplified:q}"
        " --graph {input.graph:q} --perf {input.perf:q} {params.accuracy:q}"
        " --parity {input.parity:q} {params.license:q} {params.attribution:q}"
        " --license-text {input.license:q} --threads {threads} --output {output:q} --log {log:q}"


rule no_such_bundle:
    """Refuse the bundle of a variant that has none, or that there is not."""
    input:
        # Snakemake would show a traceback of any exception.
        lambda w: sys.exit(f"configuration: {RUN.refuse_bundle(w.name)}"),
    output:
        LAYOUT.variant("{name}").bundle,
    log:
        LAYOUT.log("no_such_bundle", "{name}"),
    wildcard_constraints:
        name=rf"(?!({any_of(RUN.bundled)})\.zip$)[^/]+",
    conda:
        "../envs/engines.yaml"
    shell:
        "false"
