"""Weights and datasets.

Takes: what `models` and `datasets` of the configuration name.
Makes: resources/weights/, resources/datasets/ and build/datasets/ (the crops).

Fetching runs where Snakemake runs: the nodes of a cluster often have no way out.
"""


localrules:
    fetch_file,
    fetch_calibration,


rule draw_sample:
    """Draws the embedded sample's people."""
    input:
        code=code("draw_sample"),
    output:
        archive="resources/datasets/sample/{split}.zip",
        annotations="resources/datasets/sample/{split}.json",
    log:
        "logs/draw_sample/{split}.log",
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=more(2000),
        runtime=more(30),
        gpu=0,
    params:
        images=lambda wildcards: {"train": 60, "val": 100}[wildcards.split],
    shell:
        "python {input.code[0]:q} --split {wildcards.split:q} --images {params.images:q}"
        " --archive {output.archive:q} --annotations {output.annotations:q} --log {log:q}"


rule fetch_file:
    """Brings a file here, from the first of its sources that has it, and checks it.

    A file from elsewhere does not depend on the script that fetches it, nor on which mirror had
    it: the script is no input, and files with a known hash that are there have no rule at all.
    """
    input:
        lambda wildcards: PLAN.downloads[f"resources/{wildcards.file}"].input,
    output:
        "resources/{file}",
    log:
        "logs/fetch_file/{file}.log",
    wildcard_constraints:
        file=plan.any_of(TO_FETCH),
    cache: SHARED
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=more(1000),
        runtime=more(60),
        gpu=0,
    params:
        script=lambda wildcards, output: library("fetch_file.py"),
        download=lambda wildcards: PLAN.downloads[f"resources/{wildcards.file}"].flags,
        contents=lambda wildcards: [
            contents_of(path)
            for path in PLAN.downloads[f"resources/{wildcards.file}"].own
        ],
    shell:
        "python {params.script:q} {params.download:q} --output {output:q} --log {log:q}"


rule extract_annotations:
    """Takes annotations out of their zip.  Unpacked by hand, they stay: the script is ancient."""
    input:
        code=ancient(code("extract_annotations")),
        archive=lambda wildcards: PLAN.archives[f"resources/{wildcards.file}"][0],
    output:
        "resources/{file}",
    log:
        "logs/extract_annotations/{file}.log",
    wildcard_constraints:
        file=plan.any_of(TO_EXTRACT),
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=more(2000),
        runtime=more(60),
        gpu=0,
    params:
        member=lambda wildcards: PLAN.archives[f"resources/{wildcards.file}"][1],
    shell:
        "python {input.code[0]:q} --archive {input.archive:q} --member {params.member:q}"
        " --output {output:q} --log {log:q}"


rule fetch_calibration:
    """Fetches calibration images one by one, and lists them with their hashes."""
    input:
        code=ancient(code("fetch_calibration")),
        pool=lambda wildcards: PLAN.calibration_pool(wildcards.dataset),
    output:
        archive="resources/datasets/{dataset}/calibration/images.zip",
        annotations="resources/datasets/{dataset}/calibration/annotations.json",
        manifest="resources/datasets/{dataset}/calibration/manifest.json",
    log:
        "logs/fetch_calibration/{dataset}.log",
    wildcard_constraints:
        dataset=plan.any_of(PLAN.calibration_to_fetch()),
    cache: SHARED
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=more(1000),
        runtime=more(240),
        gpu=0,
    params:
        images=lambda wildcards: PLAN.calibration_count(wildcards.dataset),
        identity=lambda wildcards: PLAN.calibration_identity(wildcards.dataset),
    shell:
        "python {input.code[0]:q} --pool {input.pool:q} --count {params.images}"
        " --identity {params.identity:q} --archive {output.archive:q}"
        " --annotations {output.annotations:q} --manifest {output.manifest:q} --log {log:q}"


rule audit_dataset:
    """Reads annotations once, checks their images, and says what was found."""
    input:
        code=code("audit_dataset"),
        annotations=audited_annotations,
        images=lambda wildcards: images_in(audited_images(wildcards)),
    output:
        table="build/datasets/{dataset}/{audited}.npz",
        audit="build/datasets/{dataset}/{audited}.json",
    log:
        "logs/audit_dataset/{dataset}_{audited}.log",
    conda:
        "../envs/engines.yaml"
    threads: 2
    resources:
        mem_mb=memory_of_json,
        runtime=more(60),
        gpu=0,
    params:
        contents=lambda wildcards: contents_of(audited_images(wildcards)),
        annotations=lambda wildcards: contents_of(audited_annotations(wildcards)),
        keypoints=option("--keypoints", PLAN.evaluated_keypoints()),
        category=lambda wildcards: option(
            "--category", PLAN.config.datasets[wildcards.dataset].category
        ),
    shell:
        "python {input.code[0]:q} --annotations {input.annotations:q} --images {input.images:q}"
        " {params.keypoints:q} {params.category:q} --threads {threads} --output {output.table:q}"
        " --audit {output.audit:q} --log {log:q}"


rule list_persons:
    """Lists the persons of a dataset: the annotated boxes, or a detector's."""
    input:
        code=code("list_persons"),
        annotations=listed_annotations,
        detections=listed_detections,
    output:
        table="build/datasets/{dataset}/persons_{listed}.npz",
        summary="build/datasets/{dataset}/persons_{listed}.json",
    log:
        "logs/list_persons/{dataset}_{listed}.log",
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=more(4000),
        runtime=more(30),
        gpu=0,
    params:
        detections=listed_detection_flags,
        contents=lambda wildcards: [
            contents_of(path) for path in [listed_detections(wildcards)] if path
        ],
        # Snakemake does not compare parameters that are made from inputs.
        minimum=lambda wildcards: (
            PLAN.config.datasets[wildcards.dataset].detection_score
            if wildcards.listed == "det"
            else None
        ),
    shell:
        "python {input.code[0]:q} --annotations {input.annotations:q} {params.detections:q}"
        " --output {output.table:q} --summary {output.summary:q} --log {log:q}"


rule make_crops:
    """Cuts persons out of images, once for all variants of an input size.

    `gt` and `det` are what is evaluated, `calibration` is what int8 is calibrated on, and
    `benchmark` the first persons of `gt`, so that speed does not depend on the number of shards.
    """
    input:
        code=code("make_crops"),
        images=lambda wildcards: images_in(subset_images(wildcards)),
        persons=subset_persons,
    output:
        crops="build/datasets/{dataset}/{crop}/{subset}/crops_{scatteritem}.npy",
        instances="build/datasets/{dataset}/{crop}/{subset}/instances_{scatteritem}.npz",
    log:
        "logs/make_crops/{dataset}_{crop}_{subset}_{scatteritem}.log",
    conda:
        "../envs/engines.yaml"
    threads: 2
    resources:
        mem_mb=more(2000),
        runtime=more(60),
        gpu=0,
    params:
        contents=lambda wildcards: contents_of(subset_images(wildcards)),
        first=lambda wildcards: option(
            "--first", 128 if wildcards.subset == "benchmark" else None
        ),
    shell:
        "python {input.code[0]:q} --persons {input.persons:q} --images {input.images:q}"
        " --crop {wildcards.crop:q} --shard {wildcards.scatteritem:q} {params.first:q}"
        " --threads {threads} --output {output.crops:q} --instances {output.instances:q}"
        " --log {log:q}"


rule check_calibration:
    """Lists what int8 and fp8 are calibrated on; stops where it is also evaluated."""
    input:
        code=code("check_calibration"),
        annotations="build/datasets/{dataset}/calibration_audit.npz",
        images=lambda wildcards: images_in(PLAN.calibration(wildcards.dataset).images),
        evaluated_annotations="build/datasets/{dataset}/audit.npz",
        evaluated_images=lambda wildcards: images_in(PLAN.images(wildcards.dataset)),
    output:
        "build/datasets/{dataset}/calibration.json",
    log:
        "logs/check_calibration/{dataset}.log",
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=more(2000),
        runtime=more(60),
        gpu=0,
    params:
        contents=lambda wildcards: contents_of(
            PLAN.calibration(wildcards.dataset).images
        ),
        evaluated=lambda wildcards: contents_of(PLAN.images(wildcards.dataset)),
    shell:
        "python {input.code[0]:q} --annotations {input.annotations:q} --images {input.images:q}"
        " --evaluated-annotations {input.evaluated_annotations:q}"
        " --evaluated-images {input.evaluated_images:q} --output {output:q} --log {log:q}"
