"""COCO's json and the YOLO layout: what is read, what is left out and said, what is refused."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("faster_coco_eval", reason="needs `pip install dualvit[recipes]`")

from dualvit.data.coco import from_content, read_coco
from dualvit.data.masks import read_masks
from dualvit.data.outlines import decode, encode
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
    assert [one["category_id"] for one in found.truth["annotations"]] == [1, 0]  # the evaluator's are the labels


@pytest.mark.parametrize(
    ("images", "categories", "image_ids", "category_ids", "known"),
    [
        (["image-7"], ["90", "3"], ["image-7"], ["3", "90"], ("3", "90")),
        (["7"], [90, 3], [7, 7.0], [3.0, "90"], ("3", "90")),  # one text among them, and all are texts
        ([7], [90, 3], ["7", 7.0], [3.0, 90], (3, 90)),
        ([7], ["dog", "cat"], [7, 7], ["cat", "dog"], ("cat", "dog")),
        ([7], ["10", "9"], [7, 7], ["9", "10"], ("9", "10")),  # in the order of numbers, if they are such
    ],
)
def test_ids_are_numbers_or_texts(images, categories, image_ids, category_ids, known):
    image_ids = image_ids * (3 - len(image_ids))
    found = from_content(
        {
            "images": [IMAGE | {"id": images[0]}],
            "annotations": [
                {"image_id": image, "category_id": category, "bbox": [0, 0, 9, 9]}
                for image, category in zip(image_ids, category_ids, strict=True)
            ],
            "categories": [{"id": key, "name": f"name of {key}"} for key in categories],
        },
        Path(),
        "a.json",
    )
    assert found.category_ids == known and all(
        type(a) is type(b) for a, b in zip(found.category_ids, known, strict=True)
    )
    assert found.classes == tuple(f"name of {key}" for key in known)
    assert found.pictures[0].labels.tolist() == [0, 1] and found.unreadable == ()
    truth = found.truth
    numbers = [truth["images"][0]["id"], *(one["image_id"] for one in truth["annotations"])]
    numbers += [one["category_id"] for one in truth["annotations"]]
    assert numbers == [1, 1, 1, 0, 1]


def test_what_may_be_missing_null_or_a_text():
    found = read(
        {"bbox": ["1", "2", "30", "4"], "iscrowd": None, "area": None, "segmentation": None, "id": None},
        {"bbox": None, "segmentation": [[10, 10, 30, 10, 30, 20]]},
        {"area": "77", "iscrowd": "0", "segmentation": []},
        {"iscrowd": 1},
    )
    assert found.unreadable == ()
    assert found.pictures[0].boxes.tolist() == [[1, 2, 31, 6], [10, 10, 30, 20], [0, 0, 10, 10]]
    assert found.pictures[0].segments == (None, [[10, 10, 30, 10, 30, 20]], None)
    assert [one["area"] for one in found.truth["annotations"]] == [120, 200, 77, 100]
    run = {"segmentation": {"size": [50, 100], "counts": [50 * 2 + 5, 10, 5000 - 115]}, "bbox": []}
    assert read(run).pictures[0].boxes.tolist() == [[2, 5, 3, 15]]
    assert [one["iscrowd"] for one in found.truth["annotations"]] == [0, 0, 0, 1]


def test_outlines_in_other_forms():
    square = [2, 1, 5, 1, 5, 3, 2, 3]
    found = read(
        {"segmentation": square},
        {"segmentation": [square, [1, 1, 2, 2]]},
        {"segmentation": [[str(x) for x in square]]},
        {"segmentation": [[[2, 1], [5, 1], [5, 3], [2, 3]]]},
    )
    assert [np.concatenate(one).tolist() for one in found.pictures[0].segments] == [square] * 4
    assert found.notes == ("a.json: 1 outline has parts of fewer than three points, which are left out",)


def test_a_mask_a_pixel_larger_is_cut():
    larger = np.zeros((51, 100), np.uint8)
    larger[10:20, 5:9] = 1
    found = read({"segmentation": encode(larger[None])[0]})
    (segment,) = found.pictures[0].segments
    assert segment["size"] == [50, 100]
    assert np.array_equal(decode(segment, 50, 100), larger[:50])


def test_an_image_that_is_listed_twice():
    both = content({}) | {"images": [IMAGE, dict(IMAGE)]}
    found = from_content(both, Path(), "a.json")
    assert len(found.pictures) == 1 and found.notes == ("a.json: 1 image is listed twice and is taken once",)
    both["images"][1]["file_name"] = "b.jpg"
    with pytest.raises(ValueError, match=r"a\.jpg and b\.jpg have the same id 7"):
        from_content(both, Path(), "a.json")


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
        ({"image_id": 8}, "annotation 2 is of image 8, which is not among its images"),
        ({"image_id": None}, "annotation 2 has the id None"),
        ({"category_id": 4}, "annotation 2 of a.jpg is of category 4, and the categories are 3, 90"),
        ({"segmentation": {"size": [100, 50], "counts": [5000]}}, "mask of 50x100 pixels, and its image has 100x50"),
        ({"segmentation": {"size": [50, 100], "counts": [10, 9000]}}, "mask that cannot be decoded: RLE counts exceed"),
        ({"segmentation": {"size": [50, 100], "counts": "~"}}, "mask that cannot be decoded"),
        ({"segmentation": {"counts": "~"}}, "mask without size or counts"),
        ({"segmentation": "outline"}, "neither polygons nor run lengths"),
        ({"segmentation": [[0, 0, 5, 5]]}, "fewer than three points"),
        ({"segmentation": [[0, 0, 5, 5, 9]]}, "not of pairs of numbers"),
        ({"segmentation": [[0, 0, 5, 5, "x", 9]]}, "not of pairs of numbers"),
        ({"segmentation": [[0, 0, 5, 5, 1e9, 9]]}, "a polygon that reaches 1e+09, and its image is 100x50"),
        ({"segmentation": [[0, 0, 5, 5, float("nan"), 9]]}, "a polygon that reaches nan"),
        ({"bbox": [0, 0, 5]}, "the bbox [0, 0, 5], which is not of four numbers"),
        ({"bbox": [0, 0, 5, float("inf")]}, "which is not of four numbers"),
        ({"bbox": None}, "the bbox None"),
    ],
)
def test_one_bad_annotation_costs_itself(annotation, words):
    found = read({}, annotation, {"bbox": [20, 20, 10, 10]})
    assert found.pictures[0].boxes.tolist() == [[0, 0, 10, 10], [20, 20, 30, 30]]
    assert [one["id"] for one in found.truth["annotations"]] == [1, 2]
    (line,) = found.unreadable
    assert line.startswith("a.json: annotation 2 ") and words in line and line.endswith("; correct or remove it")


def test_one_bad_image_costs_itself():
    found = from_content(content({}) | {"images": [IMAGE, {"id": 8}, {"file_name": "b.jpg"}]}, Path(), "a.json")
    assert len(found.pictures) == 1
    assert found.unreadable == tuple(
        f"a.json: image {number} has no id or no file_name; correct or remove it" for number in (2, 3)
    )


def test_mistakes_of_the_whole_are_named():
    for broken, words in (
        ([], "it holds a list, and no images"),
        (content() | {"images": []}, "0 images and 2 categories; a data set needs both"),
        (content() | {"images": [{"id": 1}]}, "image 1 has no id or no file_name"),
        (content() | {"annotations": {}} | {"images": 3}, "images is no list"),
        (content() | {"categories": [{"id": 1}]}, "a category has no 'name'"),
        (
            content() | {"categories": [{"id": 1, "name": "a"}, {"id": "1", "name": "b"}]},
            "two categories have the same id",
        ),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            from_content(broken, Path(), "a.json")


def photographs(folder, *, orientation=1, size=(96, 64), names=("a.jpg",)):
    """Noise with a red rectangle from a quarter to a half of each stored side."""
    for name in names:
        pixels = np.random.default_rng(0).integers(0, 200, (size[1], size[0], 3), dtype=np.uint8)
        pixels[size[1] // 4 : size[1] // 2, size[0] // 4 : size[0] // 2] = (255, 0, 0)
        exif = Image.Exif()
        exif[0x0112] = orientation
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name, exif=exif, quality=95)


def read_one(folder, name="a.jpg", where=None, **image):
    rows = {"images": [{"id": 1, "file_name": str(name), **image}], "categories": [{"id": 1, "name": "red"}]}
    rows["annotations"] = [{"image_id": 1, "category_id": 1, "bbox": [24, 16, 24, 16]}]
    (folder / "a.json").write_text(json.dumps(rows))
    return read_coco(folder / "a.json", where or folder)


@pytest.mark.parametrize(
    ("orientation", "sizes", "expected", "upright", "note"),
    [
        (1, {"width": 96, "height": 64}, (96, 64), True, None),
        (6, {"width": 64, "height": 96}, (64, 96), True, None),
        (6, {"width": 96, "height": 64}, (96, 64), False, "1 image is labelled as stored, sideways to its EXIF"),
        (1, {}, (96, 64), True, "1 image has no width and height, and those of its file are taken"),
        (8, {"width": None, "height": 0}, (64, 96), True, "1 image has no width and height"),
        (1, {"width": "97", "height": 63.0}, (97, 63), True, "1 image is a pixel larger or smaller than its file"),
        (6, {"width": 95, "height": 65}, (95, 65), False, "1 image is a pixel larger or smaller than its file"),
    ],
)
def test_sizes_and_rotation_follow_the_files(tmp_path, orientation, sizes, expected, upright, note):
    photographs(tmp_path, orientation=orientation)
    found = read_one(tmp_path, **sizes)
    (picture,) = found.pictures
    assert (picture.width, picture.height, picture.upright) == (*expected, upright)
    assert picture.boxes.tolist() == [[24, 16, 48, 32]]
    assert len(found.notes) == (note is not None) and (note is None or note in found.notes[0])


@pytest.mark.parametrize("written", ["train/a.jpg", "/home/me/train/a.jpg", "C:\\mine\\a.jpg", "a.jpg"])
def test_file_names_with_folders(tmp_path, written):
    photographs(tmp_path / "train")
    found = read_one(tmp_path, written, tmp_path / "train", width=96, height=64)
    assert found.pictures[0].file == tmp_path / "train/a.jpg"
    assert found.notes == () if written == "a.jpg" else "1 image is not where its file_name says" in found.notes[0]
    absolute = read_one(tmp_path, tmp_path / "train/a.jpg", tmp_path / "none", width=96, height=64)
    assert absolute.pictures[0].file == tmp_path / "train/a.jpg" and absolute.notes == ()


def test_no_two_images_get_one_file(tmp_path):
    photographs(tmp_path, names=("a.jpg",))
    rows = [{"id": n, "file_name": f"{n}/a.jpg", "width": 96, "height": 64} for n in (1, 2)]
    content = {"images": rows, "annotations": [], "categories": [{"id": 1, "name": "red"}]}
    found = from_content(content, tmp_path, "a.json", look=True)
    assert [picture.file for picture in found.pictures] == [tmp_path / "a.jpg", tmp_path / "2/a.jpg"]


def test_no_picture_is_there(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"none of the 1 images of .* can be used: the first is expected at .*a\.jpg"
    ):
        read_one(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"nothing")
    with pytest.raises(FileNotFoundError, match=r"can be used: cannot read the picture .*a\.jpg"):
        read_one(tmp_path)


def test_pictures_that_cannot_be_used_have_no_truth(tmp_path):
    """Whoever loads them notes why: a damaged one, one of another size, a name that the system does not take."""
    photographs(tmp_path, names=("a.jpg", "c.jpg"))
    (tmp_path / "b.jpg").write_bytes(b"nothing")
    huge = {"width": 100_000, "height": 100_000}  # whose mask would take 10 GB
    rows = [{"file_name": "a.jpg"}, {"file_name": "b.jpg"}, {"file_name": "c.jpg", **huge}, {"file_name": "x" * 300}]
    mask = {"size": [100_000, 100_000], "counts": [10**10]}
    content = {
        "images": [{"id": n, **row} for n, row in enumerate(rows)],
        "annotations": [{"image_id": n, "category_id": 1, "bbox": [0, 0, 9, 9]} for n in range(4)],
        "categories": [{"id": 1, "name": "red"}],
    }
    content["annotations"][2]["segmentation"] = mask
    found = from_content(content, tmp_path, "a.json", look=True)
    assert [len(picture.boxes) for picture in found.pictures] == [1, 0, 0, 0] and found.unreadable == ()
    with pytest.raises(FileNotFoundError, match=r"c\.jpg has 96x64 pixels, and its annotations say 100000x100000"):
        from_content(content | {"images": content["images"][2:3]}, tmp_path, "a.json", look=True)


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
        ("0 0.5 0.5 0.1", "line 1 has 3 numbers"),
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
