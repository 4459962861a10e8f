"""Runs of detection on a tiny COCO: each of the paper's recipes, validation again, and predictions."""

import json

import pytest
import torch
from PIL import Image

pytest.importorskip("lightning", reason="needs `pip install dualvit[recipes]`")

from dualvit.recipes.config import names, plain
from dualvit.recipes.report import write_report
from dualvit.recipes.run import fit, load, load_recipe, prepare, validate

PAPER = [name for name in names() if name.startswith("coco-")]


def test_there_is_a_recipe_for_each_row():
    rows = {
        f"coco-{detector}-{size}{end}"
        for detector in ("retinanet", "mask-rcnn")
        for size in "sb"
        for end in ("", "-3x")
    }
    assert set(PAPER) == rows


@pytest.mark.slow
@pytest.mark.parametrize("detector", ["retinanet", "mask-rcnn"])
def test_papers_recipes_take_ten_steps(detector, small, tmp_path):
    changes = [*small, "schedule.epochs=5", "schedule.milestones=[3, 4]"]
    recipes = [load_recipe(name, changes) for name in PAPER if detector in name]
    settings = [plain(recipe) | {"title": "", "published": None} for recipe in recipes]
    assert settings == settings[:1] * 4  # so that one run is the run of each
    task = fit(recipes[0], tmp_path / "run")
    assert task.trainer.global_step == 10
    assert task.history[-1]["epoch"] == 5
    assert all(torch.isfinite(p).all() for p in task.parameters())


def test_validate_reads_the_same_scores_from_the_checkpoint(small, tmp_path):
    task = fit(
        load_recipe("laptop-masks", [*small, "schedule.epochs=1", "trainer.check_val_every_n_epoch=1"]), tmp_path
    )
    scores = validate(tmp_path / "last.ckpt")
    assert {"AP", "AP50", "AP75", "APs", "APm", "APl", "box_AP"} <= set(scores)
    assert {name: task.history[-1][name] for name in scores} == pytest.approx(scores)
    assert load(tmp_path / "last.ckpt").category_ids == [5, 90]
    page = write_report(task, tmp_path).read_text()
    assert "No predictions are shown" not in page
    assert 4 < page.count("data:image/jpeg") <= 7  # four predictions, and up to three explanations
    assert "F1 of masks at IoU 0.5" in page or "F1 at IoU 0.5" in page


@pytest.mark.parametrize(("name", "masks"), [("laptop-detect", False), ("laptop-masks", True)])
def test_predictions_are_valid_coco(name, masks, small, coco, tmp_path):
    task, data = prepare(load_recipe(name, [*small, "head.score=0", "head.shown=0", "head.detections=5"]), None)
    task.category_ids = list(data.category_ids)
    other = tmp_path / "other"
    other.mkdir()
    (other / "0.png").write_bytes((coco / "val2017/0.png").read_bytes())
    (other / "broken.png").write_bytes(b"nothing")
    files = [coco / "val2017/0.png", coco / "val2017/1.png", other / "0.png", other / "broken.png"]
    lines = list(task.predict(files, tmp_path / "out"))
    assert len(lines) == 4 and "skipped" in lines[3]
    assert sorted(file.name for file in (tmp_path / "out").glob("*.png")) == ["0-2.png", "0.png", "1.png"]
    content = json.loads((tmp_path / "out/predictions.json").read_text())
    assert [image["id"] for image in content["images"]] == [1, 2, 3]
    assert {one["category_id"] for one in content["annotations"]} <= {5, 90}
    assert all(len(one["bbox"]) == 4 and ("segmentation" in one) == masks for one in content["annotations"])
    assert len({one["id"] for one in content["annotations"]}) == len(content["annotations"]) > 0
    from pycocotools.coco import COCO

    read = COCO(tmp_path / "out/predictions.json")
    if masks:
        assert read.annToMask(read.anns[1]).shape == (48, 64)
    with Image.open(tmp_path / "out/0.png") as picture:
        assert picture.size == (768, 576)
