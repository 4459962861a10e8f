"""What a training's page is made of: the epochs on disk, the truth, and what each kind of result says."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ultralytics.engine.results import Results

from dualvit.report.matching import matched
from dualvit.yolo import YOLO, report
from dualvit.yolo.asked import found, truth
from dualvit.yolo.patches import ends_in_report, reports
from dualvit_cli import yolo as cli

SIZE = (200, 100)
CORNERS = np.array([[20, 10], [60, 10], [60, 50], [20, 50]], np.float32)


@pytest.fixture
def label():
    shares = CORNERS / np.array(SIZE, np.float32)
    return {
        "im_file": "a/b/c.jpg", "cls": np.array([[1.0]], np.float32), "segments": [shares],
        "bboxes": np.array([[0.2, 0.3, 0.2, 0.4]], np.float32),
    }  # fmt: skip


def result(**said):
    names = {0: "a", 1: "b"}
    return Results(np.zeros((100, 200, 3), np.uint8), "a/b/c.jpg", names, **said)


def test_truth_is_in_pixels(label):
    boxes = truth(4, label, SIZE, masks=False)
    assert np.allclose(boxes.boxes, [[20, 10, 60, 50]], atol=1e-4)
    assert (boxes.id, boxes.width, boxes.height, boxes.labels.tolist(), boxes.segments) == (4, 200, 100, [1], (None,))
    outlined = truth(4, label, SIZE, masks=True)
    assert np.allclose(outlined.segments[0][0], CORNERS.ravel(), atol=1e-4)


@pytest.mark.parametrize("kind", ["detect", "segment", "obb"])
def test_what_is_found_is_matched_with_the_truth(kind, label):
    pytest.importorskip("faster_coco_eval", reason="needs dualvit[recipes]")
    box = torch.tensor([[20.0, 10.0, 60.0, 50.0, 0.75, 1.0]])
    if kind == "obb":
        said = result(obb=torch.tensor([[40.0, 30.0, 40.0, 40.0, 0.0, 0.75, 1.0]]))
    elif kind == "segment":
        mask = torch.zeros(1, 100, 200)
        mask[0, 10:50, 20:60] = 1
        said = result(boxes=box, masks=mask)
    else:
        said = result(boxes=box)
    masks = kind != "detect"
    rows = found(4, said, SIZE, masks)
    assert [(one.image_id, one.category_id, round(one.score, 3)) for one in rows] == [(4, 1, 0.75)]
    assert rows[0].bbox == pytest.approx([20, 10, 40, 40], abs=0.01)
    assert (rows[0].segmentation is None) == (not masks)
    assert matched(truth(4, label, SIZE, masks), rows, masks) == [0]


def test_epochs_that_a_kill_cut_or_that_were_done_twice(tmp_path):
    table = tmp_path / "results.csv"
    table.write_text("   epoch,  metrics/a(B)\n 1, 0.5\n 2, 0.25\n 2, 0.75\n 3, \n4")
    assert report.epochs_of(table) == [{"epoch": 1, "metrics/a(B)": 0.5}, {"epoch": 2, "metrics/a(B)": 0.75}]
    assert report.epochs_of(tmp_path / "absent.csv") == []


def test_a_page_that_cannot_be_written_is_a_line(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(report.LOGGER, "warning", told.append)
    report.write_report(SimpleNamespace(args=SimpleNamespace(task="detect"), save_dir=tmp_path))
    assert len(told) == 1 and told[0].startswith("report.html was not written: ") and "\n" not in told[0]
    assert not list(tmp_path.iterdir())


def test_a_report_is_left_out_if_it_is_not_wanted(monkeypatch, digits):
    seen = []

    class Told:
        def __init__(self, overrides, _callbacks=None):
            self.args = SimpleNamespace(**overrides)

        def train(self):
            seen.append(reports())
            raise InterruptedError

    monkeypatch.setattr("dualvit.yolo.model.require_ours", lambda *_: None)
    for more in ({}, {"report": False}):
        with pytest.raises(InterruptedError), monkeypatch.context() as patch:
            patch.setattr(Told, "get_model", lambda self, **_: None, raising=False)
            YOLO("yolov8n.yaml").train(Told, data=str(digits), **more)
    assert seen == [True, False] and not reports()  # a comparison's cells, which train by themselves, have none
    with ends_in_report(True):
        assert reports()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["detect", "train", "model=x.yaml", "data=y", "report=no"], "report=no is neither True nor False; it says"),
        (["detect", "predict", "model=x.pt", "source=y", "report=False"], "report=False is for train, and the mode is"),
        (["detect", "predict", "model=x.pt", "source=y", "evidence=5"], "evidence=5 is for export, and the mode is"),
        (["export", "model=x.pt", "evidence=x"], "evidence=x is neither True nor False; or give a number of boxes"),
    ],
)
def test_the_command_line_takes_it_for_trainings_alone(words, said):
    with pytest.raises(ValueError, match=said):
        cli.run(words)
