"""Score predicted keypoints with COCO's evaluation and compare them with the reference's.

    python workflow_scripts/score_accuracy.py --annotations audit.npz --audit audit.json \\
        --persons persons.json --engine build/engines/bf16 --dataset coco_val2017 \\
        --predictions predictions.npz --reference pytorch reference_predictions.npz \\
        --output bf16_accuracy.json
"""

import argparse
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hrnetpose import files, stage
from hrnetpose.artifacts.accuracy import (
    Accuracy,
    Delta,
    JointError,
    KeypointView,
    Protocol,
    ProtocolResult,
)
from hrnetpose.artifacts.audit import Audit
from hrnetpose.artifacts.engine import ENGINE_CARD, EngineCard, EngineReference
from hrnetpose.artifacts.findings import Finding
from hrnetpose.artifacts.model import Evaluation, ModelCard
from hrnetpose.artifacts.persons import PersonList
from hrnetpose.data.annotations import Annotations
from hrnetpose.pose import bootstrap, evaluation, joints, score
from hrnetpose.pose.evaluation import Detections, Matches
from hrnetpose.pose.score import Predictions
from hrnetpose.stage import StageError

RESAMPLES = 1000
NMS: dict[str, Literal["oks_nms", "soft_oks_nms"]] = {"hard": "oks_nms", "soft": "soft_oks_nms"}
"""What the configuration calls it -> CocoMetric's name."""


@dataclass(frozen=True)
class Scored:
    """One protocol's predictions and what became of them."""

    protocol: Protocol
    predictions: Predictions
    detections: Detections
    matches: Matches
    instances: int
    images: int


def parser() -> argparse.ArgumentParser:
    """Returns the command line."""
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


def main(**given: Any) -> None:
    """Runs the stage."""
    args = argparse.Namespace(**given)
    card = EngineCard.read(args.engine / ENGINE_CARD)
    truths = Annotations.read(args.annotations).ordered(card.model.keypoints.names)
    if not asked(card.model, args).use_area:
        truths = truths.with_areas_of_boxes()
    listed = [finding for path in args.persons for finding in PersonList.read(path).findings]
    findings = [*Audit.read(args.audit).findings, *truths.findings, *listed]
    for finding in findings:
        logging.warning("%s", finding.text)
    name, *paths = args.reference or [None]
    reference = {
        other.protocol.label: other
        for other in scored([Path(path) for path in paths], card.model, truths, findings, args)
    }
    results = [
        ProtocolResult(
            metrics=evaluation.accumulate(one.matches),
            protocol=one.protocol,
            delta=delta(one, reference.get(one.protocol.label), name),
            instances=one.instances,
            images=one.images,
            keypoints=keypoint_view(one, truths, card.model),
        )
        for one in scored(args.predictions, card.model, truths, findings, args)
    ]
    Accuracy(
        **dict(results[0]),
        engine=EngineReference(variant=card.variant, sha256=card.sha256),
        protocols=results,
        findings=findings,
    ).write(args.output)


def scored(
    paths: list[Path],
    model: ModelCard,
    truths: Annotations,
    findings: Sequence[Finding],
    args: argparse.Namespace,
) -> Iterator[Scored]:
    """Yields each box set with and without flip test, scored.

    Args:
        paths: the shards of all box sets, in order.
        model: says how keypoints were decoded.
        truths: the annotated persons.
        findings: what labels tell of the data.
        args: the command line.
    """
    columns = ("id", "image_id", "box", "box_score", "scale")
    number = len(model.keypoints.names)
    shards = [files.read_table(path, predicted(number)) for path in paths]
    for boxes in dict.fromkeys(str(shard["boxes_from"]) for shard in shards):
        parts = [shard for shard in shards if shard["boxes_from"] == boxes]
        table = {n: np.concatenate([part[n] for part in parts]) for n in columns}
        positions = np.concatenate([part["keypoints"] for part in parts], axis=1)
        scores = np.concatenate([part["scores"] for part in parts], axis=1)
        known = np.isin(table["image_id"], truths.image_ids).all()
        if not known or (boxes == "gt" and not np.isin(table["id"], truths.ids).all()):
            raise StageError(
                f"{paths[0]}: its persons are not those of {args.annotations}; delete it and run "
                "again"
            )
        instances, images = len(table["id"]), len(np.unique(table["image_id"]))
        subset = [f"{images} images", f"{instances} persons"]
        subset += [f.label for f in findings if f.label and f.boxes in (None, boxes)]
        for number, flip in enumerate(parts[0]["flip"]):
            predictions = Predictions(
                ids=table["id"],
                image_ids=table["image_id"],
                keypoints=positions[number],
                scores=scores[number],
                box_scores=table["box_score"],
                boxes=table["box"],
                areas=table["scale"].prod(axis=1),
            )
            sigmas = model.keypoints.oks_sigmas()
            detections = score.detections(predictions, sigmas, asked(model, args))
            yield Scored(
                protocol=protocol(boxes, bool(flip), model, args, subset),
                predictions=predictions,
                detections=detections,
                matches=evaluation.match(truths, detections, sigmas),
                instances=instances,
                images=images,
            )


def asked(model: ModelCard, args: argparse.Namespace) -> Evaluation:
    """Returns how predictions are scored: as the model's config says, but for `--nms`."""
    change = {"nms_mode": NMS[args.nms]} if args.nms else {}
    return model.evaluation.model_copy(update=change)


def predicted(keypoints: int) -> dict[str, str]:
    """Returns what predictions hold, as `files.read_table` reads it; F are the flip tests."""
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


def protocol(
    boxes: Any, flip: bool, model: ModelCard, args: argparse.Namespace, found: Sequence[str]
) -> Protocol:
    """Names what a figure was measured under."""
    decode = model.codec.label
    subset = f"{args.dataset} ({', '.join(found)})"
    flipped = "flip test" if flip else "no flip"
    parts = [f"{boxes} boxes", flipped, f"{decode} decoding", asked(model, args).label, subset]
    return Protocol(
        boxes=boxes,
        flip=flip,
        decode=decode,
        subset=subset,
        label=", ".join(filter(None, parts)),
    )


def delta(one: Scored, other: Scored | None, reference: str | None) -> Delta | None:
    """Compares a variant's figure with the reference's.

    Raises:
        StageError: the reference has no figure under the same label.
    """
    if reference is None:
        return None
    if other is None:
        raise StageError(
            f"--reference {reference}: has no figure under {one.protocol.label!r}, and figures of "
            "different protocols are not comparable; predict both on the same persons"
        )
    change, low, high = bootstrap.ap_difference(one.matches, other.matches, RESAMPLES)
    return Delta(
        reference=reference,
        AP=change,
        ci95=(low, high),
        verdict=bootstrap.verdict(low, high),
        resamples=RESAMPLES,
    )


def keypoint_view(one: Scored, truths: Annotations, model: ModelCard) -> KeypointView | None:
    """Looks at the keypoints themselves; only ground-truth boxes say whose they are."""
    if one.protocol.boxes != "gt":
        return None
    persons, rows = joints.pairs(truths.ids, one.predictions.ids)
    predicted = one.predictions.keypoints[rows].astype(np.float64)
    distance = joints.distances(predicted, truths.keypoints[persons])
    share = joints.normalised(distance, truths.boxes[persons])
    mean, median = joints.mean_and_median(distance)
    mean_share, _ = joints.mean_and_median(share)
    labelled = (truths.keypoints[persons, :, 2] > 0).sum(axis=0)
    sigmas = model.keypoints.oks_sigmas()
    bins = joints.visibility_bins(len(sigmas))
    by_visible = joints.ap_by_visible_keypoints(truths, one.detections, sigmas, bins)
    return KeypointView(
        mean_oks=joints.mean_oks(predicted, truths, persons, sigmas),
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
    )


def finite(value: float) -> float | None:
    """Returns a number that JSON can hold: None where nobody has the joint labelled."""
    return float(value) if math.isfinite(value) else None


if __name__ == "__main__":
    stage.run(parser(), main)
