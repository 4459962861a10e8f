"""COCO's AP: the same number as pycocotools' on the same json, boxes and masks."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch

pytest.importorskip("lightning", reason="needs `pip install dualvit[recipes]`")
pytest.importorskip("pycocotools", reason="needs `pip install dualvit[dev]`")

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dualvit.data.coco import read_coco
from dualvit.data.yolo_layout import read_yolo
from dualvit.recipes.detect.evaluate import as_coco, average_precision, gathered


def noisy(found, masks, seed=0):
    """Predictions that are the truth, moved; some are doubled, some of a wrong class, some of nothing."""
    rng = np.random.default_rng(seed)
    rows = []
    for picture in found.pictures:
        boxes, labels = np.repeat(picture.boxes, 2, 0), np.repeat(picture.labels, 2)
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(2, 0).reshape(-1, 4)
        boxes = boxes + rng.normal(0, 0.08, boxes.shape).astype(np.float32) * sides
        boxes = np.concatenate([boxes, rng.uniform((0, 0, 20, 20), (20, 20, 40, 40), (3, 4))]).astype(np.float32)
        labels = np.concatenate([labels, rng.integers(0, len(found.classes), 3)])
        kept = rng.random(len(boxes)) < 0.8
        one = {"boxes": boxes[kept], "labels": labels[kept], "scores": rng.random(kept.sum()).astype(np.float32)}
        one = {name: torch.from_numpy(value) for name, value in one.items()}
        if masks:
            one["masks"] = torch.zeros(len(one["boxes"]), 1, picture.height, picture.width)
            for mask, (x1, y1, x2, y2) in zip(one["masks"], one["boxes"].round().int().clamp(0).tolist(), strict=True):
                mask[0, y1:y2, x1:x2] = 0.9
        rows += as_coco(one, picture.id, range(len(found.classes)))
    return rows


def by_pycocotools(truth, rows, what):
    with contextlib.redirect_stdout(io.StringIO()):
        objects = COCO()
        objects.dataset = truth
        objects.createIndex()
        evaluator = COCOeval(objects, objects.loadRes(rows), what)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats[:6]


def agrees(found, what):
    rows = noisy(found, what == "segm")
    ours = average_precision(found.truth, rows, [picture.id for picture in found.pictures], what)
    theirs = by_pycocotools(found.truth, rows, what)
    assert np.abs(np.array(list(ours.values())) - theirs).max() < 1e-6
    return ours["AP"]


@pytest.mark.parametrize("what", ["bbox", "segm"])
def test_agrees_with_pycocotools_with_crowds_and_gaps_in_ids(coco, what):
    found = read_coco(coco / "annotations/instances_val2017.json", coco / "val2017")
    assert 0 < agrees(found, what) < 1


@pytest.mark.parametrize(("name", "what"), [("bccd", "bbox"), ("nuclei", "bbox"), ("nuclei", "segm")])
def test_agrees_with_pycocotools_on_real_data(shared, name, what):
    assert 0.05 < agrees(read_yolo(shared / "data" / name / "data.yaml", "val"), what) < 0.9


def test_the_truth_scores_one_and_nothing_scores_zero(coco):
    found = read_coco(coco / "annotations/instances_val2017.json", coco / "val2017")
    ids = [picture.id for picture in found.pictures]
    rows = [
        {"image_id": one["image_id"], "category_id": one["category_id"], "bbox": one["bbox"], "score": 1.0}
        for one in found.truth["annotations"]
        if not one["iscrowd"]
    ]
    assert average_precision(found.truth, rows, ids)["AP"] == pytest.approx(1)
    assert average_precision(found.truth, [], ids)["AP"] == 0


def test_only_the_images_that_were_seen_count(coco):
    found = read_coco(coco / "annotations/instances_val2017.json", coco / "val2017")
    first = found.truth["annotations"][0]
    rows = [{"image_id": first["image_id"], "category_id": first["category_id"], "bbox": first["bbox"], "score": 1.0}]
    assert average_precision(found.truth, rows, [first["image_id"]])["AP"] == pytest.approx(1)
    assert average_precision(found.truth, rows, [p.id for p in found.pictures])["AP"] < 1


def gather(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    (folder / f"{rank}.json").write_text(json.dumps(gathered([{"image_id": rank}] * (rank + 1))))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_each_process_has_the_predictions_of_all(tmp_path):
    torch.multiprocessing.spawn(gather, (tmp_path,), nprocs=2)
    all_of_them = [{"image_id": 0}, {"image_id": 1}, {"image_id": 1}]
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)] == [all_of_them] * 2
    assert gathered([1, 2]) == [1, 2]
