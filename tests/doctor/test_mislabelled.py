"""Labels that look like wrong ones: the copies that are made, and what is learnt from them."""

import numpy as np
import pytest

pytest.importorskip("imagehash", reason="needs `pip install dualvit[doctor]`")

from dualvit.doctor.doubts import Seen, ranked_boxes
from dualvit.doctor.labels import ious
from dualvit.doctor.mislabelled import ENOUGH, PARTED, chances, evidence, wrong_copies


def scenes(pictures, rng, classes=1):
    """Twenty objects a picture, of 10 to 40 pixels, and what a model sees of them: most, with errors, and much else."""
    boxes, labels, found = [], [], []
    for _ in range(pictures):
        places = rng.permutation(49)[:20]
        corners = np.stack([places % 7, places // 7], 1) * 60 + rng.uniform(0, 15, (20, 2))
        right = np.concatenate([corners, corners + rng.uniform(10, 40, (20, 1))], 1)
        kinds = rng.integers(0, classes, 20)
        kept = rng.random(20) < 0.98
        noise = rng.uniform(0, 400, (10, 2))
        guessed = np.concatenate([right[kept] + rng.normal(0, 1.5, (kept.sum(), 4)), np.tile(noise, 2)])
        guessed[kept.sum() :, 2:] += 20
        scores = np.concatenate([rng.uniform(0.2, 0.9, kept.sum()), rng.uniform(0.001, 0.2, 10)])
        seen_kinds = np.concatenate([kinds[kept], rng.integers(0, classes, 10)])
        boxes.append(right)
        labels.append(kinds)
        found.append(Seen(guessed, seen_kinds, scores))
    return boxes, labels, found


def test_wrong_copies_are_wrong():
    rng = np.random.default_rng(0)
    boxes, labels, found = scenes(5, rng, classes=3)
    for theirs, kinds, seen in zip(boxes, labels, found, strict=True):
        made, other, places = wrong_copies(theirs, kinds, seen, 3, rng)
        assert len(made) == len(other) == len(places) and len(set(places.tolist())) == len(places) > 15
        apart = ious(made, theirs)[np.arange(len(made)), places] < PARTED
        assert (apart ^ (other != kinds[places])).all()  # in place or in class, and not in both
        assert (made >= 0).all() and (made[:, 2:] > made[:, :2]).all()


def test_no_room_for_a_wrong_copy():
    """A box of a pixel in a picture of a pixel has no other place."""
    rng = np.random.default_rng(0)
    seen = Seen(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))
    made, _, places = wrong_copies(np.array([[0.0, 0.0, 1.0, 1.0]]), np.array([0]), seen, 1, rng)
    assert made.shape == (0, 4) and len(places) == 0
    assert evidence(made, np.zeros(0, int), places, np.zeros((0, 4)), seen).shape == (0, 10)


def test_few_labels_teach_nothing():
    boxes, labels, found = scenes((ENOUGH - 1) // 20, np.random.default_rng(0))
    assert chances(boxes, labels, found) is None


@pytest.mark.parametrize("kind", ["moved", "resized", "swapped"])
def test_a_tenth_is_wrong(kind):
    """Of 800 labels a tenth is wrong; the first tenth of the ranking holds most of them, the first fifth nearly all."""
    rng = np.random.default_rng(1)
    boxes, labels, found = scenes(40, rng, classes=2)
    wrong = [rng.random(20) < 0.1 for _ in boxes]
    for theirs, kinds, chosen in zip(boxes, labels, wrong, strict=True):
        sides = theirs[chosen, 2:] - theirs[chosen, :2]
        if kind == "moved":
            theirs[chosen] += np.tile(0.8 * sides, 2)
        elif kind == "resized":
            theirs[chosen] = np.concatenate([theirs[chosen, :2], theirs[chosen, :2] + sides / 2], 1)
        else:
            kinds[chosen] = 1 - kinds[chosen]
    doubts, _ = ranked_boxes(boxes, labels, found)
    planted = np.array([wrong[one.picture][one.label] for one in doubts])
    assert len(planted) == 800
    assert planted[: planted.sum()].mean() > 0.5
    assert planted[:160].sum() > 0.9 * planted.sum()
    assert [one.confidence for one in doubts] == sorted(one.confidence for one in doubts)
    again, _ = ranked_boxes(boxes, labels, found)
    assert again == doubts
