"""What Snakemake would run: dry runs only."""

from pathlib import Path

import pytest

from support import Project


@pytest.fixture(scope="module")
def project(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project.copied(repository, tmp_path_factory.mktemp("project"))


def test_the_default_target_is_the_report_of_all_default_variants(project: Project) -> None:
    jobs = project.jobs()
    assert jobs == project.jobs("report")
    assert jobs == {
        "draw_sample": 2,
        "fetch_file": 1,
        "audit_dataset": 2,
        "list_persons": 2,
        "make_crops": 3,
        "export_onnx": 1,
        "simplify_onnx": 1,
        "convert_precision": 2,
        "check_calibration": 1,
        "quantize_int8": 1,
        "build_engine": 5,
        "predict_keypoints": 5,
        "score_accuracy": 5,
        "measure_machine": 1,
        "benchmark_engine": 5,
        "reference_outputs": 1,
        "measure_parity": 5,
        "write_report": 1,
        "report": 1,
    }


def test_a_single_figure_needs_only_its_own_stages(project: Project) -> None:
    assert project.jobs("results/fp16_perf.json") == {
        "draw_sample": 1,
        "fetch_file": 1,
        "audit_dataset": 1,
        "list_persons": 1,
        "make_crops": 1,
        "export_onnx": 1,
        "simplify_onnx": 1,
        "convert_precision": 1,
        "build_engine": 1,
        "measure_machine": 1,
        "benchmark_engine": 1,
    }


def test_accuracy_of_a_variant_brings_the_predictions_of_its_reference(project: Project) -> None:
    jobs = project.jobs("results/bf16_accuracy.json")
    assert (jobs["predict_keypoints"], jobs["score_accuracy"]) == (2, 1)
    assert "benchmark_engine" not in jobs


def test_shards_split_crops_and_predictions_and_nothing_else(project: Project) -> None:
    whole, split = project.jobs(), project.jobs("--config", "shards=4")
    changed = {rule for rule in whole if whole[rule] != split[rule]}
    assert changed == {"make_crops", "predict_keypoints"}
    assert split["predict_keypoints"] == 4 * whole["predict_keypoints"]
    assert split["make_crops"] == whole["make_crops"] + 3


def test_variants_set_to_null_are_left_out(project: Project) -> None:
    overlay = project.overlay({"variants": {"int8": None, "fp16": None}})
    jobs = project.jobs("--configfile", overlay)
    assert jobs["benchmark_engine"] == 3
    assert jobs["convert_precision"] == 1
    assert jobs["draw_sample"] == 1  # no calibration images


def test_detected_boxes_are_predicted_beside_the_true_ones(project: Project) -> None:
    overlay = project.overlay(
        {
            "datasets": {"sample": {"detections": "https://example.org/boxes.json"}},
            "protocols": {"boxes": ["gt", "det"]},
        }
    )
    whole, both = project.jobs(), project.jobs("--configfile", overlay)
    assert both["predict_keypoints"] == 2 * whole["predict_keypoints"]
    assert both["make_crops"] == whole["make_crops"] + 1
    assert both["fetch_file"] == whole["fetch_file"] + 1
    assert both["score_accuracy"] == whole["score_accuracy"]


def test_the_gate_needs_every_figure_and_no_report(project: Project) -> None:
    jobs = project.jobs("gate")
    assert jobs["check_gate"] == 1
    assert (jobs["score_accuracy"], jobs["benchmark_engine"], jobs["measure_parity"]) == (5, 5, 5)
    assert "write_report" not in jobs


def test_an_untrained_model_is_timed_but_not_scored(project: Project) -> None:
    overlay = project.overlay({"models": {"sample": {"weights": None}}})
    jobs = project.jobs("--configfile", overlay)
    assert jobs["benchmark_engine"] == 5
    assert not {"score_accuracy", "predict_keypoints", "fetch_file"} & set(jobs)


def test_two_models_of_one_input_size_share_their_crops(project: Project) -> None:
    model = {
        "config": "resources/sample/hrnet_sample_128x96.py",
        "weights": "resources/sample/hrnet_sample_128x96.pth",
    }
    overlay = project.overlay(
        {
            "models": {"twin": model},
            "variants": {
                "twin": {"model": "twin", "backend": "openvino", "precision": "fp32"},
            },
        }
    )
    jobs = project.jobs("--configfile", overlay)
    assert jobs["export_onnx"] == 2
    assert jobs["make_crops"] == project.jobs()["make_crops"]


def test_urls_are_fetched_and_paths_are_used_in_place(project: Project) -> None:
    overlay = project.overlay(
        {
            "models": {"sample": {"weights": "https://example.org/weights.pth"}},
            "datasets": {
                "sample": {
                    "images": "https://example.org/val.zip",
                    "annotations": "https://example.org/val.json",
                }
            },
        }
    )
    jobs = project.jobs("--configfile", overlay)
    assert jobs["fetch_file"] == 3
    assert jobs["draw_sample"] == 1  # the calibration images are still drawn


def test_a_figure_of_a_variant_that_there_is_not_is_refused(project: Project) -> None:
    old = project.folder / "results/old_perf.json"
    old.parent.mkdir()
    old.write_text("{}")
    for name in ("fp23", "old"):
        done = project.snakemake(f"results/{name}_perf.json")
        assert done.returncode != 0
        said = f"configuration: results/{name}_perf.json: there is no variant '{name}'"
        assert said in done.stderr
        assert "allowed: bf16, fp16, fp32, int8, pytorch" in done.stderr
        assert "Traceback" not in done.stderr
    old.unlink()
    old.parent.rmdir()


def test_a_key_that_stands_twice_is_refused(project: Project) -> None:
    (project.folder / "twice.yaml").write_text("shards: 2\nbenchmark: {}\nshards: 3\n")
    done = project.snakemake("--configfile", "twice.yaml")
    assert done.returncode != 0
    assert "twice.yaml: shards stands in line 1 and in line 3; leave one" in done.stderr


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ({"varients": {}}, "varients: unknown key (did you mean variants?); allowed: "),
        (
            {"variants": {"fp16": {"precison": "fp16"}}},
            "variants.fp16.precison: unknown key (did you mean precision?); allowed: backend, ",
        ),
        ({"variants": {"fp16": {"batch": "many"}}}, "variants.fp16.batch: 'many': "),
        ({"variants": {"fp16": {"batch": 0}}}, "variants.fp16.batch: 0: "),
        (
            {"variants": {"fp16": {"precision": "fp61"}}},
            "variants.fp16.precision: 'fp61' is not allowed; 'fp32', 'fp16', 'bf16', 'int8' or",
        ),
        (
            {"variants": {"fp16": {"backend": "openvinno"}}},
            "variants.fp16.backend: 'openvinno' is not defined (did you mean openvino?); allowed: ",
        ),
        (
            {"variants": {"bf16": {"backend": "onnxruntime"}}},
            "variants.bf16.precision: backend onnxruntime has no bf16; allowed: fp32, fp16, int8",
        ),
        (
            {"variants": {"fp32": {"backend": "openvino", "options": {"streems": 2}}}},
            "variants.fp32.options.streems: unknown key (did you mean streams?); allowed: ",
        ),
        ({"model": "hrnet"}, "model: 'hrnet' is not defined; allowed: sample"),
        ({"dataset": "coco"}, "dataset: 'coco' is not defined; allowed: sample"),
        ({"shards": 0}, "shards: 0: input should be greater than or equal to 1"),
        (
            {"datasets": {"sample": {"calibration": None}}},
            "variants.int8.precision: int8 needs calibration images",
        ),
        (
            {"protocols": {"boxes": ["det"]}},
            "protocols.boxes: det needs a detector's boxes, but datasets.sample has no ",
        ),
        (
            {
                "datasets": {
                    "sample": {
                        "detections": "b.json",
                        "detector": {"onnx": "d.onnx", "card": {"layout": "yolox"}},
                    }
                }
            },
            "datasets.sample.detector: there are `detections`, too; set one of them to null",
        ),
        (
            {
                "datasets": {"sample": {"detector": {"onnx": "d.onnx", "card": "pipeline.json"}}},
                "protocols": {"boxes": ["det"]},
            },
            "datasets.sample.detector.onnx: d.onnx: there is no such file",
        ),
        (
            {"datasets": {"sample": {"detector": {"onnx": "d.onnx", "card": {"mena": [1]}}}}},
            "datasets.sample.detector.card.mena: unknown key (did you mean mean?); allowed: ",
        ),
        (
            {"limits": {"ap_dorp": 0.01}},
            "limits.ap_dorp: unknown key (did you mean ap_drop?); allowed: ",
        ),
        (
            {"models": {"sample": {"config": "td-hm_hrnet-w99_coco"}}},
            "models.sample.config: td-hm_hrnet-w99_coco: mmpose has no config of that name",
        ),
        (
            {"models": {"sample": {"weights": "/data/epoch_210.pth"}}},
            "models.sample.weights: /data/epoch_210.pth: there is no such file",
        ),
    ],
)
def test_a_wrong_configuration_is_refused_before_any_job_starts(
    project: Project, overlay: dict[str, object], message: str
) -> None:
    done = project.snakemake("--configfile", project.overlay(overlay))
    assert done.returncode != 0
    assert f"configuration: {message}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (project.folder / "build").exists()


def test_a_detector_finds_the_boxes_that_are_predicted(project: Project) -> None:
    (project.folder / "d.onnx").write_bytes(b"a graph")
    detector = {"onnx": "d.onnx", "card": {"layout": "yolox", "decoded": False}}
    overlay = project.overlay(
        {"datasets": {"sample": {"detector": detector}}, "protocols": {"boxes": ["gt", "det"]}}
    )
    whole, both = project.jobs(), project.jobs("--configfile", overlay)
    assert both.pop("detect_persons") == 1
    assert both["list_persons"] == whole["list_persons"] + 1
    assert both["predict_keypoints"] == 2 * whole["predict_keypoints"]
    project.overlay({"datasets": {"sample": {"detector": detector}}})
    printed = project.succeed("--dry-run", "--configfile", overlay)
    assert "datasets.sample.detector: not used, since protocols.boxes is ['gt']" in printed


def test_other_weights_do_not_inherit_a_licence(project: Project) -> None:
    """Nor a hash, nor what was published: all that the configuration says of weights."""
    weights = "resources/sample/hrnet_sample_128x96.pth"
    (project.folder / "other.pth").write_bytes((project.folder / weights).read_bytes())
    bundle = "results/bundles/fp32.zip"

    def planned(**model: str) -> str:
        overlay = project.overlay({"models": {"sample": model}})
        return project.succeed("-n", "-p", bundle, "--configfile", overlay)

    assert "--license Apache-2.0 --attribution" in planned(weights=weights)
    assert "--license Apache-2.0" not in (printed := planned(weights="other.pth"))
    assert "--attribution" not in printed
    assert "--license MIT " in planned(weights="other.pth", license="MIT")
