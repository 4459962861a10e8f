"""Which labels a model doubts: the ranking, on predictions that are made up, and models that are asked."""

import numpy as np
import pytest
import torch
from doctor_sets import clean, picture

pytest.importorskip("imagehash", reason="needs `pip install dualvit[doctor]`")

from dualvit.doctor.doubts import Seen, ranked_boxes, ranked_classes
from dualvit.doctor.labels import ious
from dualvit.doctor.run import examine


def seen(*rows):
    """Predictions of x1, y1, x2, y2, class and score."""
    rows = np.array(rows, float).reshape(-1, 6)
    return Seen(rows[:, :4], rows[:, 4].astype(int), rows[:, 5])


def rank(boxes, labels, found):
    return ranked_boxes([np.array(boxes, float)], [np.array(labels)], [found])


def test_iou():
    a, b = np.array([[0, 0, 2, 2]]), np.array([[1, 0, 3, 2], [5, 5, 6, 6], [0, 0, 2, 2], [0, 0, 0, 0]])
    assert np.allclose(ious(a, b), [[1 / 3, 0, 1, 0]])


def test_kinds_of_doubts():
    found = seen(
        (0, 0, 10, 10, 0, 0.9),  # as labelled
        (20, 0, 30, 10, 1, 0.8),  # labelled 0
        (44, 0, 54, 10, 0, 0.7),  # labelled 4 pixels further left
        (80, 80, 90, 90, 1, 0.9),  # without a label
    )
    doubts, overlooked = rank([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]], [0, 0, 0, 0], found)
    assert [(one.label, one.kind) for one in doubts] == [(1, "swapped"), (3, "unseen"), (2, "located"), (0, "agreed")]
    assert doubts[0].suggestion == 1
    assert doubts[2].box == (44, 0, 54, 10)
    odds = (0.7 * (6 / 14) ** 2 + 1e-3) * 0.3
    usual = 0.7 * (6 / 14) ** 2 / 2 + 1e-3  # the median of 0, 0, that and 0.9
    assert doubts[2].confidence == pytest.approx(odds / (odds + usual))
    assert doubts[3].confidence == pytest.approx(0.901 / (0.901 + usual))
    assert [(one.kind, one.label, one.suggestion, one.box) for one in overlooked] == [
        ("overlooked", None, 1, (80, 80, 90, 90))
    ]


def test_of_two_labels_on_one_object_the_worse_one_is_doubted():
    doubts, _ = rank([[0, 0, 10, 10], [2, 0, 12, 10]], [0, 0], seen((0, 0, 10, 10, 0, 0.9)))
    assert [(one.label, one.kind, round(one.confidence, 3)) for one in doubts] == [
        (1, "unseen", 0.002), (0, "agreed", 0.666),
    ]  # fmt: skip


def test_pictures_without_labels_or_predictions():
    doubts, overlooked = ranked_boxes(
        [np.zeros((0, 4)), np.array([[0, 0, 5, 5.0]])], [np.zeros(0, int), np.array([0])],
        [seen((0, 0, 5, 5, 0, 0.2)), seen()],
    )  # fmt: skip
    assert [(one.picture, one.kind, one.confidence) for one in doubts] == [(1, "unseen", 0.5)]
    assert overlooked == []  # nothing says how sure this model is when it is right


def test_wrong_boxes_come_first_though_the_model_is_unsure():
    """400 objects of 20 pixels, a tenth moved; a weak model sees them, some not at all, and much else."""
    rng = np.random.default_rng(0)
    boxes, labels, found, wrong = [], [], [], []
    for _ in range(20):
        places = rng.permutation(64)[:20]
        corners = np.stack([places % 8, places // 8], 1) * 40 + rng.uniform(0, 15, (20, 2))
        right = np.concatenate([corners, corners + 20], 1)
        moved = rng.random(20) < 0.1
        given = right + moved[:, None] * np.tile(rng.choice([-15, 15], (20, 2)), 2)
        kept = rng.random(20) < 0.9
        guessed = right[kept] + rng.normal(0, 1.5, (kept.sum(), 4))
        noise = rng.uniform(0, 300, (40, 2))
        noise = np.concatenate([noise, noise + 20], 1)
        scores = np.concatenate([rng.uniform(0.2, 0.9, len(guessed)), rng.uniform(0.001, 0.1, 40)])
        found.append(Seen(np.concatenate([guessed, noise]), np.zeros(len(scores), int), scores))
        boxes.append(given)
        labels.append(np.zeros(20, int))
        wrong.append(moved)
    doubts, overlooked = ranked_boxes(boxes, labels, found)
    planted = np.array([wrong[one.picture][one.label] for one in doubts])
    assert len(doubts) == 400  # too few to learn from
    assert planted[: planted.sum()].mean() > 0.5
    assert planted[:80].sum() > 0.9 * planted.sum()
    assert [one.confidence for one in overlooked] == sorted([one.confidence for one in overlooked], reverse=True)


def test_small_objects_are_not_doubted_because_a_model_hardly_sees_any():
    """A hundred objects of 4 pixels with scores about 0.02, and as many of 40 with 0.8; of each ten are elsewhere."""
    rng = np.random.default_rng(0)
    boxes, seens, wrong = [], [], []
    for side, score in ((4, 0.02), (40, 0.8)):
        for index in range(100):
            right = np.array([50, 50, 50 + side, 50 + side], float)
            wrong.append(index < 10)
            boxes.append(right[None] + (3 * side if index < 10 else 0))
            seens.append(seen((*right, 0, score * rng.uniform(0.8, 1.2))))
    doubts, _ = ranked_boxes(boxes, [np.zeros(1, int)] * 200, seens)
    assert [wrong[one.picture] for one in doubts] == [True] * 20 + [False] * 180


def test_classes_that_a_model_is_shy_of_are_not_all_doubted():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 600)
    labels = np.where(rng.random(600) < 0.1, (truth + 1) % 3, truth)
    sure = np.array([0.9, 0.8, 0.45])[truth] + rng.uniform(-0.05, 0.05, 600)
    rest = (1 - sure) / 2
    probabilities = np.tile(rest[:, None], 3)
    probabilities[np.arange(600), truth] = sure
    probabilities[7] = np.nan
    doubts = ranked_classes(labels, probabilities)
    flagged = {one.picture for one in doubts if one.kind == "swapped"}
    assert len(doubts) == 599
    assert flagged <= set(np.nonzero(labels != truth)[0].tolist())
    assert len(flagged) > 0.8 * (labels != truth).sum()
    assert [one.picture in flagged for one in doubts[:20]] == [True] * 20


class Known:
    """A witness that says what it was given."""

    def __init__(self, task, classes, answers):
        self.task, self.classes, self.answers = task, classes, answers

    def objects(self, file):
        return self.answers[file.name]

    def probabilities(self, file):
        return self.answers[file.name]


def test_what_a_report_says_of_doubts(tmp_path):
    from dualvit.doctor.model import doubts_of
    from dualvit.errors import InputError

    examination = examine(clean(tmp_path))
    box = np.array([[28.8, 12.8, 67.2, 51.2]])  # of every picture
    answers = {f"p{i}.jpg": (box, np.array([i % 2]), np.array([0.5 + i / 100])) for i in range(9)}
    answers["p3.jpg"] = (box, np.array([0]), np.array([0.9]))
    told = []
    items = examination.readable()
    doubts = doubts_of(Known("detect", ("a", "b"), answers), examination.data, items, lambda *done: told.append(done))
    assert told == [(count, 9) for count in range(1, 10)]
    first = doubts["labels"][0]
    assert (first["kind"], first["label"], first["sees"], first["split"]) == ("swapped", "b", "a", "train")
    assert first["place"].endswith("labels/train/p3.txt, line 1")
    assert (doubts["ranked"], len(doubts["labels"]), doubts["overlooked"]) == (9, 9, [])
    with pytest.raises(InputError, match=r"the model knows a \(1\), and the data set has a, b \(2\)"):
        doubts_of(Known("detect", ("a",), answers), examination.data, items, print)
    with pytest.raises(InputError, match="the model is for classify, and the data set for detect"):
        doubts_of(Known("classify", ("a", "b"), answers), examination.data, items, print)


def test_checkpoint_of_yolo_is_asked(tmp_path):
    pytest.importorskip("ultralytics", reason="needs dualvit[yolo]")
    from dualvit.doctor.model import open_witness
    from dualvit.yolo import YOLO

    torch.manual_seed(0)
    model = YOLO("yolov8n-dualvit.yaml")
    model.save_weights(tmp_path / "w.safetensors")
    picture(1).save(tmp_path / "p.jpg")
    witness = open_witness(tmp_path / "w.safetensors", 64)
    boxes, labels, scores = witness.objects(tmp_path / "p.jpg")
    assert boxes.shape == (len(scores), 4)
    assert len(labels) == len(scores)
    assert (witness.task, len(witness.classes)) == ("detect", 80)
