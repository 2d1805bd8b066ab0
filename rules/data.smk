"""Weights and datasets.

Takes: what `models` and `datasets` of the configuration name.
Makes: resources/weights/, resources/datasets/ and build/datasets/ (the crops).
"""


# They need the internet, which the nodes of a cluster seldom have.
localrules:
    fetch_weights,
    fetch_images,
    fetch_annotations,
    fetch_detections,


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


rule fetch_weights:
    """Brings a checkpoint here and checks its hash."""
    input:
        code=code("fetch_file"),
        source=lambda wildcards: source(PLAN.config.models[wildcards.model].weights),
    output:
        "resources/weights/{model}.pth",
    log:
        "logs/fetch_weights/{model}.log",
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=more(1000),
        runtime=more(60),
        gpu=0,
    params:
        source=lambda wildcards: PLAN.config.models[wildcards.model].weights,
        sha256=lambda wildcards: option(
            "--sha256", PLAN.config.models[wildcards.model].sha256
        ),
    shell:
        "python {input.code[0]:q} --source {params.source:q} {params.sha256:q}"
        " --output {output:q} --log {log:q}"


rule fetch_images:
    """Brings a dataset's zip of images here, if it is named by a URL."""
    input:
        code=code("fetch_file"),
    output:
        "resources/datasets/{dataset}/images.zip",
    log:
        "logs/fetch_images/{dataset}.log",
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=more(1000),
        runtime=more(240),
        gpu=0,
    params:
        source=lambda wildcards: PLAN.config.datasets[wildcards.dataset].images,
    shell:
        "python {input.code[0]:q} --source {params.source:q} --output {output:q} --log {log:q}"


rule fetch_annotations:
    """Brings a dataset's annotations here, if they are named by a URL."""
    input:
        code=code("fetch_file"),
    output:
        "resources/datasets/{dataset}/annotations.json",
    log:
        "logs/fetch_annotations/{dataset}.log",
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=more(1000),
        runtime=more(60),
        gpu=0,
    params:
        source=lambda wildcards: PLAN.config.datasets[wildcards.dataset].annotations,
    shell:
        "python {input.code[0]:q} --source {params.source:q} --output {output:q} --log {log:q}"


rule fetch_detections:
    """Brings a dataset's detected boxes here, if they are named by a URL."""
    input:
        code=code("fetch_file"),
    output:
        "resources/datasets/{dataset}/detections.json",
    log:
        "logs/fetch_detections/{dataset}.log",
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=more(1000),
        runtime=more(60),
        gpu=0,
    params:
        source=lambda wildcards: PLAN.config.datasets[wildcards.dataset].detections,
    shell:
        "python {input.code[0]:q} --source {params.source:q} --output {output:q} --log {log:q}"


rule list_persons:
    """Lists the persons of a dataset: the annotated boxes, or a detector's."""
    input:
        code=code("list_persons"),
        annotations=listed_annotations,
        detections=listed_detections,
    output:
        "build/datasets/{dataset}/persons_{listed}.npz",
    log:
        "logs/list_persons/{dataset}_{listed}.log",
    conda:
        "../envs/engines.yaml"
    threads: 1
    resources:
        mem_mb=memory_of_json,
        runtime=more(30),
        gpu=0,
    params:
        detections=listed_detection_flags,
        # Snakemake does not compare parameters that are made from inputs.
        minimum=lambda wildcards: (
            PLAN.config.datasets[wildcards.dataset].detection_score
            if wildcards.listed == "det"
            else None
        ),
    shell:
        "python {input.code[0]:q} --annotations {input.annotations:q} {params.detections:q}"
        " --output {output:q} --log {log:q}"


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
