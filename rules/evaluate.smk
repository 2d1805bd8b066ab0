"""Accuracy and speed of an engine.

Takes: build/engines/{variant}/ and crops.
Makes: build/predictions/, build/machine/, results/{variant}_accuracy.json, {variant}_perf.json and
{variant}_parity.json.
"""

import json

from hrnetpose.config import no_such
from hrnetpose.run import MmposeModel, OnnxModel


rule predict_keypoints:
    """Run the engine over one shard of the crops, plain and mirrored."""
    input:
        code=lambda w: code("predict_keypoints", RUN[w.variant].module),
        engine=VARIANT.engine,
        card=VARIANT.card,
        # To stop before hours are spent; predictions do not depend on it.
        audit=ancient(RUN.dataset.paths.audit()),
        crops=lambda w: RUN[w.variant].crops(w.boxes, w.shard),
        instances=lambda w: RUN[w.variant].instances(w.boxes, w.shard),
    output:
        VARIANT.predictions("{boxes}", "{shard}"),
    log:
        LAYOUT.log("predict_keypoints", "{variant}_{boxes}_{shard}"),
    priority: 1  # so that temporary crops are read before more are cut
    conda:
        lambda w: f"../envs/{RUN[w.variant].environment}.yaml"
    threads: 2
    resources:
        mem_mb=scale_with_attempt(4000),
        runtime=scale_with_attempt(120),
        gpu=lambda w: RUN[w.variant].gpus,
    params:
        folder=subpath(input.engine, parent=True),
        flip=[int(flip) for flip in RUN.config.protocols.flip],
    shell:
        "python {input.code[0]:q} --engine {params.folder:q} --audit {input.audit:q}"
        " --crops {input.crops:q} --instances {input.instances:q} --flip {params.flip} --threads {threads}"
        " --output {output:q} --log {log:q}"


rule score_accuracy:
    """Gather the shards, score them with COCO's evaluation and compare with the reference."""
    input:
        code=code("score_accuracy"),
        annotations=RUN.dataset.paths.annotations(),
        audit=RUN.dataset.paths.audit(),
        persons=RUN.person_summaries,
        card=VARIANT.card,
        predictions=lambda w: RUN[w.variant].predictions,
        reference=lambda w: (
            RUN[w.variant].reference.predictions if RUN[w.variant].reference else []
        ),
    output:
        report(
            VARIANT.accuracy,
            caption="captions/accuracy.rst",
            category="Accuracy",
            labels={"variant": "{variant}"},
        ),
    log:
        LAYOUT.log("score_accuracy", "{variant}"),
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=scale_with_attempt(4000),
        runtime=scale_with_attempt(120),
    params:
        folder=subpath(input.card, parent=True),
        dataset=RUN.config.dataset,
        boxes=RUN.config.protocols.boxes,
        nms=option("--nms", RUN.config.protocols.nms),
        reference=lambda w, input: (
            ["--reference", RUN[w.variant].reference.name, *input.reference]
            if input.reference
            else []
        ),
    shell:
        "python {input.code[0]:q} --annotations {input.annotations:q} --audit {input.audit:q}"
        " --persons {input.persons:q} --engine {params.folder:q} --dataset {params.dataset:q}"
        " {params.nms:q} --predictions {input.predictions:q} {params.reference:q}"
        " --output {output:q} --log {log:q}"


rule measure_machine:
    """Measure what benchmarks share: the machine's peaks, and how long an image takes to a crop.

    It takes all cores, as they do.  On a cluster a benchmark that runs on another machine measures
    it there again.
    """
    input:
        code=code("measure_machine"),
        persons=RUN.dataset.paths.persons("gt"),
        images=images_in(RUN.dataset.evaluated.images),
    output:
        LAYOUT.machine("{device}", "{crop}"),
    log:
        LAYOUT.log("measure_machine", "{device}_{crop}"),
    wildcard_constraints:
        device="cpu|gpu",
    conda:
        "../envs/engines.yaml"
    # On a cluster it is the profile that sets them.
    threads: lambda w: workflow.resource_settings.cores or 8
    resources:
        mem_mb=scale_with_attempt(4000),
        runtime=scale_with_attempt(30),
        gpu=lambda w: int(w.device == "gpu"),
    params:
        min_seconds=RUN.config.benchmark.min_seconds,
        patience=RUN.config.benchmark.patience,
        contents=lambda w: contents_of(RUN.dataset.evaluated.images),
    shell:
        "python {input.code[0]:q} --device {wildcards.device} --persons {input.persons:q}"
        " --images {input.images:q} --crop {wildcards.crop:q} --min-seconds {params.min_seconds}"
        " --patience {params.patience} --threads {threads} --output {output:q} --log {log:q}"


rule benchmark_engine:
    """Measure and judge the speed.  It takes all cores, so that nothing else runs."""
    input:
        code=lambda w: code("benchmark_engine", RUN[w.variant].module),
        engine=VARIANT.engine,
        card=VARIANT.card,
        crops=lambda w: RUN[w.variant].benchmark_crops,
        persons=RUN.dataset.paths.persons("gt"),
        images=images_in(RUN.dataset.evaluated.images),
        machine=lambda w: RUN[w.variant].machine,
    output:
        perf=report(
            VARIANT.perf,
            caption="captions/perf.rst",
            category="Speed",
            labels={"variant": "{variant}", "file": "figures"},
        ),
        samples=report(
            VARIANT.perf_samples,
            caption="captions/perf_samples.rst",
            category="Speed",
            labels={"variant": "{variant}", "file": "raw samples"},
        ),
    log:
        LAYOUT.log("benchmark_engine", "{variant}"),
    conda:
        lambda w: f"../envs/{RUN[w.variant].environment}.yaml"
    # On a cluster it is the profile that sets them.
    threads: lambda w: workflow.resource_settings.cores or 8
    resources:
        mem_mb=scale_with_attempt(4000),
        runtime=scale_with_attempt(60),
        gpu=lambda w: RUN[w.variant].gpus,
    params:
        folder=subpath(input.engine, parent=True),
        min_seconds=RUN.config.benchmark.min_seconds,
        patience=RUN.config.benchmark.patience,
        min_samples=RUN.config.benchmark.min_samples,
        contents=lambda w: contents_of(RUN.dataset.evaluated.images),
        batches=RUN.config.benchmark.batches,
        streams=RUN.config.benchmark.streams,
    shell:
        "python {input.code[0]:q} --engine {params.folder:q} --crops {input.crops:q}"
        " --persons {input.persons:q} --images {input.images:q} --machine {input.machine:q}"
        " --min-seconds {params.min_seconds} --patience {params.patience}"
        " --min-samples {params.min_samples}"
        " --batches {params.batches} --streams {params.streams} --threads {threads}"
        " --output {output.perf:q} --samples {output.samples:q} --log {log:q}"


rule reference_outputs:
    """Run the original model on some crops, for all comparisons with it."""
    input:
        code=code("reference_outputs"),
        weights=lambda w: RUN.models[w.model].weights or [],
        config=lambda w: RUN.models[w.model].files,
        card=MODEL.card,
        crops=lambda w: LAYOUT.dataset(w.dataset).cut.crops(
            RUN.models[w.model].crop, "benchmark"
        ),
    output:
        MODEL.reference_outputs("{dataset}"),
    log:
        LAYOUT.shared_log("reference_outputs", "{model}_{dataset}"),
    wildcard_constraints:
        model=any_of(RUN.models_of(MmposeModel)),
    conda:
        "../envs/mmpose.yaml"
    threads: 1
    resources:
        mem_mb=scale_with_attempt(4000),
        runtime=scale_with_attempt(60),
    params:
        config=lambda w: RUN.models[w.model].section.config,
        versions=versions("torch", "mmpose", "mmengine"),
        weights=lambda w, input: option("--weights", input.weights),
    shell:
        "python {input.code[0]:q} --config {params.config:q} {params.weights:q}"
        " --card {input.card:q} --crops {input.crops:q} --threads {threads} --output {output:q}"
        " --log {log:q}"


rule reference_onnx:
    """Run an ONNX file as it was given on some crops, for all comparisons with it."""
    input:
        code=code("reference_onnx"),
        files=lambda w: RUN.models[w.model].files,
        card=MODEL.card,
        crops=lambda w: LAYOUT.dataset(w.dataset).cut.crops(
            RUN.models[w.model].crop, "benchmark"
        ),
    output:
        MODEL.reference_outputs("{dataset}"),
    log:
        LAYOUT.shared_log("reference_onnx", "{model}_{dataset}"),
    wildcard_constraints:
        model=any_of(RUN.models_of(OnnxModel)),
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=scale_with_attempt(4000),
        runtime=scale_with_attempt(60),
    params:
        onnx=lambda w: RUN.models[w.model].file,
        versions=versions("onnxruntime"),
    shell:
        "python {input.code[0]:q} --onnx {params.onnx:q} --card {input.card:q}"
        " --crops {input.crops:q} --threads {threads} --output {output:q} --log {log:q}"


rule measure_parity:
    """Measure at which stage how much of the error comes in."""
    input:
        code=lambda w: code("measure_parity", RUN[w.variant].module),
        # The graphs on the way to the engine; PyTorch has none.
        onnx=lambda w: (
            [] if RUN[w.variant].is_original else RUN[w.variant].model.paths.onnx
        ),
        simplified=lambda w: (
            [] if RUN[w.variant].is_original else RUN[w.variant].model.paths.simplified
        ),
        # ONNX Runtime, which runs the graphs here, has no bfloat16 on the CPU.
        precision=lambda w: (
            []
            if RUN[w.variant].is_original or RUN[w.variant].graph_kind == "bf16"
            else RUN[w.variant].graph
        ),
        reference=lambda w: RUN[w.variant].model.paths.reference_outputs(
            RUN.config.dataset
        ),
        card=lambda w: RUN[w.variant].model.paths.card,
        engine=VARIANT.engine,
        engine_card=VARIANT.card,
    output:
        report(
            VARIANT.parity,
            caption="captions/parity.rst",
            category="Drift",
            labels={"variant": "{variant}"},
        ),
    log:
        LAYOUT.log("measure_parity", "{variant}"),
    conda:
        lambda w: f"../envs/{RUN[w.variant].environment}.yaml"
    threads: 1
    resources:
        mem_mb=scale_with_attempt(6000),
        runtime=scale_with_attempt(60),
        gpu=lambda w: RUN[w.variant].gpus,
    params:
        folder=subpath(input.engine, parent=True),
        graphs=lambda w, input: [
            *option("--onnx", input.onnx),
            *option("--simplified", input.simplified),
            *option("--precision", input.precision),
        ],
    shell:
        "python {input.code[0]:q} --reference {input.reference:q} --card {input.card:q}"
        " {params.graphs:q} --engine {params.folder:q} --threads {threads} --output {output:q}"
        " --log {log:q}"


rule check_gate:
    """Fail, with a list, when a variant is outside the limits of the configuration."""
    input:
        code=code("check_gate"),
        accuracy=collect(VARIANT.accuracy, variant=RUN.scored),
        perf=collect(VARIANT.perf, variant=RUN.variants),
        parity=collect(VARIANT.parity, variant=RUN.variants),
        verdicts=LAYOUT.verdicts if RUN.config.baseline else [],
    output:
        report(
            LAYOUT.gate,
            caption="captions/gate.rst",
            category="Report",
            labels={"file": "the limits that are kept"},
        ),
    log:
        LAYOUT.log("check_gate", "gate"),
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=scale_with_attempt(1000),
        runtime=scale_with_attempt(10),
    params:
        limits=json.dumps(RUN.limits, sort_keys=True),
        verdicts=lambda w, input: option("--verdicts", input.verdicts),
    shell:
        "python {input.code[0]:q} --limits {params.limits:q} --accuracy {input.accuracy:q}"
        " --perf {input.perf:q} --parity {input.parity:q} {params.verdicts:q} --output {output:q}"
        " --log {log:q}"


rule no_such_variant:
    """Refuse the figures of a variant that the configuration does not have: they are old ones."""
    input:
        # Snakemake would show a traceback of any exception.
        lambda w: sys.exit(
            f"configuration: {LAYOUT.variant(w.name).figures(w.kind)}: "
            + no_such("variant", w.name, RUN.variants)
        ),
    output:
        LAYOUT.variant("{name}").figures("{kind}"),
    wildcard_constraints:
        # In a module, figures in other folders are those of other modules.
        name=rf"(?!({any_of(RUN.variants)})_(accuracy|perf|perf_samples|parity)\.json)"
        rf"{'[^/]+' if IS_MODULE else '.+'}",
        kind="accuracy|perf|parity",
