"""Masks: what is found in each layout, what a file's numbers mean, polygons with known areas, and each mistake."""

import numpy as np
import pytest
import torch
from PIL import Image

from dualvit.data.masks import draw_polygons, read_mask, read_masks, read_polygons
from dualvit.data.yolo_layout import read_yolo


def save(path, values, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, dtype=np.uint8), mode).save(path)
    return path


def fill(root, images, masks):
    save(root / images / "a.jpg", np.zeros((4, 6, 3)))
    save(root / images / "sub" / "b.png", np.zeros((4, 6, 3)))
    if masks:
        save(root / masks / "a.png", np.zeros((4, 6)))
        save(root / masks / "sub" / "b.png", np.zeros((4, 6)))


def test_folders_of_masks(tmp_path):
    fill(tmp_path, "images/train", "masks/train")
    fill(tmp_path, "images/val", "masks/val")
    with pytest.raises(ValueError, match=r"names no classes; give data.classes"):
        read_masks(tmp_path)
    (tmp_path / "classes.txt").write_text("wall\n\nsky\n")
    found = read_masks(tmp_path)
    assert found.classes == ("wall", "sky") and not found.polygons
    assert [pair[1].relative_to(tmp_path).as_posix() for pair in found.train] == [
        "masks/train/a.png",
        "masks/train/sub/b.png",
    ]
    assert read_masks(tmp_path, ("x", "y")).classes == ("x", "y")
    (tmp_path / "masks/val/a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a.jpg has no mask .*masks/val/a.png \(1 of 2"):
        read_masks(tmp_path)


def test_ade20k(tmp_path):
    fill(tmp_path, "images/training", "annotations/training")
    fill(tmp_path, "images/validation", "annotations/validation")
    (tmp_path / "objectInfo150.txt").write_text(
        "Idx\tRatio\tTrain\tVal\tName\n1\t0.2\t9\t9\twall\n2\t0.1\t9\t9\tperson, individual\n"
    )
    found = read_masks(tmp_path)
    assert found.classes == ("wall", "person")
    assert len(found.train) == len(found.val) == 2


def test_yolo(tmp_path):
    fill(tmp_path, "images/train", None)
    fill(tmp_path, "images/val", None)
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: {0: cell, 1: dust}\n")
    found = read_masks(tmp_path)
    assert found.classes == ("background", "cell", "dust") and found.polygons
    assert found.val[1][1] == tmp_path / "labels/val/sub/b.txt"
    with pytest.raises(ValueError, match=r"data.classes is cell, dust"):
        read_masks(tmp_path, ("cell", "dust"))


def test_the_last_images_becomes_labels_and_places_are_those_of_boxes(tmp_path):
    """Both readers find the same label files: nested `images`, `path`, an absolute place, lists, and a text file."""
    fill(tmp_path / "set", "images/train/images", None)
    fill(tmp_path / "set", "images/val/images", None)
    fill(tmp_path / "else", "images/more", None)
    (tmp_path / "set" / "list.txt").write_text("./images/val/images/a.jpg\n")
    labels = tmp_path / "set/images/train/labels/sub/b.txt"
    labels.parent.mkdir(parents=True)
    labels.write_text("1 0.25 0.25 0.75 0.25 0.75 0.75\n")
    (tmp_path / "data.yaml").write_text(
        f"path: set\ntrain: [images/train/images, {tmp_path}/else/images/more]\nval: list.txt\nnc: 2\n"
        "names: {1: dust, 0: cell}\n"
    )
    found = read_masks(tmp_path)
    assert found == read_masks(tmp_path / "data.yaml")
    assert found.classes == ("background", "cell", "dust")
    assert [pair[1].relative_to(tmp_path).as_posix() for pair in (*found.train, *found.val)] == [
        "set/images/train/labels/a.txt", "set/images/train/labels/sub/b.txt",
        "else/labels/more/a.txt", "else/labels/more/sub/b.txt", "set/images/val/labels/a.txt",
    ]  # fmt: skip
    assert (draw_polygons(found.train[1][1], (8, 8), 3) == 2).sum() > 8
    boxes = read_yolo(tmp_path / "data.yaml", "train")
    assert boxes.classes == found.classes[1:]
    assert [picture.file for picture in boxes.pictures] == [pair[0] for pair in found.train]
    assert [len(picture.labels) for picture in boxes.pictures] == [0, 1, 0, 0]
    assert len(read_polygons(found, "train").pairs) == 4
    with pytest.raises(ValueError, match=r"none of its 1 images to validate on has a label; .*val/labels/a\.txt"):
        read_polygons(found, "val").require_some()
    labels.write_text("1 0.5 0.5 0.25 0.25\n")
    assert f"1 object is a box, which is drawn filled: {labels}, line 1" in "".join(
        read_polygons(found, "train").notes(boxes=True)
    )
    assert (draw_polygons(labels, (8, 8), 3) == 2).sum() == 4


def test_no_data_set(tmp_path):
    with pytest.raises(FileNotFoundError, match="no data set at"):
        read_masks(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="has no images/train"):
        read_masks(tmp_path)


def test_a_mask_s_numbers(tmp_path):
    values = [[0, 1, 2], [3, 255, 0]]
    file = save(tmp_path / "m.png", values)
    assert read_mask(file, (2, 3), 4, 255, False).tolist() == values
    assert read_mask(file, (2, 3), 3, 255, True).tolist() == [[255, 0, 1], [2, 255, 255]]
    palette = Image.fromarray(np.array(values, dtype=np.uint8), "P")
    palette.putpalette([200, 0, 0] * 256)
    palette.save(tmp_path / "p.png")
    assert read_mask(tmp_path / "p.png", (2, 3), 4, 255, False).tolist() == values


def test_a_mask_that_does_not_fit(tmp_path):
    file = save(tmp_path / "m.png", [[0, 1, 7], [3, 255, 0]])
    with pytest.raises(ValueError, match=r"m.png is 3x2, and its image 2x3"):
        read_mask(file, (3, 2), 8, 255, False)
    with pytest.raises(ValueError, match="has index 7, and the 4 classes are 0 to 3"):
        read_mask(file, (2, 3), 4, 255, False)
    with pytest.raises(ValueError, match="has index 7, and the 6 classes are 1 to 6"):
        read_mask(file, (2, 3), 6, 255, True)
    assert read_mask(file, (2, 3), 7, 255, True).max() == 255
    with pytest.raises(ValueError, match="is RGB; give an image with one number a pixel"):
        read_mask(save(tmp_path / "c.png", np.zeros((2, 3, 3))), (2, 3), 4, 255, False)
    (tmp_path / "broken.png").write_bytes(file.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"cannot read the mask .*broken.png"):
        read_mask(tmp_path / "broken.png", (2, 3), 4, 255, False)


def test_polygons_with_a_known_answer(tmp_path):
    """A contour through the centres of a rectangle's corner pixels covers just that rectangle."""
    file = tmp_path / "a.txt"
    corners = [(2.5, 1.5), (5.5, 1.5), (5.5, 3.5), (2.5, 3.5)]  # pixels 2 to 5 and 1 to 3, of 10 x 8
    file.write_text("1 " + " ".join(f"{x / 10:.6f} {y / 8:.6f}" for x, y in corners) + "\n\n")
    expected = torch.zeros(8, 10, dtype=torch.long)
    expected[1:4, 2:6] = 2
    assert torch.equal(draw_polygons(file, (8, 10), 3), expected)
    assert not draw_polygons(tmp_path / "absent.txt", (8, 10), 3).any()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.1 0.1 0.2 0.2 0.3", "line 1 has 5 numbers; a box has 4 and a polygon 6, 8"),
        ("x 0.1 0.1 0.2 0.2 0.3 0.3", "line 1 is no polygon"),
        ("2 0.1 0.1 0.2 0.2 0.3 0.3", "has class 2; data.yaml names 0 to 1"),
        ("0.5 0.1 0.1 0.2 0.2 0.3 0.3", "has class 0.5"),
        ("0 nan 0.1 0.2 0.2 0.3 0.3", "line 1 has the coordinate nan; give shares"),
        ("0 20 10 40 10 40 30", "line 1 has the coordinate 20; give shares of width and height"),
    ],
)
def test_malformed_polygons(tmp_path, line, words):
    (tmp_path / "a.txt").write_text(line)
    with pytest.raises(ValueError, match=words):
        draw_polygons(tmp_path / "a.txt", (8, 8), 3)
