"""Score predicted keypoints with COCO's evaluation and compare them with the reference's.

    python workflow_scripts/score_accuracy.py --annotations audit.npz --audit audit.json \\
        --persons persons.json --engine build/engines/bf16 --dataset coco_val2017 \\
        --predictions predictions.npz --reference pytorch reference_predictions.npz \\
        --output bf16_accuracy.json
"""

import argparse
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hrnetpose import files, stage
from hrnetpose.artifacts.accuracy import (
    Accuracy,
    Delta,
    JointError,
    KeypointView,
    PersonOks,
    Protocol,
    ProtocolResult,
)
from hrnetpose.artifacts.audit import Audit
from hrnetpose.artifacts.engine import ENGINE_CARD, EngineCard, EngineReference
from hrnetpose.artifacts.findings import Finding
from hrnetpose.artifacts.model import Evaluation, ModelCard
from hrnetpose.artifacts.persons import PersonList
from hrnetpose.data.annotations import Annotations
from hrnetpose.pose import bootstrap, joints
from hrnetpose.pose.score import Evaluator, Predictions, Scored
from hrnetpose.stage import StageError

RESAMPLES = 1000
OKS_STEPS = 50
"""Of the distribution of OKS."""
WORST, TYPICAL = 24, 4
"""Persons that are named, so that they can be looked at; as many of 100,000 as of 30."""
Nms = Literal["hard", "soft"]
NMS: dict[Nms, Literal["oks_nms", "soft_oks_nms"]] = {"hard": "oks_nms", "soft": "soft_oks_nms"}
"""What the configuration calls it -> CocoMetric's name."""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("--annotations", type=Path, required=True, help="of audit_dataset (.npz)")
    command.add_argument("--audit", type=Path, required=True, help="what was found in them (JSON)")
    command.add_argument(
        "--persons",
        type=Path,
        nargs="+",
        required=True,
        help="of list_persons, each box set (JSON)",
    )
    command.add_argument("--engine", type=Path, required=True, help="the engine's folder")
    command.add_argument("--dataset", required=True, help="what the dataset is called")
    command.add_argument(
        "--nms", choices=NMS, help="OKS NMS, instead of what the model's config says"
    )
    command.add_argument(
        "--predictions", type=Path, nargs="+", required=True, help=".npz, in order"
    )
    command.add_argument(
        "--reference", nargs="+", help="a variant and its predictions, to compare with"
    )
    command.add_argument("--output", type=Path, required=True, help="the accuracy (JSON)")
    return command


def main(
    *,
    annotations: Path,
    audit: Path,
    persons: list[Path],
    engine: Path,
    dataset: str,
    nms: Nms | None,
    predictions: list[Path],
    reference: list[str] | None,
    output: Path,
) -> None:
    """Run the stage."""
    card = EngineCard.read(engine / ENGINE_CARD)
    model = card.model
    truths = Annotations.read(annotations).reorder(model.keypoints.names)
    listed = [finding for path in persons for finding in PersonList.read(path).findings]
    findings = [*Audit.read(audit).findings, *truths.findings, *listed]
    for finding in findings:
        logging.warning("%s", finding.text)
    evaluator = Evaluator(truths, model.keypoints.oks_sigmas(), choose_settings(model, nms))

    def score_all(paths: Sequence[Path]) -> Iterator[tuple[Protocol, Scored]]:
        for boxes, flip, scored in score(paths, evaluator, annotations):
            told = describe_persons(scored.predictions, findings, boxes)
            yield protocol(boxes, flip, model, evaluator.settings, dataset, told), scored

    name, paths = (reference[0], map(Path, reference[1:])) if reference else (None, [])
    others = {made.label: scored for made, scored in score_all(list(paths))}
    results = []
    for made, scored in score_all(predictions):
        logging.info("%s\n%s", made.label, scored.summary)
        results.append(
            ProtocolResult(
                metrics=scored.metrics,
                protocol=made,
                delta=delta(made, scored, others.get(made.label), name),
                instances=len(scored.predictions.ids),
                images=len(np.unique(scored.predictions.image_ids)),
                keypoints=view_keypoints(scored, others.get(made.label), evaluator, model)
                if made.boxes == "gt"
                else None,
                precision=describe_precision(scored),
            )
        )
    Accuracy(
        **dict(results[0]),
        engine=EngineReference(variant=card.variant, sha256=card.sha256),
        protocols=results,
        findings=findings,
    ).write(output)


def choose_settings(model: ModelCard, nms: Nms | None) -> Evaluation:
    """Return how predictions are scored: as the model's config says, but for `--nms`."""
    change = {"nms_mode": NMS[nms]} if nms else {}
    return model.evaluation.model_copy(update=change)


def score(
    paths: Sequence[Path], evaluator: Evaluator, annotations: Path
) -> Iterator[tuple[Literal["gt", "det"], bool, Scored]]:
    """Yield each box set without and with flip test, scored.

    Args:
        paths: the shards of all box sets, in order.
        evaluator: knows the annotated persons.
        annotations: their file, for messages.

    Raises:
        StageError: the predictions are of other persons.
    """
    columns = predicted(len(evaluator.sigmas))
    tables = [files.read_table(path, columns) for path in paths]
    for path, table in zip(paths, tables, strict=True):
        if not is_made_on(table, evaluator.truths):
            raise StageError(
                f"{path}: its persons are not those of {annotations}; delete it and run again"
            )
    boxes: Any
    for boxes in dict.fromkeys(str(table["boxes_from"]) for table in tables):
        parts = [table for table in tables if table["boxes_from"] == boxes]
        for number, flip in enumerate(parts[0]["flip"]):
            evaluator.reset()
            for part in parts:
                evaluator.process(
                    Predictions.of(part, part["keypoints"][number], part["scores"][number])
                )
            yield boxes, bool(flip), evaluator.evaluate()


def is_made_on(table: Mapping[str, npt.NDArray[Any]], truths: Annotations) -> bool:
    """Return True if predictions were made on a dataset."""
    known = np.isin(table["image_id"], truths.image_ids).all()
    return bool(known and (table["boxes_from"] == "det" or np.isin(table["id"], truths.ids).all()))


def predicted(keypoints: int) -> dict[str, str]:
    """Return what predictions hold, as `files.read_table` reads it; F are the flip tests."""
    return {
        "id": "int64 N",
        "image_id": "int64 N",
        "box": "float32 N 4",
        "box_score": "float32 N",
        "scale": "float32 N 2",
        "boxes_from": "str",
        "keypoints": f"float32 F N {keypoints} 2",
        "scores": f"float32 F N {keypoints}",
        "flip": "int64 F",
    }


def describe_persons(
    predictions: Predictions, findings: Sequence[Finding], boxes: str
) -> list[str]:
    """Return how many persons a figure is of, and what findings change about it."""
    images, persons = len(np.unique(predictions.image_ids)), len(predictions.ids)
    told = [f.label for f in findings if f.label and f.boxes in (None, boxes)]
    return [f"{images} images", f"{persons} persons", *told]


def protocol(
    boxes: Literal["gt", "det"],
    flip: bool,
    model: ModelCard,
    settings: Evaluation,
    dataset: str,
    found: Sequence[str],
) -> Protocol:
    """Name what a figure was measured under."""
    decode = model.codec.label
    subset = f"{dataset} ({', '.join(found)})"
    flipped = "flip test" if flip else "no flip"
    parts = [f"{boxes} boxes", flipped, f"{decode} decoding", settings.label, subset]
    return Protocol(
        boxes=boxes,
        flip=flip,
        decode=decode,
        subset=subset,
        label=", ".join(filter(None, parts)),
    )


def delta(
    protocol: Protocol, scored: Scored, other: Scored | None, reference: str | None
) -> Delta | None:
    """Compare a variant's figure with the reference's.

    Raises:
        StageError: the reference has no figure under the same label.
    """
    if reference is None:
        return None
    if other is None:
        raise StageError(
            f"--reference {reference}: has no figure under {protocol.label!r}, and figures of "
            "different protocols are not comparable; predict both on the same persons"
        )
    change, low, high = bootstrap.ap_difference(scored, other, RESAMPLES)
    return Delta(
        reference=reference,
        AP=change,
        ci95=(low, high),
        verdict=bootstrap.verdict(low, high),
        resamples=RESAMPLES,
    )


def describe_precision(scored: Scored) -> dict[str, list[float]]:
    """Return the precision over recall."""
    lines = {
        "0.5": scored.precision[0],
        "0.75": scored.precision[5],
        "mean": scored.precision.mean(0),
    }
    return {name: np.round(line, 4).tolist() for name, line in lines.items()}


def view_keypoints(
    scored: Scored, other: Scored | None, evaluator: Evaluator, model: ModelCard
) -> KeypointView | None:
    """Look at the keypoints themselves, on ground-truth boxes, which say whose they are.

    There is nothing to look at where nobody who was cut out has a labelled keypoint.

    Args:
        scored: the variant.
        other: its reference; None for that one.
        evaluator: knows the annotated persons.
        model: knows the keypoints' names.
    """
    truths, sigmas = evaluator.truths, evaluator.sigmas
    persons, rows = joints.pairs(truths.ids, scored.predictions.ids)
    predicted = scored.predictions.keypoints[rows].astype(np.float64)
    distance = joints.distances(predicted, truths.keypoints[persons])
    share = joints.normalised(distance, truths.boxes[persons])
    mean, median = joints.mean_and_median(distance)
    mean_share, _ = joints.mean_and_median(share)
    labelled = (truths.keypoints[persons, :, 2] > 0).sum(axis=0)
    similarities = joints.person_oks(predicted, truths, persons, sigmas)
    if np.isnan(similarities).all():
        return None
    counts, _ = np.histogram(similarities[~np.isnan(similarities)], OKS_STEPS, (0, 1))
    worst, typical = choose_persons(similarities, truths, persons, other, sigmas)
    bins = joints.visibility_bins(len(sigmas))
    by_visible = joints.ap_by_visible_keypoints(truths, scored.detections, sigmas, bins)
    return KeypointView(
        mean_oks=joints.mean_oks(similarities),
        pck={
            f"{limit:g}": float(correct[-1])
            for limit, correct in zip(joints.PCK_FRACTIONS, joints.pck(share), strict=True)
        },
        by_joint={
            name: JointError(
                mean_px=finite(mean[k]),
                median_px=finite(median[k]),
                mean_share=finite(mean_share[k]),
                labelled=int(labelled[k]),
            )
            for k, name in enumerate(model.keypoints.names)
        },
        ap_by_visible_keypoints={
            f"{fewest}-{most}": ap for (fewest, most), ap in zip(bins, by_visible, strict=True)
        },
        oks_counts=counts.tolist(),
        worst=worst,
        typical=typical,
    )


def choose_persons(
    similarities: npt.NDArray[np.float64],
    truths: Annotations,
    persons: npt.NDArray[np.intp],
    other: Scored | None,
    sigmas: npt.NDArray[np.float64],
) -> tuple[list[PersonOks], list[PersonOks]]:
    """Return the persons on whom the variant is worst, and some in the middle.

    Worst is where OKS falls most against the reference's, or for that one itself, is the lowest.

    Args:
        similarities: float64 [P], the OKS of each person.
        truths: the annotated persons.
        persons: intp [P], which of them those are.
        other: the reference.
        sigmas: the OKS constants [K].
    """
    references = np.full(len(truths.ids), np.nan)
    if other is not None:
        theirs, rows = joints.pairs(truths.ids, other.predictions.ids)
        predicted = other.predictions.keypoints[rows].astype(np.float64)
        references[theirs] = joints.person_oks(predicted, truths, theirs, sigmas)
    change = similarities - references[persons] if other is not None else similarities
    order = np.argsort(change, kind="stable")[: np.count_nonzero(~np.isnan(change))]
    middle = max(0, len(order) // 2 - TYPICAL // 2)

    def describe(row: int) -> PersonOks:
        person = persons[row]
        return PersonOks(
            id=int(truths.ids[person]),
            image_id=int(truths.image_ids[truths.images[person]]),
            oks=float(similarities[row]),
            reference=None if other is None else float(references[person]),
        )

    return (
        [describe(row) for row in order[:WORST]],
        [describe(row) for row in order[middle : middle + TYPICAL]],
    )


def finite(value: float) -> float | None:
    """Return a number that JSON can hold: None where nobody has the joint labelled."""
    return float(value) if math.isfinite(value) else None


if __name__ == "__main__":
    stage.run(parser(), main)
