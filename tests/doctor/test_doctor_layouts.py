"""The doctor on COCO's layout, folders of classes and masks."""

import json
import shutil

import numpy as np
import pytest
from doctor_sets import picture
from PIL import Image

pytest.importorskip("imagehash", reason="needs `pip install dualvit[doctor]`")

from dualvit.doctor.layouts import open_set
from dualvit.doctor.run import MaskSettings, examine
from dualvit.doctor.settings import settings_of
from dualvit.errors import InputError, MissingFileError


def kinds(place, **options):
    return {kind: len(found) for kind, found in examine(place, **options).report.groups().items()}


def coco(root, edit=lambda content: None, names=("train", "val")):
    """Four pictures with a polygon in each part; `edit` changes the training json."""
    for split, folder in zip(("train", "val"), names, strict=True):
        (root / folder).mkdir(parents=True)
        images, annotations = [], []
        for index in range(1, 5):
            picture(index + 10 * (split == "val")).save(root / folder / f"p{index}.jpg")
            images.append({"id": index, "file_name": f"p{index}.jpg", "width": 96, "height": 64})
            box = {"bbox": [24, 16, 24, 16], "segmentation": [[24, 16, 48, 16, 48, 32, 24, 32]]}
            annotations.append({"id": index, "image_id": index, "category_id": 3 + index % 2, "iscrowd": 0} | box)
        categories = [{"id": 3, "name": "a"}, {"id": 4, "name": "b"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        if split == "train":
            edit(content)
        (root / f"{split}.json").write_text(json.dumps(content))
    return root


def test_coco_without_faults(tmp_path):
    examination = examine(coco(tmp_path))
    assert (examination.report.groups(), examination.report.layout, examination.report.task) == ({}, "coco", "segment")
    assert examination.report.classes == {"a": {"train": 2, "val": 2}, "b": {"train": 2, "val": 2}}
    assert examination.data.items[0].things[0].box == (24, 16, 48, 32)


def test_faults_of_coco(tmp_path):
    def edit(content):
        images, rows = content["images"], content["annotations"]
        rows += [dict(rows[0], id=10, bbox=[90, 10, 20, 20], segmentation=[])]  # outside
        rows += [dict(rows[0], id=11, bbox=[10, 10, 0, 20], segmentation=[])]  # empty
        rows += [dict(rows[1], id=12)]  # a second time
        rows += [dict(rows[2], id=13, category_id=3)]  # of another class
        rows += [dict(rows[0], id=14, image_id=99)]  # of no image
        rows += [dict(rows[0], id=15, category_id=8)]  # of no category
        rows += [dict(rows[0], id=16, segmentation=[[1, 2, 3, 4]])]  # half a polygon
        rows += [dict(rows[0], id=17, bbox=[1, 2, 3])]
        rows += [dict(rows[3], id=18, bbox=[50, 40, 30, 20], segmentation=[[50, 40, 80, 60, 80, 40, 50, 60]])]
        images += [dict(images[0])]  # an id twice
        images += [{"id": 30, "file_name": "gone.jpg", "width": 96, "height": 64}]
        images[1]["width"] = 120

    coco(tmp_path, edit)
    picture(50).save(tmp_path / "train/more.jpg")
    assert kinds(tmp_path) == {
        "absent": 1, "bad-label": 4, "label-without-picture": 1, "size-differs": 1, "outside": 1, "empty": 1,
        "without-outline": 2, "duplicate-object": 1, "two-classes": 1, "crossing": 1, "picture-without-label": 1,
    }  # fmt: skip


def test_one_object_without_an_outline_among_others(tmp_path):
    examination = examine(coco(tmp_path, lambda content: content["annotations"][0].update(segmentation=[])))
    assert (kinds(tmp_path), examination.report.task) == ({"without-outline": 1}, "segment")


def test_ids_of_coco_may_be_texts_and_sizes_may_be_left_out(tmp_path):
    def edit(content):
        for image in content["images"]:
            image |= {"id": f"image {image['id']}"}
            del image["width"], image["height"]
        for row in content["annotations"]:
            row |= {"image_id": f"image {row['image_id']}", "category_id": str(row["category_id"])}

    coco(tmp_path, edit)
    shutil.copy(tmp_path / "train.json", tmp_path / "val.json")
    shutil.rmtree(tmp_path / "val")
    shutil.copytree(tmp_path / "train", tmp_path / "val")
    assert kinds(tmp_path) == {"duplicate-across": 4}


def test_other_names_of_coco_are_settings(tmp_path):
    coco(tmp_path, names=("left", "right"))
    (tmp_path / "train.json").rename(tmp_path / "l.json")
    (tmp_path / "val.json").rename(tmp_path / "r.json")
    with pytest.raises(MissingFileError, match=r"no data\.yaml, no annotations"):
        examine(tmp_path)
    pairs = {"train_json": "l.json", "train_images": "left", "val_json": "r.json", "val_images": "right"}
    names, masks = settings_of(tmp_path, None, [f"data.{key}={value}" for key, value in pairs.items()])
    assert (names, masks) == ({"train": ("l.json", "left"), "val": ("r.json", "right")}, None)
    assert kinds(tmp_path, names=names) == {}


def test_coco_whose_json_says_of_no_part(tmp_path):
    """One json and one folder of pictures: what to do is said, and the settings for other names are taken."""
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations.json").write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(InputError) as error:
        open_set(tmp_path)
    assert str(error.value) == (
        f"{tmp_path} has images/ and annotations.json, and does not say of which part they are; name the files with "
        "`--set data.train_json=annotations.json --set data.train_images=images`, and those of val; or let "
        f"`dualvit data convert {tmp_path}/annotations.json OUT --to yolo --val 0.2` make a data set of it"
    )
    with pytest.raises(InputError, match=r"annotations.json is no data set; .*; or let `dualvit data convert"):
        open_set(tmp_path / "annotations.json")
    changes = ["data.train_json=annotations.json", "data.train_images=images"]
    names, masks = settings_of(tmp_path, None, changes)
    assert names["train"] == ("annotations.json", "images") and masks is None
    assert open_set(tmp_path, names).layout == "coco"


def test_json_that_is_none_cannot_be_read(tmp_path):
    coco(tmp_path)
    (tmp_path / "train.json").write_text("[1, 2")
    with pytest.raises(InputError, match="is not valid JSON"):
        examine(tmp_path)


def folders(root):
    for split, count in (("train", 4), ("val", 2)):
        for label, name in enumerate(("rose", "tulip")):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                picture(100 * label + 10 * index + count).save(root / split / name / f"{index}.jpg")
    return root


def test_folders_of_classes(tmp_path):
    report = examine(folders(tmp_path)).report
    assert (report.groups(), report.layout, report.task) == ({}, "folders", "classify")
    assert report.classes == {"rose": {"train": 4, "val": 2}, "tulip": {"train": 4, "val": 2}}


def test_faults_of_folders(tmp_path):
    folders(tmp_path)
    for place, seed in (("train/only_train", 70), ("val/only_val", 71)):
        (tmp_path / place).mkdir()
        picture(seed).save(tmp_path / place / "1.jpg")
    (tmp_path / "train/bare").mkdir()
    shutil.copy(tmp_path / "train/rose/0.jpg", tmp_path / "train/tulip/copy.jpg")
    shutil.copy(tmp_path / "train/rose/1.jpg", tmp_path / "val/rose/copy.jpg")
    (tmp_path / "train/rose/broken.jpg").write_bytes(b"no picture")
    report = examine(tmp_path).report
    assert {kind: len(found) for kind, found in report.groups().items()} == {
        "unreadable": 1, "duplicate-across": 1, "duplicate-disagrees": 1, "only-in-val": 1, "duplicate-within": 1,
        "no-objects": 1, "only-in-train": 1,
    }  # fmt: skip
    assert "labelled rose and tulip" in report.groups()["duplicate-disagrees"][0].message


def masks(root, values=(0, 1)):
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        for index in range(3):
            picture(index + 10 * (split == "val"), 96, 96).save(root / "images" / split / f"p{index}.jpg")
            mask = np.full((96, 96), values[0], np.uint8)
            mask[24:48, 24:48] = values[1]
            Image.fromarray(mask).save(root / "masks" / split / f"p{index}.png")
    (root / "classes.txt").write_text("background\nthing\n")
    return root


def test_masks(tmp_path):
    report = examine(masks(tmp_path)).report
    assert (report.groups(), report.layout, report.task) == ({}, "masks", "semantic")
    assert report.classes == {"background": {"train": 3, "val": 3}, "thing": {"train": 3, "val": 3}}
    assert report.splits["train"] == {"pictures": 3, "labelled": 3}


def test_faults_of_masks(tmp_path):
    masks(tmp_path)
    Image.new("L", (90, 96)).save(tmp_path / "masks/train/p0.png")
    Image.new("L", (96, 96), 7).save(tmp_path / "masks/train/p1.png")
    (tmp_path / "masks/val/p0.png").unlink()
    Image.new("L", (96, 96)).save(tmp_path / "masks/val/lonely.png")
    report = examine(tmp_path).report
    assert {kind: len(found) for kind, found in report.groups().items()} == {"bad-mask": 3, "label-without-picture": 1}
    words = " ".join(one.message for one in report.groups()["bad-mask"])
    assert "has no mask" in words
    assert "90x96" in words
    assert "has index 7" in words


def test_masks_of_0_and_255_are_said_with_the_remedy(tmp_path):
    report = examine(masks(tmp_path, (0, 255))).report
    assert list(report.groups()) == ["no-labels", "bad-mask", "no-objects"]
    assert "class 'thing' is in no mask, and 6 masks hold 255" in report.groups()["bad-mask"][0].message
    assert report.splits["train"]["labelled"] == 0


def test_classes_of_masks_may_be_a_setting(tmp_path):
    (masks(tmp_path) / "classes.txt").unlink()
    with pytest.raises(InputError, match="names no classes"):
        examine(tmp_path)
    settings = settings_of(tmp_path, None, ["data.classes=[sky, wall]", "data.reduce_zero_label=true"])[1]
    assert settings == MaskSettings(("sky", "wall"), 255, True)
    assert examine(tmp_path, masks=settings).report.classes["sky"] == {"train": 3, "val": 3}


def test_a_place_without_a_data_set(tmp_path):
    with pytest.raises(MissingFileError, match="no data set at"):
        examine(tmp_path / "nothing")
    with pytest.raises(MissingFileError, match=r"own-data\.md shows the layouts"):
        examine(tmp_path)
    (tmp_path / "a.zip").write_text("")
    with pytest.raises(InputError, match="is no data set"):
        examine(tmp_path / "a.zip")
