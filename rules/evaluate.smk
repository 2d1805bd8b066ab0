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
        # To stop before hours are spent; predictions do not depend on it.
        audit=ancient(f"build/datasets/{PLAN.config.dataset}/audit.json"),
        crops=evaluated_crops("crops", "npy"),
        instances=evaluated_crops("instances", "npz"),
    output:
        "build/predictions/{variant}/{boxes}_{scatteritem}.npz",
    log:
        "logs/predict_keypoints/{variant}_{boxes}_{scatteritem}.log",
    conda:
        engine_environment
    threads: 2
    resources:
        mem_mb=more(4000),
        runtime=more(120),
        gpu=gpus,
    params:
        folder=subpath(input.engine, parent=True),
        flip=[int(flip) for flip in PLAN.config.protocols.flip],
    shell:
        "python {input.code[0]:q} --engine {params.folder:q} --audit {input.audit:q}"
        " --crops {input.crops:q} --instances {input.instances:q} --flip {params.flip} --threads {threads}"
        " --output {output:q} --log {log:q}"


rule score_accuracy:
    """Gathers the shards, scores them with COCO's evaluation and compares with the reference."""
    input:
        code=code("score_accuracy"),
        annotations=f"build/datasets/{PLAN.config.dataset}/audit.npz",
        audit=f"build/datasets/{PLAN.config.dataset}/audit.json",
        persons=PERSON_LISTS,
        card="build/engines/{variant}/engine.json",
        predictions=lambda wildcards: predictions(wildcards.variant),
        reference=reference_predictions,
    output:
        "results/{variant}_accuracy.json",
    log:
        "logs/score_accuracy/{variant}.log",
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=more(4000),
        runtime=more(120),
        gpu=0,
    params:
        folder=subpath(input.card, parent=True),
        dataset=PLAN.config.dataset,
        boxes=PLAN.config.protocols.boxes,
        nms=option("--nms", PLAN.config.protocols.nms),
        reference=lambda wildcards, input: (
            ["--reference", PLAN.reference(wildcards.variant), *input.reference]
            if input.reference
            else []
        ),
    shell:
        "python {input.code[0]:q} --annotations {input.annotations:q} --audit {input.audit:q}"
        " --persons {input.persons:q} --engine {params.folder:q} --dataset {params.dataset:q}"
        " {params.nms:q} --predictions {input.predictions:q} {params.reference:q}"
        " --output {output:q} --log {log:q}"


rule benchmark_engine:
    """Measures and judges the speed.  It takes all cores, so that nothing else runs."""
    input:
        code=engine_code("benchmark_engine"),
        engine="build/engines/{variant}/engine.bin",
        card="build/engines/{variant}/engine.json",
        crops=benchmark_crops,
        persons=f"build/datasets/{PLAN.config.dataset}/persons_gt.npz",
        images=images_in(PLAN.images(PLAN.config.dataset)),
    output:
        perf="results/{variant}_perf.json",
        samples="results/{variant}_perf_samples.json",
    log:
        "logs/benchmark_engine/{variant}.log",
    conda:
        engine_environment
    threads: all_cores
    resources:
        mem_mb=more(4000),
        runtime=more(60),
        gpu=gpus,
    params:
        folder=subpath(input.engine, parent=True),
        min_seconds=PLAN.config.benchmark.min_seconds,
        min_samples=PLAN.config.benchmark.min_samples,
        contents=lambda wildcards: contents_of(PLAN.images(PLAN.config.dataset)),
        batches=PLAN.config.benchmark.batches,
        streams=PLAN.config.benchmark.streams,
    shell:
        "python {input.code[0]:q} --engine {params.folder:q} --crops {input.crops:q}"
        " --persons {input.persons:q} --images {input.images:q}"
        " --min-seconds {params.min_seconds} --min-samples {params.min_samples}"
        " --batches {params.batches} --streams {params.streams} --threads {threads}"
        " --output {output.perf:q} --samples {output.samples:q} --log {log:q}"


rule reference_heatmaps:
    """Runs the original model on some crops, for all comparisons with it."""
    input:
        code=code("reference_heatmaps"),
        weights=lambda wildcards: PLAN.weights(wildcards.model) or [],
        config=lambda wildcards: PLAN.configs[wildcards.model],
        card="build/models/{model}/model.json",
        crops=model_benchmark_crops,
    output:
        "build/models/{model}/reference_heatmaps.npz",
    log:
        "logs/reference_heatmaps/{model}.log",
    conda:
        "../envs/mmpose.yaml"
    threads: 2
    resources:
        mem_mb=more(4000),
        runtime=more(60),
        gpu=0,
    params:
        config=lambda wildcards: PLAN.config.models[wildcards.model].config,
        versions=versions("torch", "mmpose", "mmengine"),
        weights=lambda wildcards, input: option("--weights", input.weights),
    shell:
        "python {input.code[0]:q} --config {params.config:q} {params.weights:q}"
        " --card {input.card:q} --crops {input.crops:q} --threads {threads} --output {output:q}"
        " --log {log:q}"


rule measure_parity:
    """Measures at which stage how much of the error comes in."""
    input:
        unpack(parity_graphs),
        code=engine_code("measure_parity"),
        engine="build/engines/{variant}/engine.bin",
        engine_card="build/engines/{variant}/engine.json",
    output:
        "results/{variant}_parity.json",
    log:
        "logs/measure_parity/{variant}.log",
    conda:
        engine_environment
    threads: 2
    resources:
        mem_mb=more(6000),
        runtime=more(60),
        gpu=gpus,
    params:
        folder=subpath(input.engine, parent=True),
        graphs=parity_flags,
    shell:
        "python {input.code[0]:q} --reference {input.reference:q} --card {input.card:q}"
        " {params.graphs:q} --engine {params.folder:q} --threads {threads} --output {output:q}"
        " --log {log:q}"


rule check_gate:
    """Fails, with a list, when a variant is outside the limits of the configuration."""
    input:
        code=code("check_gate"),
        accuracy=collect("results/{variant}_accuracy.json", variant=SCORED),
        perf=collect("results/{variant}_perf.json", variant=VARIANTS),
        parity=collect("results/{variant}_parity.json", variant=VARIANTS),
    output:
        "results/gate.txt",
    log:
        "logs/check_gate/gate.log",
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=more(1000),
        runtime=more(10),
        gpu=0,
    params:
        limits=PLAN.limits(),
    shell:
        "python {input.code[0]:q} --limits {params.limits:q} --accuracy {input.accuracy:q}"
        " --perf {input.perf:q} --parity {input.parity:q} --output {output:q} --log {log:q}"
