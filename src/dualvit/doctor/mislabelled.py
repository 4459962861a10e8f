"""How much a label looks like one that is wrong, learnt from the data set itself: of each label a wrong copy is made.

A forest learns to tell the labels from their wrong copies by what a model says of both. It answers for each label by
those trees alone that were grown without it. Most labels are right, so a label that looks like a wrong copy is likely
one. (After synthetic label errors in the evaluation of confident learning, and learning from positive and unlabelled
examples, Elkan and Noto, 2008.)
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dualvit.doctor.labels import ious

if TYPE_CHECKING:
    from dualvit.doctor.doubts import Seen

ENOUGH = 500  # labels from which there is something to learn
TREES, LEAF = 200, 10  # LEAF: labels in a leaf at the least
PARTED = 0.6  # IoU of a wrong copy with its label, at the most
TRIALS = 20
Array = np.ndarray[Any, Any]


def chances(
    boxes: Sequence[Array], labels: Sequence[Array], seen: Sequence["Seen"], seed: int = 0
) -> list[Array] | None:
    """Return for each label of each picture how much it looks like a wrong one, 0 to 1.

    Args:
        boxes: Of each picture, (N, 4) of x1, y1, x2, y2.
        labels: Of each picture, (N,) classes.
        seen: What the model sees in each picture.
        seed: Of the wrong copies and of the forest.

    Returns:
        Of each picture (N,); None if there are too few labels to learn from.
    """
    if sum(map(len, boxes)) < ENOUGH:
        return None
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(seed)
    classes = int(max(part.max(initial=0) for part in labels)) + 1
    rows, copies = [], []
    for theirs, kinds, found in zip(boxes, labels, seen, strict=True):
        places = np.arange(len(theirs))
        rows.append(evidence(theirs, kinds, places, theirs, found))
        wrong, other, places = wrong_copies(theirs, kinds, found, classes, rng)
        copies.append(evidence(wrong, other, places, theirs, found))
    real, made = np.concatenate(rows), np.concatenate(copies)
    forest = RandomForestClassifier(TREES, min_samples_leaf=LEAF, oob_score=True, random_state=seed)
    forest.fit(np.concatenate([real, made]), np.repeat([0, 1], [len(real), len(made)]))
    answers = np.nan_to_num(forest.oob_decision_function_[: len(real), 1], nan=0.5)
    return np.split(answers, np.cumsum([len(part) for part in rows])[:-1])


def wrong_copies(
    boxes: Array, labels: Array, found: "Seen", classes: int, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Make a wrong copy of each label: moved, elsewhere, of another size or, if there are several, of another class.

    Returns:
        The boxes, their classes, and which label each is made of; labels without room for a wrong one are left out.
    """
    reach = np.concatenate([boxes, found.boxes.reshape(-1, 4), np.zeros((1, 4))])[:, 2:].max(0)
    made: list[tuple[Array, int, int]] = []
    for index, (box, label) in enumerate(zip(boxes, labels.tolist(), strict=True)):
        if classes > 1 and rng.random() < 0.25:
            made.append((box, int((label + rng.integers(1, classes)) % classes), index))
        elif (copy := _displaced(box, reach, rng)) is not None:
            made.append((copy, label, index))
    if not made:
        return np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, int)
    copies, kinds, places = zip(*made, strict=True)
    return np.stack(copies), np.array(kinds), np.array(places)


def _displaced(box: Array, reach: Array, rng: np.random.Generator) -> Array | None:
    """A box that is elsewhere than this one, or of another size; None if the picture has no room for it."""
    centre, sides = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    for _ in range(TRIALS):
        place, size, kind = centre, sides, rng.integers(3)  # of the same form: nothing else must tell a copy
        if kind == 0:
            place = centre + sides * rng.uniform(-1.2, 1.2, 2)
        elif kind == 1:
            place = rng.uniform(0, reach)
        else:
            size = sides * np.exp(rng.choice((-1, 1)) * rng.uniform(0.4, 0.9))
        copy = np.clip(np.concatenate([place - size / 2, place + size / 2]), 0, [*reach, *reach])
        if (copy[2:] - copy[:2] > 1).all() and ious(box[None], copy[None])[0, 0] < PARTED:
            return copy
    return None


def evidence(boxes: Array, labels: Array, places: Array, others: Array, found: "Seen") -> Array:
    """Return what a model says of labels, (N, 10).

    Args:
        boxes, labels: The labels.
        places: Which of the picture's labels each stands for; its other labels speak too.
        others: All labels' boxes of the picture, (L, 4).
        found: What the model sees there.
    """
    mine = np.arange(len(boxes))
    seen = np.concatenate([found.boxes.reshape(-1, 4), np.zeros((1, 4))])  # one of nothing, so that there is one
    scores, kinds = np.append(found.scores, 0.0), np.append(found.labels, -1)
    overlaps, same = ious(boxes, seen), labels[:, None] == kinds[None]  # (N, M)
    backed = overlaps * scores * same
    best = backed.argmax(1)
    elsewhere = _by_others(ious(others, seen), places)  # (N, M)
    beside = ious(boxes, others)
    beside[mine, places] = 0
    sides, theirs = (np.clip(part[:, 2:] - part[:, :2], 1e-3, None) for part in (boxes, seen))
    stretch = np.where(overlaps[mine, best, None] > 0, np.log(sides / theirs[best]), 0)  # (N, 2)
    columns = [
        (overlaps**2 * scores * same).max(1),  # the best backing, as `ranked_boxes` counts it
        overlaps[mine, best], scores[best],  # of the prediction that backs it most
        stretch.mean(1), np.abs(stretch[:, 0] - stretch[:, 1]),  # how much larger the label is, and of another form
        elsewhere[mine, best],  # how well another label fits that prediction
        np.where(elsewhere <= overlaps, backed, 0).max(1),  # backing that fits no other label better
        (overlaps * scores * ~same).max(1),  # of other classes
        beside.max(1, initial=0), np.log(sides).mean(1),
    ]  # fmt: skip
    return np.stack(columns, 1)


def _by_others(overlaps: Array, places: Array) -> Array:
    """The best overlap of each prediction with labels other than each of these: (L, M) and (N,) to (N, M)."""
    if len(overlaps) < 2:
        return np.zeros((len(places), overlaps.shape[1]))
    second, first = np.sort(overlaps, 0)[-2:]
    return np.where(overlaps.argmax(0)[None] == places[:, None], second[None], first[None])
