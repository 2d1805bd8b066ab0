"""From an ONNX graph (for PyTorch: a checkpoint) to an engine.

Takes: build/models/{model}/.  Makes: build/engines/{variant}/.
"""


rule build_engine:
    """Builds an engine and its card."""
    input:
        code=engine_code("build_engine"),
        graph=engine_graph,
        card=lambda wildcards: f"build/models/{PLAN.model(wildcards.variant)}/model.json",
        weights=original_weights,
    output:
        engine=f"{LAYOUT.engines}/{{variant}}/engine.bin",
        card=f"{LAYOUT.engines}/{{variant}}/engine.json",
    log:
        LAYOUT.log("build_engine", "{variant}"),
    conda:
        engine_environment
    threads: 2
    resources:
        mem_mb=more(8000),
        runtime=more(120),
        gpu=gpus,
    params:
        folder=subpath(output.engine, parent=True),
        backend=lambda wildcards: PLAN.backends[wildcards.variant],
        precision=lambda wildcards: PLAN.variant(wildcards.variant).precision,
        batch=lambda wildcards: PLAN.batch(wildcards.variant),
        options=lambda wildcards: PLAN.options(wildcards.variant),
        versions=backend_versions,
        weights=lambda wildcards, input: option("--weights", input.weights),
        cache="build/timing_cache",
    shell:
        "python {input.code[0]:q} --variant {wildcards.variant:q} --backend {params.backend}"
        " --precision {params.precision} --graph {input.graph:q} {params.weights:q}"
        " --card {input.card:q} --batch {params.batch} --options {params.options:q}"
        " --threads {threads} --cache {params.cache:q} --output {params.folder:q} --log {log:q}"
