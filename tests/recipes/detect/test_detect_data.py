"""Samples of detection: flips move boxes and masks with the pixels; what does not fit is refused or skipped."""

import json

import numpy as np
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


def test_objects_without_a_mask_are_left_out_of_mask_rcnn_alone(coco, tmp_path):
    file = coco / "annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    first, second = content["annotations"][1:3]  # both of 1.png
    first["segmentation"], second["bbox"] = [], [4, 30, 16, 16]
    file.write_text(json.dumps(content))
    data = DetectData(load_recipe("laptop-masks", [f"data.root={coco}", "augment={flip: 0}"]), tmp_path)
    target = data.train_data()[1][1]
    assert target["boxes"].tolist() == [[4, 30, 20, 46]] and len(target["masks"]) == 1
    line = f"{file}: object 1 of 1.png has a box and no mask; give it one, or detector=retinanet"
    assert data.skipped.lines() == [line]
    assert data.notes == (f"{file}: 1 entry is left out: {line.partition(': ')[2]}",)
    assert len(data.train.truth["annotations"]) == 4  # of five, a crowd among them
    assert [len(picture.boxes) for picture in DetectData(load_recipe("laptop-detect", [f"data.root={coco}"]), None)
            .train.pictures] == [1, 2, 0, 1]  # fmt: skip
    for one in content["annotations"]:
        one["segmentation"] = None
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"none of its 4 objects has a mask; .*detector=retinanet"):
        DetectData(load_recipe("laptop-masks", [f"data.root={coco}"]), None)


def test_too_many_bad_annotations_stop(coco, tmp_path):
    file = coco / "annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    for one in content["annotations"][:2]:
        one["segmentation"] = [[1, 2, 3, 4]]
    file.write_text(json.dumps(content))
    data = DetectData(load_recipe("laptop-detect", [f"data.root={coco}", "data.unreadable=2"]), tmp_path / "a")
    (tmp_path / "a").mkdir()
    assert len(data.train_data()) == 4 and len(data.skipped.lines()) == 2
    assert data.notes[0].startswith(f"{file}: 2 entries are left out, the first: annotation 0 of 0.png has a polygon ")
    data = DetectData(load_recipe("laptop-detect", [f"data.root={coco}", "data.unreadable=1"]), None)
    with pytest.raises(ValueError, match=r"annotation 1 of 1.png .*; 1 others could .* data.unreadable allows 1"):
        data.train_data()


def test_no_object_to_be_scored_by(coco):
    file = coco / "annotations/instances_val2017.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"annotations": content["annotations"][:1]}))
    file.write_text(file.read_text().replace('"bbox": [8, 8, 24, 16]', '"bbox": [8, 8, 24]'))
    data = DetectData(load_recipe("laptop-detect", [f"data.root={coco}"]), None)
    with pytest.raises(ValueError, match=r"none of its 4 images has an object to be scored by; .*annotation 0 of 0"):
        data.val_data()


RED = torch.tensor([255, 0, 0])[:, None, None]


@pytest.mark.parametrize("labelled", ["upright", "stored", "a pixel off"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_box_covers_the_same_pixels_of_a_rotated_photograph(tmp_path, orientation, labelled):
    """A lossless picture with a red rectangle; boxes of whichever picture the labeller saw."""
    pixels = np.random.default_rng(0).integers(0, 200, (64, 96, 3), dtype=np.uint8)
    pixels[8:32, 24:64] = (255, 0, 0)
    turns = {1: 0, 3: 2, 6: 3, 8: 1}[orientation]  # quarters of a turn, against the clock
    seen = pixels if labelled == "stored" and orientation > 4 else np.rot90(pixels, turns)
    rows, columns = np.nonzero((seen == (255, 0, 0)).all(2))
    x, y = int(columns.min()), int(rows.min())
    box = [x, y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    more = labelled == "a pixel off"
    image = {"id": 1, "file_name": "a.png", "width": seen.shape[1] + more, "height": seen.shape[0] - more}
    outline = [x, y, x + box[2], y, x + box[2], y + box[3], x, y + box[3]]
    annotation = {"image_id": 1, "category_id": 1, "bbox": box, "segmentation": [outline]}
    content = {"images": [image], "annotations": [annotation], "categories": [{"id": 1, "name": "red"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    picture, target = Objects(read_coco(tmp_path / "a.json", tmp_path), True, None)[0]
    assert picture.shape == (3, image["height"], image["width"])
    left, top, right, bottom = target["boxes"][0].int().tolist()
    assert (picture[:, top:bottom, left:right] == RED).all()
    assert torch.equal((picture == RED).all(0), target["masks"][0].bool())


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
