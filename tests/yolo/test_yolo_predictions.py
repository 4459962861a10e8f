"""What a cell's last weights say of each picture, by Ultralytics' validator: from its state alone, and no pickle."""

import json

import numpy as np
import pytest
import torch
import yaml
from ultralytics.models import yolo

from dualvit import archives
from dualvit.data.coco import decode
from dualvit.yolo import engine as cell
from dualvit.yolo.predictions import SegmentationValidator

ARGUMENTS = {"imgsz": 64, "batch": 5, "seed": 0, "device": "cpu", "workers": 0, "epochs": 1}
NAMES = {"detect": "yolov8n.yaml", "segment": "yolov8n-seg.yaml"}


@pytest.fixture
def tested(digits, tmp_path):
    """The data.yaml of the digits, whose test split is that to validate on."""
    content = yaml.safe_load(digits.read_text())
    content |= {"path": str(digits.parent), "test": content["val"]}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "data.yaml"


def engine(data, task):
    return cell.YoloEngine(NAMES[task], {}, task, ARGUMENTS | {"data": str(data)})


def write_state(folder, task):
    """A state as training leaves it, with fresh weights, which find much and nothing right."""
    torch.manual_seed(0)
    ema = cell.network(NAMES[task], {}, task, 10).state_dict()
    state = {
        "epoch": 0, "epochs": 1, "best_fitness": None, "updates": 1, "stopper": {}, "optimizer": {}, "model": ema,
        "ema": ema, "history": [{"epoch": 1, "seconds": 1.0}],
    }  # fmt: skip
    with (folder / cell.STATE).open("wb") as out:
        archives.save(state, out)


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_it_answers_from_the_state(tested, tmp_path, task):
    write_state(tmp_path, task)
    scores, content = engine(tested, task).predict(tmp_path, "val")
    assert set(scores) == set(cell.COLUMNS[task]) and all(0 <= value <= 1 for value in scores.values())
    assert [image["id"] for image in content["images"]] == [1, 2]
    assert all((image["width"], image["height"]) == (64, 64) for image in content["images"])
    assert [one["id"] for one in content["categories"]] == list(range(10))
    rows = content["annotations"]
    assert rows and [row["image_id"] for row in rows] == sorted(row["image_id"] for row in rows)
    for row in rows:
        x, y, width, height = row["bbox"]
        assert -0.01 <= x <= x + width <= 64.01 and -0.01 <= y <= y + height <= 64.01
        assert 0.001 <= row["score"] <= 1 and 0 <= row["category_id"] < 10
        assert ("segmentation" in row) == (task == "segment")
    if task == "segment":
        masks = [decode(row["segmentation"], 64, 64) for row in rows]
        assert all(mask.shape == (64, 64) for mask in masks) and np.any(masks)
    else:
        again = engine(tested, task).predict(tmp_path, "test")  # of the same pictures, so the same
        assert (again[0], json.dumps(again[1], default=str)) == (scores, json.dumps(content, default=str))


def test_enlarged_masks_keep_their_area():
    """Ultralytics rounds the pixels of an edge down, which makes small objects smaller by a tenth."""
    if not hasattr(yolo.segment.SegmentationValidator, "scale_preds"):
        pytest.skip("old versions of Ultralytics round by themselves")
    y, x = np.ogrid[:160, :160]
    disc = torch.from_numpy(((y - 80) ** 2 + (x - 80) ** 2 < 12**2).astype(np.uint8))[None]
    found = {"bboxes": torch.zeros(1, 4), "masks": disc}
    place = {"imgsz": (160, 160), "ori_shape": (256, 256), "ratio_pad": ((1.6**-1, 1.6**-1), (0, 0))}
    validator = object.__new__(SegmentationValidator)
    masks = validator.scale_preds(found, place)["masks"]
    assert masks.shape == (1, 256, 256) and set(masks.unique().tolist()) == {0, 1}
    assert float(masks.sum()) == pytest.approx(1.6**2 * float(disc.sum()), rel=0.02)
    same = validator.scale_preds(found, place | {"ori_shape": (160, 160), "ratio_pad": None})
    assert torch.equal(same["masks"], disc)


def test_the_test_split_is_counted_or_missed(tested, digits):
    assert engine(tested, "detect").tests() == 2
    with pytest.raises(ValueError, match=r"data.yaml has no test split, and score is test; give it `test:`, or"):
        engine(digits, "detect").tests()


def test_no_state_no_answer(digits, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights at .*state.ckpt"):
        engine(digits, "detect").predict(tmp_path, "val")
