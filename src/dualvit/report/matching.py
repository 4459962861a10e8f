"""How good one model is on one picture: objects matched as COCO matches them, and a score from 0 to 1."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torchvision.ops import box_iou

from dualvit.data.coco import Picture, decode, encode
from dualvit.report.predictions import Found, Predictions

MEETS = 0.5  # IoU from which an object is found
MEASURES = {
    "detect": f"F1 at IoU {MEETS:g}", "segment": f"F1 of masks at IoU {MEETS:g}",
    "classify": "the probability of the right class", "semantic": "the mean IoU",
}  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """What a model says of a picture, beside the truth.

    Attributes:
        score: From 0 to 1.
        tie: What decides between pictures of equal difference: how sure the model is of what is right, less of what is
            wrong.
        hits, false: Objects that were found, and that are not there, with a confidence from the limit on.
        found: For each hit, which true object it is.
        missed: True objects that were not found.
    """

    score: float
    tie: float = 0.0
    hits: Sequence[Found] = ()
    false: Sequence[Found] = ()
    found: Sequence[int] = ()
    missed: Sequence[int] = ()


@dataclass(frozen=True)
class Model:
    """What a model says of all pictures.

    Attributes:
        label: Of the model.
        pictures: By their numbers.
        confidence: The limit from which an object counts; None if there are no objects.
    """

    label: str
    pictures: Mapping[int, Judged] = field(default_factory=dict)
    confidence: float | None = None


def judged(label: str, predictions: Predictions, truth: Mapping[int, Any]) -> Model:
    """Judge a model's predictions: F1 of objects, the probability of the right class, or the mean IoU.

    Args:
        label: Of the model.
        predictions: Of its cell.
        truth: Of detectors: what is in the pictures, by their numbers.
    """
    if predictions.task in ("detect", "segment"):
        return objects(label, predictions, truth)
    rows = predictions.answers
    if predictions.task == "classify":
        return Model(label, {row.image_id: Judged(row.right) for row in rows})
    return Model(label, {row.image_id: Judged(row.miou) for row in rows if row.miou is not None})


def objects(label: str, predictions: Predictions, truth: Mapping[int, Picture]) -> Model:
    """Match objects with IoU 0.5 in each picture, at the confidence that gives most F1 over all pictures.

    Objects are matched by masks if the task has any.
    """
    found: dict[int, list[Found]] = {image.id: [] for image in predictions.images if image.id in truth}
    for one in predictions.annotations:
        if one.image_id in found:
            found[one.image_id].append(one)
    masks = predictions.task == "segment" or any(one.segmentation for one in predictions.annotations)
    for rows in found.values():
        rows.sort(key=lambda one: -one.score)
    partners = {number: matched(truth[number], rows, masks) for number, rows in found.items()}
    true = {number: len(truth[number].labels) for number in found}
    flat = [
        (one.score, partner >= 0)
        for number, rows in found.items()
        for one, partner in zip(rows, partners[number], strict=True)
    ]
    confidence = best_confidence(flat, sum(true.values()))
    said = {number: _judged(rows, partners[number], true[number], confidence) for number, rows in found.items()}
    return Model(label, said, confidence)


def _judged(found: Sequence[Found], partners: Sequence[int], true: int, confidence: float) -> Judged:
    kept = [(one, partner) for one, partner in zip(found, partners, strict=True) if one.score >= confidence]
    hits, false = [one for one, partner in kept if partner >= 0], [one for one, partner in kept if partner < 0]
    met = [partner for _, partner in kept if partner >= 0]
    score = 2 * len(hits) / (len(kept) + true) if kept or true else 1.0
    tie = sum(one.score for one in hits) - sum(one.score for one in false)
    return Judged(score, tie, hits, false, met, [index for index in range(true) if index not in met])


def matched(picture: Picture, found: Sequence[Found], masks: bool) -> list[int]:
    """Match found objects to true ones of their class, the surest first, each to the free one that it covers best.

    Args:
        picture: What is there.
        found: The surest first.
        masks: Whether masks are compared, and not boxes.

    Returns:
        For each found object the true one, or -1; a weaker object does not change what a surer one has.
    """
    overlaps = _mask_ious(picture, found) if masks else _box_ious(picture, found)
    labels = np.array([one.category_id for one in found], int)
    overlaps = np.where(labels[:, None] == picture.labels[None], overlaps, 0.0)  # (M, N)
    partners, free = [], np.ones(len(picture.labels), bool)
    for row in overlaps:
        row = np.where(free, row, 0.0)
        best = int(row.argmax()) if len(row) else -1
        partners.append(best if best >= 0 and row[best] >= MEETS else -1)
        if partners[-1] >= 0:
            free[best] = False
    return partners


def best_confidence(found: Sequence[tuple[float, bool]], true: int) -> float:
    """Return the confidence from which found objects give most F1 over all pictures.

    Args:
        found: For each object its confidence, and whether it is there.
        true: How many there are.

    Example:
        >>> best_confidence([(0.9, True), (0.4, True), (0.3, False), (0.2, False)], true=2)
        0.4
    """
    if not found:
        return 1.0
    order = sorted(found, key=lambda pair: -pair[0])
    scores = np.array([score for score, _ in order])
    hits = np.cumsum([hit for _, hit in order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + max(true, 1))
    last = np.append(scores[1:] != scores[:-1], True)  # of equal confidence all count, or none
    return float(scores[np.where(last, f1, -1.0).argmax()])


def _box_ious(picture: Picture, found: Sequence[Found]) -> np.ndarray:
    corners = torch.tensor([one.bbox for one in found], dtype=torch.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return box_iou(corners, torch.from_numpy(picture.boxes).double()).numpy()


def _mask_ious(picture: Picture, found: Sequence[Found]) -> np.ndarray:
    from faster_coco_eval import mask

    size = picture.height, picture.width
    if not found or not len(picture.labels):
        return np.zeros((len(found), len(picture.labels)))
    nothing = {"size": list(size), "counts": encode(np.zeros((1, *size), np.uint8))[0]["counts"]}
    theirs = [nothing if segment is None else encode(decode(segment, *size)[None])[0] for segment in picture.segments]
    ours = [one.segmentation if _fits(one, size) else nothing for one in found]
    return np.asarray(mask.iou(ours, theirs, [0] * len(theirs)))


def _fits(one: Found, size: tuple[int, int]) -> bool:
    runs = one.segmentation
    return runs is not None and runs.get("size") == list(size) and isinstance(runs.get("counts"), str)
