"""Accuracy and speed of an engine.

Takes: build/engines/{variant}/ and crops.
Makes: build/predictions/, results/{variant}_accuracy.json and results/{variant}_perf.json.
"""


rule predict_keypoints:
    """Runs the engine over one shard of the crops, plain and mirrored."""
    input:
        code=engine_code("predict_keypoints"),
        engine="build/engines/{variant}/engine.bin",
        card="build/engines/{variant}/engine.json",
        crops=crops("gt", "{scatteritem}"),
        instances=crops("gt", "{scatteritem}", "instances", "npz"),
    output:
        "build/predictions/{variant}/gt_{scatteritem}.npz",
    log:
        "logs/predict_keypoints/{variant}_gt_{scatteritem}.log",
    conda:
        engine_environment
    threads: 2
    params:
        folder=subpath(input.engine, parent=True),
        flip=[int(flip) for flip in PLAN.config.protocols.flip],
    shell:
        "python {input.code[0]:q} --engine {params.folder:q} --crops {input.crops:q}"
        " --instances {input.instances:q} --flip {params.flip} --threads {threads}"
        " --output {output:q} --log {log:q}"


rule score_accuracy:
    """Gathers the shards and scores them with COCO's evaluation."""
    input:
        code=code("score_accuracy"),
        annotations=PLAN.annotations(PLAN.config.dataset),
        card="build/engines/{variant}/engine.json",
        predictions=gather.shards("build/predictions/{{variant}}/gt_{scatteritem}.npz"),
        instances=lambda wildcards: gather.shards(
            "build/datasets/{dataset}/{crop}/gt/instances_{{scatteritem}}.npz".format(
                dataset=PLAN.config.dataset, crop=PLAN.crop(wildcards.variant)
            )
        ),
        reference=reference_accuracy,
    output:
        "results/{variant}_accuracy.json",
    log:
        "logs/score_accuracy/{variant}.log",
    conda:
        "../envs/engines.yaml"
    threads: 1
    params:
        folder=subpath(input.card, parent=True),
        dataset=PLAN.config.dataset,
        reference=lambda wildcards, input: option("--reference", input.reference),
    shell:
        "python {input.code[0]:q} --annotations {input.annotations:q} --engine {params.folder:q}"
        " --dataset {params.dataset:q} --predictions {input.predictions:q}"
        " --instances {input.instances:q} {params.reference:q} --output {output:q} --log {log:q}"


rule benchmark_engine:
    """Measures latency and throughput.  It takes all cores, so that nothing else runs."""
    input:
        code=engine_code("benchmark_engine"),
        engine="build/engines/{variant}/engine.bin",
        card="build/engines/{variant}/engine.json",
        crops=crops("benchmark"),
    output:
        perf="results/{variant}_perf.json",
        samples="results/{variant}_perf_samples.json",
    log:
        "logs/benchmark_engine/{variant}.log",
    conda:
        engine_environment
    threads: workflow.cores
    params:
        folder=subpath(input.engine, parent=True),
        min_seconds=PLAN.config.benchmark.min_seconds,
        min_samples=PLAN.config.benchmark.min_samples,
    shell:
        "python {input.code[0]:q} --engine {params.folder:q} --crops {input.crops:q}"
        " --min-seconds {params.min_seconds} --min-samples {params.min_samples}"
        " --threads {threads} --output {output.perf:q} --samples {output.samples:q} --log {log:q}"
