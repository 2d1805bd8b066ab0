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
    conda:
        "../envs/mmpose.yaml"
    threads: 1
    resources:
        mem_mb=more(4000),
        runtime=more(30),
        gpu=0,
    params:
        config=lambda wildcards: PLAN.config.models[wildcards.model].config,
        crop=lambda wildcards: PLAN.crops[wildcards.model],
        versions=versions("torch", "mmpose", "mmengine", "onnx"),
        weights=lambda wildcards, input: option("--weights", input.weights),
    shell:
        "python {input.code[0]:q} --name {wildcards.model:q} --config {params.config:q}"
        " {params.weights:q} --crop {params.crop:q} --output {output.onnx:q} --card {output.card:q}"
        " --log {log:q}"


rule simplify_onnx:
    """Simplifies the graph and proves that it computes the same."""
    input:
        code=code("simplify_onnx"),
        model="build/models/{model}/model.onnx",
        card="build/models/{model}/model.json",
    output:
        "build/models/{model}/simplified.onnx",
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
        "python {input.code[0]:q} --model {input.model:q} --card {input.card:q} --output {output:q}"
        " --log {log:q}"


rule convert_precision:
    """Writes the graph in the precision that a backend takes from it."""
    input:
        code=code("convert_precision"),
        model="build/models/{model}/simplified.onnx",
        card="build/models/{model}/model.json",
        calibration=calibration_crops,
    output:
        "build/models/{model}/{precision}.onnx",
    log:
        "logs/convert_precision/{model}_{precision}.log",
    conda:
        "../envs/engines.yaml"
    threads: 2
    resources:
        mem_mb=more(6000),
        runtime=more(120),
        gpu=0,
    params:
        versions=versions("onnx"),
        calibration=lambda wildcards, input: option("--calibration", input.calibration),
    shell:
        "python {input.code[0]:q} --precision {wildcards.precision} --model {input.model:q}"
        " --card {input.card:q} {params.calibration:q} --output {output:q} --log {log:q}"
