"""How good a model is on a picture: objects matched as COCO does, and the confidence that is best for all pictures."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydantic", reason="needs dualvit[recipes] or dualvit[yolo]")

from dualvit.data.coco import Picture
from dualvit.report.matching import best_confidence, judged, matched
from dualvit.report.predictions import Answer, Category, Found, Predictions, Shown


def picture(*boxes, labels=None, number=1, segments=None):
    labels = labels or [0] * len(boxes)
    return Picture(
        number, Path("a.png"), 100, 100, np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64),
        segments or (None,) * len(boxes),
    )  # fmt: skip


def found(x1, y1, x2, y2, score, label=0, number=1, mask=None):
    return Found(number, label, [float(x1), float(y1), float(x2 - x1), float(y2 - y1)], score, mask)


def predictions(*rows, task="detect", answers=()):
    return Predictions(
        version=1, task=task, split="val", categories=[Category(0, "a"), Category(1, "b")],
        images=[Shown(1, "a.png", 100, 100)], annotations=list(rows), answers=list(answers),
    )  # fmt: skip


def test_the_surest_one_takes_an_object_and_another_class_none():
    truth = picture((0, 0, 10, 10), (50, 50, 70, 70), labels=[0, 1])
    rows = [
        found(0, 0, 10, 9, 0.9),
        found(0, 0, 10, 10, 0.8),
        found(50, 50, 70, 70, 0.7),
        found(50, 50, 70, 69, 0.6, 1),
    ]
    assert matched(truth, rows, masks=False) == [0, -1, -1, 1]
    assert matched(truth, rows[:1], masks=False) == [0]
    assert matched(picture(), rows, masks=False) == [-1] * 4
    assert matched(truth, [], masks=False) == []
    assert matched(truth, [found(0, 0, 10, 4.9, 0.9)], masks=False) == [-1]  # IoU 0.49


def test_masks_are_matched_by_their_pixels():
    pytest.importorskip("faster_coco_eval", reason="needs dualvit[recipes]")
    from dualvit.data.coco import encode

    upper, lower = np.zeros((100, 100), np.uint8), np.zeros((100, 100), np.uint8)
    upper[10:20, 10:50], lower[20:40, 10:50] = 1, 1
    truth = picture((10, 10, 50, 40), segments=([[10.0, 20.0, 50.0, 20.0, 50.0, 40.0, 10.0, 40.0]],))
    rows = [found(10, 10, 50, 40, 0.9, mask=encode(upper[None])[0]), found(10, 10, 50, 40, 0.8)]
    assert matched(truth, rows, masks=True) == [-1, -1]  # of the same box, and no pixel of it; and without a mask
    rows.append(found(0, 0, 1, 1, 0.7, mask=encode(lower[None])[0]))
    assert matched(truth, rows, masks=True) == [-1, -1, 0]


@pytest.mark.parametrize(
    ("rows", "true", "limit"),
    [
        ([], 3, 1.0),
        ([(0.9, True), (0.4, True), (0.3, False)], 2, 0.4),
        ([(0.9, False), (0.8, True)], 1, 0.8),
        ([(0.9, True), (0.5, True), (0.5, False), (0.5, False)], 2, 0.9),  # of equal ones all count: 0.57 < 0.67
    ],
)
def test_best_confidence(rows, true, limit):
    assert best_confidence(rows, true) == limit


def test_f1_of_a_picture():
    truth = picture((0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10))
    rows = [found(0, 0, 10, 10, 0.9), found(20, 0, 30, 10, 0.7), found(80, 80, 90, 90, 0.6), found(70, 0, 80, 9, 0.1)]
    model = judged("m", predictions(*reversed(rows)), {1: truth})
    one = model.pictures[1]
    assert model.confidence == 0.7
    assert one.score == pytest.approx(2 * 2 / (2 + 3))
    assert (len(one.hits), len(one.false), list(one.found), list(one.missed)) == (2, 0, [0, 1], [2])
    assert one.tie == pytest.approx(1.6)
    assert judged("m", predictions(), {1: picture()}).pictures[1].score == 1.0  # nothing there, nothing found
    assert judged("m", predictions(), {1: truth}).pictures[1].score == 0.0
    assert judged("m", predictions(*rows), {}).pictures == {}  # the picture is gone


def test_other_tasks_have_their_score_already():
    right = judged("m", predictions(task="classify", answers=[Answer(1, "a", 0.25)]), {})
    assert (right.pictures[1].score, right.confidence) == (0.25, None)
    mean = judged("m", predictions(task="semantic", answers=[Answer(1, miou=0.5), Answer(1, miou=None)]), {1: 0})
    assert mean.pictures[1].score == 0.5
