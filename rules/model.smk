"""From a checkpoint, or from an ONNX file, to ONNX graphs.

Takes: a checkpoint and an mmpose config, or an ONNX file.  Makes: build/models/{model}/.
"""

from hrnetpose.recipes import made_by
from hrnetpose.run import MmposeModel, OnnxModel


wildcard_constraints:
    model=any_of(RUN.models),


rule export_onnx:
    """Export the model and write its card."""
    input:
        code=code("export_onnx"),
        weights=lambda w: RUN.models[w.model].weights or [],
        config=lambda w: RUN.models[w.model].files,
    output:
        onnx=MODEL.onnx,
        card=MODEL.card,
    log:
        LAYOUT.shared_log("export_onnx", "{model}"),
    wildcard_constraints:
        model=any_of(RUN.models_of(MmposeModel)),
    cache: IS_CACHED
    conda:
        "../envs/mmpose.yaml"
    threads: 1
    resources:
        mem_mb=scale_with_attempt(4000),
        runtime=scale_with_attempt(30),
    params:
        name="{model}",  # Snakemake's cache does not look at wildcards
        config=lambda w: RUN.models[w.model].section.config,
        crop=lambda w: RUN.models[w.model].crop,
        changes=lambda w: option("--changes", RUN.models[w.model].changes),
        versions=versions("torch", "mmpose", "mmengine", "onnx"),
        weights=lambda w, input: option("--weights", input.weights),
    shell:
        "python {input.code[0]:q} --name {params.name:q} --config {params.config:q}"
        " {params.weights:q} --crop {params.crop:q} {params.changes:q} --output {output.onnx:q}"
        " --card {output.card:q} --log {log:q}"


rule import_onnx:
    """Bring an ONNX file into the form of an export, and write its card."""
    input:
        code=code("import_onnx"),
        files=lambda w: RUN.models[w.model].files,
    output:
        onnx=MODEL.onnx,
        card=MODEL.card,
    log:
        LAYOUT.shared_log("import_onnx", "{model}"),
    wildcard_constraints:
        model=any_of(RUN.models_of(OnnxModel)),
    cache: IS_CACHED
    conda:
        "../envs/mmpose.yaml"
    threads: 1
    resources:
        mem_mb=scale_with_attempt(4000),
        runtime=scale_with_attempt(30),
    params:
        name="{model}",  # Snakemake's cache does not look at wildcards
        onnx=lambda w: RUN.models[w.model].file,
        given=lambda w: RUN.models[w.model].card_json,
        crop=lambda w: RUN.models[w.model].crop,
        versions=versions("onnx", "onnxruntime"),
    shell:
        "python {input.code[0]:q} --name {params.name:q} --onnx {params.onnx:q}"
        " --given {params.given:q} --crop {params.crop:q} --output {output.onnx:q}"
        " --card {output.card:q} --log {log:q}"


rule simplify_onnx:
    """Simplify the graph, or keep it if the simplified one does not compute the same."""
    input:
        code=code("simplify_onnx"),
        model=MODEL.onnx,
        card=MODEL.card,
    output:
        graph=MODEL.simplified,
        summary=MODEL.summary("simplified"),
    log:
        LAYOUT.shared_log("simplify_onnx", "{model}"),
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=scale_with_attempt(4000),
        runtime=scale_with_attempt(30),
    params:
        versions=versions("onnx", "onnxsim"),
    shell:
        "python {input.code[0]:q} --model {input.model:q} --card {input.card:q}"
        " --output {output.graph:q} --summary {output.summary:q} --log {log:q}"


rule convert_precision:
    """Write the graph in the floating-point precision that a backend takes from it."""
    input:
        code=code("convert_precision"),
        model=lambda w: LAYOUT.model(w.model).graph(LAYOUT.source(Path(w.graph).name)),
    output:
        MODEL.graph("{graph}"),
    log:
        LAYOUT.shared_log("convert_precision", "{model}/{graph}"),
    wildcard_constraints:
        graph=any_of(LAYOUT.name(graph) for graph in made_by("convert_precision")),
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=scale_with_attempt(4000),
        runtime=scale_with_attempt(30),
    params:
        versions=versions("onnx"),
        precision=lambda w: Path(w.graph).name,
    shell:
        "python {input.code[0]:q} --precision {params.precision} --model {input.model:q}"
        " --output {output:q} --log {log:q}"


rule quantize_int8:
    """Write the graph in int8, within the loss of AP that is allowed."""
    input:
        code=code("quantize_int8"),
        model=MODEL.simplified,
        card=MODEL.card,
        calibration=DATASET.calibration,
        crops=lambda w: LAYOUT.dataset(w.dataset).cut.crops(
            RUN.models[w.model].crop, "calibration"
        ),
        instances=lambda w: LAYOUT.dataset(w.dataset).cut.instances(
            RUN.models[w.model].crop, "calibration"
        ),
        annotations=DATASET.annotations("calibration_audit"),
    output:
        graph=MODEL.graph("{int8}", "{dataset}"),
        summary=MODEL.summary("{int8}", "{dataset}"),
    log:
        LAYOUT.shared_log("quantize_int8", "{model}_{dataset}_{int8}"),
    wildcard_constraints:
        int8=any_of(made_by("quantize_int8")),
    conda:
        "../envs/engines.yaml"
    threads: 2
    resources:
        mem_mb=scale_with_attempt(6000),
        runtime=scale_with_attempt(240),
    params:
        versions=versions("onnx", "onnxruntime"),
        ap_drop=lambda w: (
            option("--ap-drop", RUN.config.quantization.ap_drop)
            if RUN.models[w.model].is_trained
            else []
        ),
        symmetric=lambda w: ["--symmetric"] if w.int8 == "int8-symmetric" else [],
    shell:
        "python {input.code[0]:q} --model {input.model:q} --card {input.card:q}"
        " --crops {input.crops:q} --instances {input.instances:q}"
        " --calibration {input.calibration:q} --annotations {input.annotations:q}"
        " {params.ap_drop:q} {params.symmetric:q} --output {output.graph:q}"
        " --summary {output.summary:q} --log {log:q}"


rule quantize_fp8:
    """Write the graph in fp8, with fp16 for what is not quantised."""
    input:
        code=code("quantize_fp8"),
        model=MODEL.simplified,
        card=MODEL.card,
        calibration=DATASET.calibration,
        crops=lambda w: LAYOUT.dataset(w.dataset).cut.crops(
            RUN.models[w.model].crop, "calibration"
        ),
    output:
        MODEL.graph("fp8", "{dataset}"),
    log:
        LAYOUT.shared_log("quantize_fp8", "{model}_{dataset}"),
    conda:
        "../envs/engines.yaml"
    threads: 2
    resources:
        mem_mb=scale_with_attempt(6000),
        runtime=scale_with_attempt(120),
    params:
        versions=versions("onnx", "onnxruntime"),
    shell:
        "python {input.code[0]:q} --model {input.model:q} --card {input.card:q}"
        " --crops {input.crops:q} --output {output:q} --log {log:q}"
