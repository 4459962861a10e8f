"""Samples of detection: flips move boxes and masks with the pixels; what does not fit is refused or skipped."""

import json

import pytest
import torch
from PIL import Image
from torchvision.ops import masks_to_boxes

pytest.importorskip("lightning", reason="needs `pip install dualvit[recipes]`")

from dualvit.data.coco import read_coco
from dualvit.recipes.detect.config import DetectAugment
from dualvit.recipes.detect.data import DetectData, Objects, augmentation
from dualvit.recipes.loading import UnreadableError
from dualvit.recipes.run import load_recipe


@pytest.fixture
def found(coco):
    return read_coco(coco / "annotations/instances_train2017.json", coco / "train2017")


@pytest.mark.parametrize(("flip", "vertical"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_flips_move_boxes_and_masks_with_the_pixels(found, flip, vertical):
    samples = Objects(found, True, augmentation(DetectAugment(flip=flip, flip_vertical=vertical)))
    for index in (0, 1, 3):
        image, target = samples[index]
        drawn = masks_to_boxes(target["masks"])
        assert torch.equal(drawn + torch.tensor([0, 0, 1, 1]), target["boxes"])
        for channel, mask in enumerate(target["masks"]):  # rectangle n is bright in channel n
            assert torch.equal(image[channel] == 220, mask.bool())
    plain = Objects(found, True, None)[1][1]["boxes"]
    moved = samples[1][1]["boxes"]
    assert torch.equal(moved[:, 0], 64 - plain[:, 2] if flip else plain[:, 0])
    assert torch.equal(moved[:, 1], 48 - plain[:, 3] if vertical else plain[:, 1])


def test_image_without_objects(found):
    target = Objects(found, True, augmentation(DetectAugment(flip=1)))[2][1]
    assert target["boxes"].shape == (0, 4)
    assert target["masks"].shape == (0, 48, 64)


def test_picture_of_another_size_is_reported(coco, found):
    (coco / "train2017/0.png").write_bytes((coco / "train2017/1.png").read_bytes())
    assert Objects(found, False, None)[0][0].shape == (3, 48, 64)
    Image.new("RGB", (30, 20)).save(coco / "train2017/0.png")
    with pytest.raises(UnreadableError, match="has 30x20 pixels, and its annotations say 64x48"):
        Objects(found, False, None)[0]
    (coco / "train2017/0.png").write_bytes(b"no picture")
    with pytest.raises(UnreadableError, match=r"0\.png"):
        Objects(found, False, None)[0]


def test_masks_are_asked_for_and_missing(coco):
    file = coco / "annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    del content["annotations"][0]["segmentation"]
    file.write_text(json.dumps(content))
    data = DetectData(load_recipe("laptop-masks", [f"data.root={coco}"]), None)
    with pytest.raises(ValueError, match=r"an object in 0\.png has a box and no mask.*detector=retinanet"):
        data.train_data()


def test_no_object_to_learn_from(coco):
    file = coco / "annotations/instances_train2017.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"annotations": []}))
    data = DetectData(load_recipe("laptop-detect", [f"data.root={coco}"]), None)
    with pytest.raises(ValueError, match=r"train2017\.json: none of its \d+ images has an object to learn from"):
        data.train_data()


def test_train_and_val_must_agree(coco):
    file = coco / "annotations/instances_val2017.json"
    file.write_text(file.read_text().replace('"tall"', '"high"'))
    with pytest.raises(ValueError, match="different categories"):
        DetectData(load_recipe("laptop-detect", [f"data.root={coco}"]), None)


def test_settings_that_do_not_fit():
    with pytest.raises(ValueError, match="not image_size"):
        load_recipe("laptop-detect", ["data.image_size=64"])
    with pytest.raises(ValueError, match="give a larger long_side"):
        load_recipe("laptop-detect", ["data.short_side=[320, 640]"])
    assert load_recipe("laptop-detect", ["data.short_side=[128, 192]"]).data.sides == (128, 192)
