"""A part of the training pictures validates: the parts share no picture, and the validation part is not used."""

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("lightning", reason="needs dualvit[recipes]")

from dualvit.recipes.config import kind, load_recipe

POLYGON = "0 0.2 0.2 0.6 0.2 0.6 0.7 0.2 0.7\n"


@pytest.fixture
def scenes(tmp_path):
    """Seven pictures to train on and two to validate on, each with a polygon; the width is the picture's number."""
    for split, widths in (("train", range(40, 47)), ("val", (90, 91))):
        for name in ("images", "labels"):
            (tmp_path / name / split).mkdir(parents=True)
        for width in widths:
            Image.new("RGB", (width, 64), (width, 0, 0)).save(tmp_path / "images" / split / f"{width}.png")
            (tmp_path / "labels" / split / f"{width}.txt").write_text(POLYGON)
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [a]\n")
    return tmp_path / "data.yaml"


def data_of(recipe, root, *more):
    found = load_recipe(recipe, [f"data.root={root}", "data.hold_out=3", *more])
    return kind(found.task).DataType(found, None)


@pytest.mark.parametrize("recipe", ["laptop-detect", "laptop-masks"])
def test_detect(scenes, recipe):
    data = data_of(recipe, scenes)
    widths = [[picture.width for picture in part.pictures] for part in (data.train, data.val)]
    assert widths == [[40, 41, 43, 44, 46], [42, 45]]
    assert (len(data.train_data()), len(data.val_data())) == (5, 2)
    truth = data.val.truth
    assert [one["width"] for one in truth["images"]] == [42, 45]
    assert {one["image_id"] for one in truth["annotations"]} == {one["id"] for one in truth["images"]}


def test_semantic(scenes):
    pytest.importorskip("segmentation_models_pytorch", reason="needs dualvit[recipes]")
    data = data_of("laptop-semantic", scenes)
    names = [[file.stem for file, _ in part.samples] for part in (data.train_data(), data.val_data())]
    assert names == [["40", "41", "43", "44", "46"], ["42", "45"]]


def test_classify(tmp_path):
    for split, count in (("train", 6), ("val", 2)):
        for label in ("dark", "light"):
            (tmp_path / split / label).mkdir(parents=True)
            for index in range(count):
                pixels = np.full((32, 32, 3), 60 if label == "dark" else 180, np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / label / f"{index}.png")
    data = data_of("laptop-classify", tmp_path)
    parts = data.train_data().samples, data.val_data().samples
    assert [len(part) for part in parts] == [8, 4]
    assert {file.parts[-3] for part in parts for file, _ in part} == {"train"}
    assert [label for _, label in parts[1]] == [0, 0, 1, 1]
    assert not set(parts[0]) & set(parts[1])


def test_shards_have_no_part_to_hold_out(tmp_path):
    (tmp_path / "classes.txt").write_text("a\nb\n")
    more = (f"data.val={tmp_path}/v.tar", f"data.classes={tmp_path}/classes.txt", "data.samples=4")
    with pytest.raises(ValueError, match=r"data.hold_out is 3, and data.root names shards; give a folder"):
        data_of("laptop-classify", f"{tmp_path}/t.tar", *more)
