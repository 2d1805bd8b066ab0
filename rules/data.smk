"""Weights and datasets.

Takes: what `models` and `datasets` of the configuration name.
Makes: resources/weights/, resources/datasets/ and build/datasets/ (the crops).

Fetching runs where Snakemake runs: the nodes of a cluster often have no way out.
"""

from hrnetpose.artifacts.model import Crop
from hrnetpose.benchmark import PERSONS
from hrnetpose.layout import resource


wildcard_constraints:
    dataset=any_of(RUN.datasets),
    crop=Crop.NAME.pattern,
    subset="gt|det|calibration|benchmark",
    boxes="gt|det",
    shard=r"\d+-of-\d+",


localrules:
    fetch_file,
    fetch_calibration,


rule draw_sample:
    """Draw the embedded sample's people."""
    input:
        code=code("draw_sample"),
    output:
        archive=resource("datasets/sample/{split}.zip"),
        annotations=resource("datasets/sample/{split}.json"),
    log:
        LAYOUT.shared_log("draw_sample", "{split}"),
    wildcard_constraints:
        split=any_of(
            split
            for split in ("train", "val")
            # Of two modules, the one that uses them draws them.
            if not IS_MODULE or resource(f"datasets/sample/{split}.zip") in RUN.needed
        ),
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=scale_with_attempt(2000),
        runtime=scale_with_attempt(30),
    params:
        images=lambda w: {"train": 60, "val": 100}[w.split],
    shell:
        "python {input.code[0]:q} --split {wildcards.split:q} --images {params.images:q}"
        " --archive {output.archive:q} --annotations {output.annotations:q} --log {log:q}"


rule fetch_file:
    """Fetch a file from the first mirror that works, and check it.

    A file from elsewhere does not depend on the script that fetches it, nor on which mirror had
    it: the script is no input, and files with a known hash that are there have no rule at all.
    """
    input:
        lambda w: RUN.resources.downloads[resource(w.file)].input,
    output:
        resource("{file}"),
    log:
        LAYOUT.shared_log("fetch_file", "{file}"),
    wildcard_constraints:
        file=any_of(path.removeprefix(resource("")) for path in TO_FETCH),
    cache: IS_CACHED
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=scale_with_attempt(1000),
        runtime=scale_with_attempt(60),
    params:
        script=lambda w, output: str(SCRIPTS / "fetch_file.py"),
        download=lambda w: RUN.resources.downloads[resource(w.file)].flags,
        contents=lambda w: [
            contents_of(path) for path in RUN.resources.downloads[resource(w.file)].own
        ],
    shell:
        "python {params.script:q} {params.download:q} --output {output:q} --log {log:q}"


rule extract_annotations:
    """Take annotations out of their zip.  Unpacked by hand, they stay: the script is ancient."""
    input:
        code=ancient(code("extract_annotations")),
        archive=lambda w: RUN.resources.archives[resource(w.file)][0],
    output:
        resource("{file}"),
    log:
        LAYOUT.shared_log("extract_annotations", "{file}"),
    wildcard_constraints:
        file=any_of(path.removeprefix(resource("")) for path in RUN.resources.archives),
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=scale_with_attempt(2000),
        runtime=scale_with_attempt(60),
    params:
        member=lambda w: RUN.resources.archives[resource(w.file)][1],
    shell:
        "python {input.code[0]:q} --archive {input.archive:q} --member {params.member:q}"
        " --output {output:q} --log {log:q}"


rule fetch_calibration:
    """Fetch calibration images one by one, and list them with their hashes."""
    input:
        code=ancient(code("fetch_calibration")),
        pool=lambda w: RUN.datasets[w.dataset].calibration.pool.place,
    output:
        archive=DATASET.calibrated_on.images,
        annotations=DATASET.calibrated_on.annotations,
        manifest=DATASET.calibrated_on.manifest,
    log:
        LAYOUT.shared_log("fetch_calibration", "{dataset}"),
    wildcard_constraints:
        dataset=any_of(RUN.resources.calibration_to_fetch()),
    cache: IS_CACHED
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=scale_with_attempt(1000),
        runtime=scale_with_attempt(240),
    params:
        images=lambda w: RUN.datasets[w.dataset].calibration.count,
        identity=lambda w: RUN.datasets[w.dataset].calibration.identity,
    shell:
        "python {input.code[0]:q} --pool {input.pool:q} --count {params.images}"
        " --identity {params.identity:q} --archive {output.archive:q}"
        " --annotations {output.annotations:q} --manifest {output.manifest:q} --log {log:q}"


rule audit_dataset:
    """Read annotations once, check their images, and say what was found."""
    input:
        code=code("audit_dataset"),
        annotations=lambda w: RUN.datasets[w.dataset].subset(w.audited).annotations,
        images=lambda w: images_in(RUN.datasets[w.dataset].subset(w.audited).images),
    output:
        table=DATASET.annotations("{audited}"),
        audit=DATASET.audit("{audited}"),
    log:
        LAYOUT.shared_log("audit_dataset", "{dataset}_{audited}"),
    wildcard_constraints:
        audited="audit|calibration_audit",
    conda:
        "../envs/engines.yaml"
    threads: 2
    resources:
        # COCO's JSON takes 15 times its size.
        mem_mb=lambda w, input, attempt: (
            attempt * (1500 + 15 * os.path.getsize(input.annotations) // 1_000_000)
        ),
        runtime=scale_with_attempt(60),
    params:
        contents=lambda w: contents_of(RUN.datasets[w.dataset].subset(w.audited).images),
        annotations=lambda w: contents_of(
            RUN.datasets[w.dataset].subset(w.audited).annotations
        ),
        keypoints=option("--keypoints", RUN.evaluated_keypoints),
        category=lambda w: option(
            "--category", RUN.datasets[w.dataset].section.category
        ),
    shell:
        "python {input.code[0]:q} --annotations {input.annotations:q} --images {input.images:q}"
        " {params.keypoints:q} {params.category:q} --threads {threads} --output {output.table:q}"
        " --audit {output.audit:q} --log {log:q}"


rule detect_persons:
    """Find persons with a detector; write their boxes in COCO's result format."""
    input:
        code=code("detect_persons"),
        graph=lambda w: RUN.datasets[w.dataset].detector[0].place,
        pipeline=lambda w: [
            given.place for given in RUN.datasets[w.dataset].detector[1:]
        ],
        annotations=DATASET.annotations(),
        truths=lambda w: RUN.datasets[w.dataset].evaluated.annotations,
        images=lambda w: images_in(RUN.datasets[w.dataset].evaluated.images),
    output:
        boxes=DATASET.detections,
        summary=DATASET.detector,
    log:
        LAYOUT.shared_log("detect_persons", "{dataset}"),
    wildcard_constraints:
        dataset=any_of(name for name in RUN.datasets if RUN.datasets[name].detector),
    conda:
        "../envs/engines.yaml"
    threads: 2
    resources:
        mem_mb=lambda w, input, attempt: (
            attempt * (2000 + 15 * os.path.getsize(input.truths) // 1_000_000)
        ),
        runtime=scale_with_attempt(240),
    params:
        card=lambda w: RUN.datasets[w.dataset].section.detector.card.model_dump_json(
            exclude={"pipeline"}, exclude_unset=True
        ),
        pipeline=lambda w, input: option("--pipeline", input.pipeline),
        contents=lambda w: [
            contents_of(path)
            for dataset in [RUN.datasets[w.dataset]]
            for path in (
                dataset.evaluated.images,
                dataset.evaluated.annotations,
                *(given.place for given in dataset.detector),
            )
        ],
        versions=versions("onnxruntime"),
    shell:
        "python {input.code[0]:q} --onnx {input.graph:q} --card {params.card:q}"
        " {params.pipeline:q} --annotations {input.annotations:q} --truths {input.truths:q}"
        " --images {input.images:q} --threads {threads} --output {output.boxes:q}"
        " --summary {output.summary:q} --log {log:q}"


rule list_persons:
    """List the persons of a dataset: the annotated boxes, or a detector's."""
    input:
        code=code("list_persons"),
        annotations=lambda w: LAYOUT.dataset(w.dataset).annotations(
            "calibration_audit" if w.listed == "calibration" else "audit"
        ),
        detections=lambda w: (
            RUN.datasets[w.dataset].detected if w.listed == "det" else []
        ),
        detector=lambda w: (
            LAYOUT.dataset(w.dataset).detector
            if w.listed == "det" and RUN.datasets[w.dataset].detector
            else []
        ),
    output:
        table=DATASET.persons("{listed}"),
        summary=DATASET.person_summary("{listed}"),
    log:
        LAYOUT.shared_log("list_persons", "{dataset}_{listed}"),
    wildcard_constraints:
        listed="gt|det|calibration",
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=scale_with_attempt(4000),
        runtime=scale_with_attempt(30),
    params:
        detections=lambda w, input: option("--detections", input.detections)
        + option("--detector", input.detector),
        contents=lambda w: (
            contents_of(RUN.datasets[w.dataset].detected)
            if w.listed == "det"
            else None
        ),
        minimum=lambda w: (
            option("--minimum-score", RUN.datasets[w.dataset].section.detection_score)
            if w.listed == "det"
            else []
        ),
    shell:
        "python {input.code[0]:q} --annotations {input.annotations:q} {params.detections:q}"
        " {params.minimum:q} --output {output.table:q} --summary {output.summary:q} --log {log:q}"


rule make_crops:
    """Cut persons out of images, once for all variants of an input size.

    `gt` and `det` are what is evaluated, `calibration` is what int8 is calibrated on, and
    `benchmark` the first persons of `gt`, so that speed does not depend on the number of shards.
    """
    input:
        code=code("make_crops"),
        images=lambda w: images_in(RUN.datasets[w.dataset].subset(w.subset).images),
        persons=lambda w: LAYOUT.dataset(w.dataset).persons(
            "gt" if w.subset == "benchmark" else w.subset
        ),
    output:
        crops=DATASET.cut.crops("{crop}", "{subset}", "{shard}"),
        instances=DATASET.cut.instances("{crop}", "{subset}", "{shard}"),
    log:
        LAYOUT.shared_log("make_crops", "{dataset}_{crop}_{subset}_{shard}"),
    conda:
        "../envs/engines.yaml"
    threads: 2
    resources:
        mem_mb=scale_with_attempt(2000),
        runtime=scale_with_attempt(60),
    params:
        contents=lambda w: contents_of(RUN.datasets[w.dataset].subset(w.subset).images),
        first=lambda w: option("--first", PERSONS if w.subset == "benchmark" else None),
    shell:
        "python {input.code[0]:q} --persons {input.persons:q} --images {input.images:q}"
        " --crop {wildcards.crop:q} --shard {wildcards.shard:q} {params.first:q}"
        " --threads {threads} --output {output.crops:q} --instances {output.instances:q}"
        " --log {log:q}"


if RUN.config.crops == "temporary":

    use rule make_crops as make_temporary_crops with:
        input:
            code=code("make_crops"),
            images=images_in(RUN.dataset.evaluated.images),
            persons=lambda w: LAYOUT.dataset(w.dataset).persons(w.subset),
            # Only to wait for them; `ancient` would hide this job from Snakemake's look at its code.
            earlier=lambda w: RUN.earlier_predictions(w.crop, w.subset, w.shard),
        output:
            crops=temp(
                LAYOUT.temporary_crops("{dataset}").crops(
                    "{crop}", "{subset}", "{shard}"
                )
            ),
            instances=temp(
                LAYOUT.temporary_crops("{dataset}").instances(
                    "{crop}", "{subset}", "{shard}"
                )
            ),
        log:
            LAYOUT.log("make_crops", "{dataset}_{crop}_{subset}_{shard}"),


rule check_calibration:
    """List what int8 and fp8 are calibrated on; stop where it is also evaluated."""
    input:
        code=code("check_calibration"),
        annotations=DATASET.annotations("calibration_audit"),
        images=lambda w: images_in(RUN.datasets[w.dataset].subset("calibration").images),
        evaluated_annotations=DATASET.annotations("audit"),
        evaluated_images=lambda w: images_in(RUN.datasets[w.dataset].evaluated.images),
    output:
        DATASET.calibration,
    log:
        LAYOUT.shared_log("check_calibration", "{dataset}"),
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=scale_with_attempt(2000),
        runtime=scale_with_attempt(60),
    params:
        contents=lambda w: contents_of(
            RUN.datasets[w.dataset].subset("calibration").images
        ),
        evaluated=lambda w: contents_of(RUN.datasets[w.dataset].evaluated.images),
    shell:
        "python {input.code[0]:q} --annotations {input.annotations:q} --images {input.images:q}"
        " --evaluated-annotations {input.evaluated_annotations:q}"
        " --evaluated-images {input.evaluated_images:q} --output {output:q} --log {log:q}"
