"""Which labels a model doubts, after the ideas of confident learning (Northcutt et al., 2021, arXiv 1911.00068).

A model that was trained on noisy labels still agrees with most of the right ones. What it says with little confidence
of a label, or with much of something that no label names, is worth a second look.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

from dualvit.doctor.labels import ious
from dualvit.doctor.mislabelled import chances

Array = np.ndarray[Any, Any]
MEETS = 0.5  # IoU from which a prediction and a label are of one object
NEAR = 0.1  # IoU from which a prediction may be meant by a label that is badly located
LEAST = 1e-3  # confidence that a model has in what it does not see
BINS, FULL = 12, 50  # of sizes, at the most, and labels in each, at the least


@dataclass(frozen=True)
class Seen:
    """What a model sees in a picture.

    Attributes:
        boxes: (M, 4) of x1, y1, x2, y2 in pixels.
        labels: (M,) indices of classes.
        scores: (M,) from 0 to 1; also of boxes that the model hardly believes in.
    """

    boxes: Array
    labels: Array
    scores: Array


@dataclass(frozen=True)
class Doubt:
    """What a model doubts.

    Attributes:
        picture: Its number among those that were given.
        kind: located, swapped, unseen, or agreed, of a label; overlooked, of an object without a label.
        confidence: Of the model in the label, 0 to 1, the lowest first; for overlooked objects in what it sees there.
        label: Which of the picture's labels; None for an overlooked object.
        suggestion: The class that the model sees there; None if it sees nothing.
        box: Where the model sees it, if it sees anything.
    """

    picture: int
    kind: str
    confidence: float
    label: int | None
    suggestion: int | None
    box: tuple[float, ...] | None = None


def ranked_boxes(
    boxes: Sequence[Array], labels: Sequence[Array], seen: Sequence[Seen]
) -> tuple[list[Doubt], list[Doubt]]:  # fmt: skip
    """Rank the labels of objects by a model's confidence in them.

    A prediction vouches for one label alone, by its score times the square of its IoU with it; the assignment of all
    is the best one in sum. So of two labels on one object, the worse one is doubted. What else the model sees at a
    label, of another class or at another place, speaks against it by its score. All that is held against what the
    model usually says for labels of this class and size: small objects are not doubted only because it hardly sees
    any of them. A confidence of 0.5 is the usual one.

    If there are enough labels, the confidence is what `mislabelled.chances` learns from them instead.

    Args:
        boxes: Of each picture, (N, 4).
        labels: Of each picture, (N,).
        seen: Of each picture.

    Returns:
        Every label, the most doubtful first; and the objects that were overlooked, the most certain first.
    """
    looked = [
        _matched(theirs.reshape(-1, 4), classes, found)
        for theirs, classes, found in zip(boxes, labels, seen, strict=True)
    ]
    values = np.concatenate([one.vouched for one in looked]) if looked else np.zeros(0)
    usual = iter(_usual(values, np.concatenate([*labels, []]), np.concatenate([*map(_sides, boxes), []])).tolist())
    believed = float(values[values > 0].mean()) if (values > 0).any() else 1.0
    doubts, overlooked = [], []
    for picture, (one, found) in enumerate(zip(looked, seen, strict=True)):
        for index, (own, rival) in enumerate(zip(one.vouched.tolist(), one.rivals.tolist(), strict=True)):
            against = float(found.scores[rival]) if rival >= 0 else 0.0
            odds = (own + LEAST) / (next(usual) + LEAST) * (1 - against)
            confidence = odds / (1 + odds)
            kind, best = one.kinds[index], rival if one.kinds[index] != "agreed" else one.partners[index]
            sees = None if best < 0 else int(found.labels[best])
            place = None if best < 0 else tuple(map(float, found.boxes[best]))
            doubts.append(Doubt(picture, kind, confidence, index, sees, place))
        for index in one.lonely.tolist():
            score = float(found.scores[index])
            if score >= believed:
                place = tuple(map(float, found.boxes[index]))
                overlooked.append(Doubt(picture, "overlooked", score, None, int(found.labels[index]), place))
    if (wrong := chances(boxes, labels, seen)) is not None:
        doubts = [replace(one, confidence=1 - float(wrong[one.picture][one.label or 0])) for one in doubts]
    return sorted(doubts, key=lambda one: one.confidence), sorted(overlooked, key=lambda one: -one.confidence)


def _sides(boxes: Array) -> Array:
    """The mean side of each box."""
    return np.sqrt(np.clip(boxes.reshape(-1, 4)[:, 2:] - boxes.reshape(-1, 4)[:, :2], 0, None).prod(1))


def _usual(vouched: Array, labels: Array, sides: Array) -> Array:
    """The median of what is said for labels of the same class and about the same size."""
    usual = np.zeros(len(vouched))
    for label in np.unique(labels):
        chosen = np.nonzero(labels == label)[0]
        chosen = chosen[np.argsort(sides[chosen], kind="stable")]
        for part in np.array_split(chosen, min(BINS, max(len(chosen) // FULL, 1))):
            usual[part] = np.median(vouched[part])
    return usual


@dataclass(frozen=True)
class _Matched:
    """Labels and predictions of a picture, put together.

    Attributes:
        vouched: (N,) what the partner of each label says for it.
        partners: (N,) the prediction that vouches for each label; -1 for none.
        rivals: (N,) the prediction that speaks against it most; -1 for none.
        kinds: Of the doubts.
        lonely: The predictions of no label.
    """

    vouched: Array
    partners: Array
    rivals: Array
    kinds: list[str]
    lonely: Array


def _matched(theirs: Array, classes: Array, found: Seen) -> _Matched:
    overlaps = ious(theirs, found.boxes.reshape(-1, 4))  # (N, M)
    same = classes[:, None] == found.labels[None]
    worth = overlaps**2 * found.scores[None] * same
    rows, columns = linear_sum_assignment(worth, maximize=True)
    vouched, partners = np.zeros(len(theirs)), np.full(len(theirs), -1)
    vouched[rows] = worth[rows, columns]
    partners[rows] = np.where(overlaps[rows, columns] >= NEAR, columns, -1)
    vouched[partners < 0] = 0
    free = np.ones(len(found.scores), bool)
    free[columns[(overlaps[rows, columns] >= MEETS) & same[rows, columns]]] = False
    elsewhere = same & (overlaps >= NEAR) & (overlaps < MEETS)
    otherwise = ~same & (overlaps >= MEETS)
    against = np.where((elsewhere | otherwise) & free[None], found.scores[None], 0.0)
    rivals = np.where(against.max(1, initial=0) > 0, against.argmax(1), -1) if free.size else partners
    kinds = []
    for index, rival in enumerate(rivals.tolist()):
        if rival >= 0 and found.scores[rival] > vouched[index]:
            kinds.append("located" if same[index, rival] else "swapped")
        else:
            kinds.append("agreed" if vouched[index] > 0 else "unseen")
    return _Matched(vouched, partners, rivals, kinds, np.nonzero(overlaps.max(0, initial=0) < NEAR)[0])


def ranked_classes(labels: Array, probabilities: Array) -> list[Doubt]:
    """Rank the classes of pictures, the most doubtful first.

    The confidence is the normalised margin of confident learning: the label's probability against the best of the
    others. A class counts from the mean probability that it has in pictures of its own: no class is doubted only
    because the model is shy of it.

    Args:
        labels: (N,).
        probabilities: (N, C); a picture that cannot be read has NaN and is left out.

    Example:
        >>> sure, wrong = [0.9, 0.1], [0.2, 0.8]
        >>> [(one.picture, one.kind) for one in ranked_classes(np.array([0, 0, 1]), np.array([sure, wrong, wrong]))]
        [(1, 'swapped'), (2, 'agreed'), (0, 'agreed')]
    """
    known = np.isfinite(probabilities).all(1)
    thresholds = np.array(
        [
            probabilities[known & (labels == index), index].mean() if (known & (labels == index)).any() else 1.0
            for index in range(probabilities.shape[1])
        ]
    )
    doubts = []
    for index in np.nonzero(known)[0].tolist():
        row, own = probabilities[index], int(labels[index])
        others = np.where(np.arange(len(row)) == own, -np.inf, row)
        best = int(np.argmax(others))
        confidence = (float(row[own] - others[best]) + 1) / 2
        claimed = row[best] >= thresholds[best] and row[best] > row[own]
        doubts.append(Doubt(index, "swapped" if claimed else "agreed", confidence, None, best))
    return sorted(doubts, key=lambda one: one.confidence)
