"""From a checkpoint to ONNX graphs.

Takes: a checkpoint and an mmpose config.  Makes: build/models/{model}/.
"""


rule export_onnx:
    """Exports the model and writes its card."""
    input:
        code=code("export_onnx"),
        weights=lambda wildcards: PLAN.weights(wildcards.model) or [],
        config=lambda wildcards: PLAN.configs[wildcards.model],
    output:
        onnx="build/models/{model}/model.onnx",
        card="build/models/{model}/model.json",
    log:
        "logs/export_onnx/{model}.log",
    cache: SHARED
    conda:
        "../envs/mmpose.yaml"
    threads: 1
    resources:
        mem_mb=more(4000),
        runtime=more(30),
        gpu=0,
    params:
        name="{model}",  # Snakemake's cache does not look at wildcards
        config=lambda wildcards: PLAN.config.models[wildcards.model].config,
        crop=lambda wildcards: PLAN.crops[wildcards.model],
        changes=lambda wildcards: option("--changes", PLAN.changes[wildcards.model]),
        versions=versions("torch", "mmpose", "mmengine", "onnx"),
        weights=lambda wildcards, input: option("--weights", input.weights),
    shell:
        "python {input.code[0]:q} --name {params.name:q} --config {params.config:q}"
        " {params.weights:q} --crop {params.crop:q} {params.changes:q} --output {output.onnx:q}"
        " --card {output.card:q} --log {log:q}"


rule simplify_onnx:
    """Simplifies the graph, or keeps it if the simplified one does not compute the same."""
    input:
        code=code("simplify_onnx"),
        model="build/models/{model}/model.onnx",
        card="build/models/{model}/model.json",
    output:
        graph="build/models/{model}/simplified.onnx",
        summary="build/models/{model}/simplified.json",
    log:
        "logs/simplify_onnx/{model}.log",
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=more(4000),
        runtime=more(30),
        gpu=0,
    params:
        versions=versions("onnx", "onnxsim"),
    shell:
        "python {input.code[0]:q} --model {input.model:q} --card {input.card:q}"
        " --output {output.graph:q} --summary {output.summary:q} --log {log:q}"


rule convert_precision:
    """Writes the graph in the floating-point precision that a backend takes from it."""
    input:
        code=code("convert_precision"),
        model=lambda wildcards: (
            f"build/models/{wildcards.model}/int8-symmetric.onnx"
            if wildcards.precision == "int8-fp16"
            else f"build/models/{wildcards.model}/simplified.onnx"
        ),
    output:
        "build/models/{model}/{precision}.onnx",
    log:
        "logs/convert_precision/{model}_{precision}.log",
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=more(4000),
        runtime=more(30),
        gpu=0,
    params:
        versions=versions("onnx"),
    shell:
        "python {input.code[0]:q} --precision {wildcards.precision} --model {input.model:q}"
        " --output {output:q} --log {log:q}"


rule quantize_int8:
    """Writes the graph in int8, within the loss of AP that is allowed."""
    input:
        code=code("quantize_int8"),
        model="build/models/{model}/simplified.onnx",
        card="build/models/{model}/model.json",
        calibration=f"build/datasets/{PLAN.config.dataset}/calibration.json",
        crops=calibration_crops("crops", "npy"),
        instances=calibration_crops("instances", "npz"),
        annotations=f"build/datasets/{PLAN.config.dataset}/calibration_audit.npz",
    output:
        graph="build/models/{model}/{int8}.onnx",
        summary="build/models/{model}/{int8}.json",
    log:
        "logs/quantize_int8/{model}_{int8}.log",
    conda:
        "../envs/engines.yaml"
    threads: 2
    resources:
        mem_mb=more(6000),
        runtime=more(240),
        gpu=0,
    params:
        versions=versions("onnx", "onnxruntime"),
        ap_drop=lambda wildcards: (
            option("--ap-drop", PLAN.config.quantization.ap_drop)
            if PLAN.config.models[wildcards.model].weights
            else []
        ),
        symmetric=lambda wildcards: (
            ["--symmetric"] if wildcards.int8 == "int8-symmetric" else []
        ),
    shell:
        "python {input.code[0]:q} --model {input.model:q} --card {input.card:q}"
        " --crops {input.crops:q} --instances {input.instances:q}"
        " --calibration {input.calibration:q} --annotations {input.annotations:q}"
        " {params.ap_drop:q} {params.symmetric:q} --output {output.graph:q}"
        " --summary {output.summary:q} --log {log:q}"


rule quantize_fp8:
    """Writes the graph in fp8, with fp16 for what is not quantised."""
    input:
        code=code("quantize_fp8"),
        model="build/models/{model}/simplified.onnx",
        card="build/models/{model}/model.json",
        calibration=f"build/datasets/{PLAN.config.dataset}/calibration.json",
        crops=calibration_crops("crops", "npy"),
    output:
        "build/models/{model}/fp8.onnx",
    log:
        "logs/quantize_fp8/{model}.log",
    conda:
        "../envs/engines.yaml"
    threads: 2
    resources:
        mem_mb=more(6000),
        runtime=more(120),
        gpu=0,
    params:
        versions=versions("onnx", "onnxruntime"),
    shell:
        "python {input.code[0]:q} --model {input.model:q} --card {input.card:q}"
        " --crops {input.crops:q} --output {output:q} --log {log:q}"
