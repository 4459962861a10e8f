"""COCO's json and the YOLO layout: what is read, what is left out and said, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("faster_coco_eval", reason="needs `pip install dualvit[recipes]`")

from dualvit.data.coco import decode, encode, from_content, read_coco
from dualvit.data.masks import read_masks
from dualvit.data.yolo_layout import read_yolo

IMAGE = {"id": 7, "file_name": "a.jpg", "width": 100, "height": 50}
CATEGORIES = [{"id": 90, "name": "dog"}, {"id": 3, "name": "cat"}]


def content(*annotations):
    rows = [{"image_id": 7, "category_id": 3, "bbox": [0, 0, 10, 10]} | one for one in annotations]
    return {"images": [IMAGE], "annotations": rows, "categories": CATEGORIES}


def read(*annotations):
    return from_content(content(*annotations), Path("there"), "a.json")


def test_labels_follow_the_ids():
    found = read({"category_id": 90}, {})
    assert (found.classes, found.category_ids) == (("cat", "dog"), (3, 90))
    assert found.pictures[0].labels.tolist() == [1, 0]
    assert [one["id"] for one in found.truth["annotations"]] == [1, 2]


def test_boxes_outside_are_clipped_or_left_out_and_counted():
    found = read(
        {"bbox": [90, 40, 20, 20]}, {"bbox": [200, 0, 9, 9]}, {"bbox": [5, 5, 0, 9]}, {"bbox": [0, 0, 100.4, 9]}
    )
    assert np.allclose(found.pictures[0].boxes, [[90, 40, 100, 50], [0, 0, 100, 9]])
    assert found.notes == (
        "a.json: 1 box reaches beyond its image and is clipped",
        "a.json: 2 boxes are outside their images, or empty, and are left out",
    )
    assert len(found.truth["annotations"]) == 4  # the evaluator sees the json as it is


def test_crowds_are_scored_but_not_learnt():
    found = read({"iscrowd": 1}, {})
    assert len(found.pictures[0].boxes) == 1
    assert [one["iscrowd"] for one in found.truth["annotations"]] == [1, 0]


def test_image_without_objects_stays():
    found = read()
    assert found.pictures[0].boxes.shape == (0, 4)
    assert found.pictures[0].file == Path("there/a.jpg")


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ({"image_id": 8}, "annotation 1 is of image 8"),
        ({"category_id": 4}, "category 4"),
        ({"segmentation": {"size": [100, 50], "counts": [5000]}}, "mask of 50x100 pixels, and its image has 100x50"),
        ({"segmentation": [[0, 0, 5, 5]]}, "fewer than three points"),
        ({"bbox": [0, 0, 5]}, "not in COCO's format"),
    ],
)
def test_mistakes_are_named(annotation, words):
    with pytest.raises(ValueError, match=words):
        read(annotation)


def test_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no annotations at .*none\.json"):
        read_coco(tmp_path / "none.json", tmp_path)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        read_coco(tmp_path / "a.json", tmp_path)
    (tmp_path / "a.json").write_text(json.dumps({"images": [IMAGE]}))
    with pytest.raises(ValueError, match="'categories' is missing"):
        read_coco(tmp_path / "a.json", tmp_path)


def test_masks_in_all_three_forms():
    mask = np.zeros((5, 6), np.uint8)
    mask[1:3, 2:5] = 1
    polygon = [[2, 1, 5, 1, 5, 3, 2, 3]]
    runs = np.flatnonzero(np.diff(np.concatenate([[0], mask.T.ravel(), [0]])))
    uncompressed = {"size": [5, 6], "counts": np.diff([0, *runs, 30]).tolist()}
    for form in (polygon, uncompressed, encode(mask[None])[0]):
        assert np.array_equal(decode(form, 5, 6), mask)


@pytest.fixture
def layout(tmp_path):
    for split in ("train", "val"):
        (tmp_path / "images" / split).mkdir(parents=True)
        (tmp_path / "labels" / split).mkdir(parents=True)
        for name in "ab":
            Image.new("RGB", (80, 40)).save(tmp_path / "images" / split / f"{name}.png")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cell, dust]\n")
    return tmp_path


def test_yolo_boxes_and_polygons(layout):
    (layout / "labels/train/a.txt").write_text("1 0.5 0.5 0.25 0.5\n0 0.25 0.25 0.75 0.25 0.75 0.75\n")
    found = read_yolo(layout / "data.yaml", "train")
    first, second = found.pictures
    assert found.classes == ("cell", "dust")
    assert first.boxes.tolist() == [[30, 10, 50, 30], [20, 10, 60, 30]]
    assert first.labels.tolist() == [1, 0]
    assert first.segments == (None, [[20, 10, 60, 10, 60, 30]])
    assert [one["area"] for one in found.truth["annotations"]] == [400, 400]
    assert len(second.boxes) == 0


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.5 0.5 0.1", "line 1: 3 numbers"),
        ("2 .5 .5 .1 .1", "class 2"),
        ("0 a b c d", "not made of numbers"),
        ("0.5 .5 .5 .1 .1", "has class 0.5"),
        ("0 inf .5 .1 .1", "coordinate inf"),
        ("0 30 .5 .1 .1", "coordinate 30"),
    ],
)
def test_yolo_mistakes_are_named(layout, line, words):
    (layout / "labels/val/b.txt").write_text(line)
    with pytest.raises(ValueError, match=words):
        read_yolo(layout / "data.yaml", "val")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("", "has no names; it needs train, val and names"),
        ("names: cell", "has names 'cell'; give a list"),
        ("names: {1: cell, 2: dust}", "has names for 1, 2; number them 0 to 1"),
        ("names: {a: cell}", "has names for a; number them 0 to 0"),
        ("names: [cell, dust]\nnc: 3", "has nc 3 and 2 names"),
    ],
)
def test_names_that_are_not_those_of_the_classes(layout, names, words):
    (layout / "data.yaml").write_text(f"train: images/train\nval: images/val\n{names}\n")
    for read in (lambda: read_yolo(layout / "data.yaml", "train"), lambda: read_masks(layout)):
        with pytest.raises(ValueError, match=words):
            read()


def test_a_number_of_classes_is_enough(layout):
    (layout / "data.yaml").write_text("train: images/train\nval: images/val\nnc: 2\n")
    assert read_yolo(layout / "data.yaml", "train").classes == ("class_0", "class_1")
    assert read_masks(layout).classes == ("background", "class_0", "class_1")


def test_yolo_unreadable_image_is_listed_for_the_loader(layout):
    (layout / "images/train/a.png").write_bytes(b"nothing")
    assert len(read_yolo(layout / "data.yaml", "train").pictures) == 2
