"""YOLO in smaller precisions: what runs as a file is scored as Ultralytics scores the network, of masks and classes."""

import numpy as np
import pytest
import torch
from PIL import Image

from dualvit.errors import InputError
from dualvit.yolo.export import answers
from dualvit.yolo.model import YOLO
from dualvit.yolo.quantised import YoloSubject

SIDE = 64


def saved(name, file, classes):
    """Write a checkpoint of a stock network that learned nothing."""
    torch.manual_seed(0)
    model = YOLO(name)
    model.model = type(model.model)(model.model.yaml, nc=len(classes), verbose=False)
    model.model.names, model.model.task = dict(enumerate(classes)), model.task
    model.model.args = {"imgsz": SIDE, "task": model.task}
    model.overrides |= {"imgsz": SIDE, "task": model.task}
    model.save(file)
    return file


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """8 and 3 pictures of each of two shades."""
    root = tmp_path_factory.mktemp("classes")
    for split, count in (("train", 8), ("val", 3)):
        for shade, name in ((60, "dark"), (200, "light")):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                Image.new("RGB", (70, 50), (shade + index,) * 3).save(root / split / name / f"{index}.png")
    return root


def as_file(subject):
    """What a file of the network answers, without writing one."""
    network = subject.model.model.float().eval()
    return lambda image: [out.numpy() for out in answers(network, torch.from_numpy(image))]


def test_classes_are_scored_as_by_the_validator(folders, tmp_path):
    subject = YoloSubject(saved("yolov8n-cls.yaml", tmp_path / "a.pt", ["dark", "light"]), folders, SIDE)
    assert (subject.counted, subject.sure, subject.describe()["head"]) == ("pictures", 0.0, "probabilities")
    run = as_file(subject)
    measures, rows = subject.score(run)
    whole = YOLO(tmp_path / "a.pt").val(data=str(folders), imgsz=SIDE, plots=False, workers=0, device="cpu",
                                        project=str(tmp_path), verbose=False)  # fmt: skip
    assert measures == {"top-1": pytest.approx(whole.top1)}
    assert sorted(rows) == [str(file) for file in sorted((folders / "val").rglob("*.png"))]
    for file, (row,) in rows.items():
        (shares,) = run(subject.picture(file))
        assert row["category_id"] == shares[0].argmax() and row["score"] == pytest.approx(shares[0].max(), abs=1e-3)
    assert len(subject.training_files()) == 16 and subject.example().shape == (1, 3, SIDE, SIDE)
    assert subject.error([np.array([[0.25, 0.75]])], [np.array([[0.5, 0.5]])]) == 0.25


def test_masks_and_boxes_are_scored_as_by_the_validator(digits, tmp_path):
    names = [str(number) for number in range(10)]
    subject = YoloSubject(saved("yolov8n-seg.yaml", tmp_path / "a.pt", names), digits, SIDE)
    run = as_file(subject)
    measures, rows = subject.score(run)
    assert list(measures) == ["mAP50-95 of masks", "mAP50-95 of boxes"]
    assert all(0 <= value <= 1 for value in measures.values())
    assert all("segmentation" in row for some in rows.values() for row in some)
    assert subject.describe()["outputs"] == ("output0", "output1")


def test_masks_count_in_the_error(digits, tmp_path):
    subject = YoloSubject(saved("yolov8n-seg.yaml", tmp_path / "a.pt", list(map(str, range(10)))), digits, SIDE)
    rows = np.zeros((1, 4 + 10 + 32, 3), np.float32)
    rows[0, :4] = np.array([[32, 32, 32, 32], [16, 16, 16, 16], [8, 8, 8, 8]]).T
    rows[0, 4, :2] = 0.9  # the third sees nothing
    rows[0, 14] = 1.0  # coefficients of the first prototype
    whole = np.ones((1, 32, 16, 16), np.float32)
    half = whole.copy()
    half[..., :8] = -1  # left of the middle of the picture
    masks = subject._masks([rows, whole], np.array([0, 1]))
    assert masks.sum((1, 2)).tolist() == [8 * 8, 4 * 4] and masks[0, 4:12, 4:12].all()
    assert subject.error([rows, whole], [rows, whole]) == 0
    # Half of the first mask is left, and nothing of the second.
    assert subject.error([rows, whole], [rows, half]) == pytest.approx((0.5 + 1) / 2)
    lower = rows.copy()
    lower[0, 4, :2] = 0.7
    assert subject.error([rows, whole], [lower, whole]) == pytest.approx(0.2, abs=1e-6)


def test_what_does_not_belong_together_is_one_line(folders, digits, tmp_path):
    file = saved("yolov8n-cls.yaml", tmp_path / "a.pt", ["dark", "lighter"])
    with pytest.raises(
        InputError, match=r"the model knows dark, lighter \(2\), and .* has dark, light \(2\); give the"
    ):
        YoloSubject(file, folders, SIDE)
    with pytest.raises(InputError, match=r"image size 50 is no multiple of 32; give one such as 640"):
        YoloSubject(saved("yolov8n-cls.yaml", tmp_path / "b.pt", ["dark", "light"]), folders, 50)
    with pytest.raises(InputError, match=r"is a model for pose; give one of task detect, segment, classify"):
        YoloSubject(saved("yolov8n-pose.yaml", tmp_path / "c.pt", ["person"]), digits, SIDE)
