"""From an ONNX graph (for PyTorch: a checkpoint) to an engine.

Takes: build/models/{model}/.  Makes: build/engines/{variant}/.
"""

from hrnetpose.layout import TIMING_CACHE


wildcard_constraints:
    variant=any_of(RUN.variants),


rule build_engine:
    """Build an engine and its card."""
    input:
        code=lambda w: code("build_engine", RUN[w.variant].module),
        # PyTorch runs the original model instead.
        graph=lambda w: [] if RUN[w.variant].is_original else RUN[w.variant].graph,
        card=lambda w: RUN[w.variant].model.paths.card,
        weights=lambda w: RUN[w.variant].weights or [],
    output:
        engine=VARIANT.engine,
        card=VARIANT.card,
    log:
        LAYOUT.log("build_engine", "{variant}"),
    conda:
        lambda w: f"../envs/{RUN[w.variant].environment}.yaml"
    # Most of it is a start of Python; only on a GPU are kernels looked for.
    threads: lambda w: 2 if RUN[w.variant].gpus else 1
    resources:
        mem_mb=scale_with_attempt(8000),
        runtime=scale_with_attempt(120),
        gpu=lambda w: RUN[w.variant].gpus,
    params:
        folder=subpath(output.engine, parent=True),
        backend=lambda w: RUN[w.variant].backend,
        precision=lambda w: RUN[w.variant].precision,
        batch=lambda w: RUN[w.variant].batch,
        options=lambda w: RUN[w.variant].options_json,
        versions=lambda w: versions(*RUN[w.variant].rules.packages),
        graph=lambda w, input: option("--graph", input.graph),
        weights=lambda w, input: option("--weights", input.weights),
        cache=TIMING_CACHE,
    shell:
        "python {input.code[0]:q} --variant {wildcards.variant:q} --backend {params.backend}"
        " --precision {params.precision} {params.graph:q} {params.weights:q}"
        " --card {input.card:q} --batch {params.batch} --options {params.options:q}"
        " --threads {threads} --cache {params.cache:q} --output {params.folder:q} --log {log:q}"
