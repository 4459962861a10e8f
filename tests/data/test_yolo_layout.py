"""The YOLO layout as people have it: which pictures and boxes are found, what is left out and said, what stops."""

import os

import numpy as np
import pytest

from dualvit.data.images import UnreadableError
from dualvit.data.masks import draw_polygons, read_masks, read_polygons
from dualvit.data.pictures import training_pictures
from dualvit.data.yolo_labels import Labels, read_objects
from dualvit.data.yolo_layout import find_yaml, read_layout, read_pairs, read_yolo
from dualvit.errors import InputError, MissingFileError

RED = [24, 16, 48, 32]  # the rectangle of the cases, in pixels


@pytest.mark.parametrize("name", ["roboflow", "empty-path", "nested-images", "label-with-bom", "linked-folder"])
def test_every_box_of_a_case_is_found_as_box_and_as_mask(case, name):
    yaml = case(name) / "data.yaml"
    masks = read_masks(yaml)
    for split in ("train", "val"):
        found = read_yolo(yaml, split)
        assert [picture.boxes.tolist() for picture in found.pictures] == [[RED]] * 4
        assert [picture.labels.tolist() for picture in found.pictures] == [[0], [1], [0], [1]]
        assert found.notes == found.unreadable == ()
        assert len(read_polygons(masks, split).pairs) == 4
    for index, (_, file) in enumerate((*masks.train, *masks.val)):
        drawn = draw_polygons(file, (64, 96), 3).numpy()
        assert (drawn == 1 + index % 2).mean() == 1 / 16
        assert drawn[16:32, 24:48].all()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no-label-matches",
         "none of its 4 images to {use} has a label; the first is expected at {root}/labels/{split}/p0.txt, "
         "and the next at {root}/labels/{split}/p1.txt, {root}/labels/{split}/p2.txt, ...; "
         "there is {root}/annotations/{split}/p0.txt; put label files there"),
        ("labels-in-pixels",
         "none of its 4 images to {use} has a label that can be read: "
         + "; ".join(f"{{root}}/labels/{{split}}/p{index}.txt, line 1 has the coordinate 36; "
                     "give shares of width and height, 0 to 1" for index in range(3))),
    ],
)  # fmt: skip
def test_a_case_in_which_nothing_can_be_learnt_stops(case, name, words):
    yaml = case(name) / "data.yaml"
    layout = read_layout(yaml)
    for split, use in (("train", "train on"), ("val", "validate on")):
        with pytest.raises(InputError) as error:
            layout.labels(split).read_all(layout.pairs(split)).require_some()
        assert str(error.value) == f"{yaml}: " + words.format(root=yaml.parent, split=split, use=use)


def test_a_malformed_label_file_costs_its_picture_alone(layout):
    """The other objects of the file would count as background."""
    bad = layout / "labels/train/b.txt"
    bad.write_text("0 0.375 0.375 0.25 0.25\n0 36 24 24 16\n")
    found = read_yolo(layout / "data.yaml", "train")
    reason = f"{bad}, line 2 has the coordinate 36; give shares of width and height, 0 to 1"
    assert [picture.file.name for picture in found.pictures] == ["a.png"]
    assert [image["file_name"] for image in found.truth["images"]] == [str(layout / "images/train/a.png")]
    assert found.unreadable == (reason,)
    assert found.notes == (f"{layout}/data.yaml train: 1 label file cannot be read: its image is left out; {reason}",)
    (layout / "labels/train/a.txt").write_bytes(b"\xff\xfe0")
    with pytest.raises(InputError, match=r"none of its 2 images to train on has a label .*a\.txt: they are no UTF-8"):
        read_yolo(layout / "data.yaml", "train")


def test_lines_that_repeat_count_once_and_are_named(layout):
    file = layout / "labels/train/a.txt"
    file.write_text("0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2\n0 .50 0.5 0.2 0.2\n1 0.5 0.5 0.2 0.2\n")
    found = read_yolo(layout / "data.yaml", "train")
    assert found.pictures[0].labels.tolist() == [0, 1]
    assert found.notes == (
        f"{layout}/data.yaml train: 2 lines repeat another one of their file and are left out: {file}, line 2, "
        f"{file}, line 3",
    )


def test_files_without_their_other_half_are_named(layout):
    (layout / "labels/train/b.txt").rename(layout / "labels/train/IMG_b.txt")
    (layout / "labels/train/classes.txt").write_text("a\nb\n")
    (layout / "images/train/z.txt").write_text("")
    (layout / "images/train/film.mov").write_text("")
    other = "1 file is no picture that can be read here, and is left out: 1 .mov (film.mov)"
    assert read_masks(layout).notes == (f"{layout}/images/train: {other}",)
    assert read_yolo(layout / "data.yaml", "train").notes == (
        f"{layout}/images/train: {other}",
        f"{layout}/data.yaml train: 1 image has no label file and counts as background; looked for "
        f"{layout}/labels/train/b.txt",
        f"{layout}/data.yaml train: 1 label file has no image: {layout}/labels/train/IMG_b.txt",
    )


def test_a_list_of_some_pictures_leaves_no_label_file_without_an_image(layout):
    (layout / "some.txt").write_text("./images/train/a.png\n")
    (layout / "data.yaml").write_text("train: some.txt\nval: images/val\nnames: [a, b]\n")
    found = read_yolo(layout / "data.yaml", "train")
    assert len(found.pictures) == 1 and found.notes == ()


def test_empty_label_files_alone_stop(layout):
    for name in "ab":
        (layout / f"labels/val/{name}.txt").write_text("\n")
    pairs = read_layout(layout / "data.yaml").pairs("val")
    with pytest.raises(InputError, match=r"2 images to validate on has an object: empty label files, such as .*a\.txt"):
        Labels("data.yaml", "val", 2).read_all(pairs).require_some()


def test_boxes_polygons_and_keypoints_in_one_file(layout):
    file = layout / "labels/train/a.txt"
    file.write_text("0 0.375 0.375 0.25 0.25\n1 0.75 0.5 1 0.5 1 1\n1 0.1 0.1 0.2 0.2 0.1 0.1 2 0.3 0.3 2\n")
    (layout / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [a, b]\nkpt_shape: [2, 3]\n")
    found = read_yolo(layout / "data.yaml", "train").pictures[0]
    assert np.allclose(found.boxes, [RED, [72, 32, 96, 64], [0, 0, 19.2, 12.8]])
    assert found.segments == (None, [[72, 32, 96, 32, 96, 64]], None)
    masks = read_masks(layout)
    notes = read_polygons(masks, "train").notes(boxes=True)
    assert notes == (
        f"{layout}/data.yaml train: 3 objects are boxes, which are drawn filled: {file}, line 1, {file}, line 3, "
        f"{layout}/labels/train/b.txt, line 1",
    )
    assert (draw_polygons(file, (64, 96), 3, masks.polygons.keypoints) == 1).sum() == 24 * 16
    with pytest.raises(UnreadableError, match="line 3 has the coordinate 2; give shares"):
        read_objects(file, 2)


@pytest.mark.parametrize(("side", "pixels"), [(0.001, 1), (0.25, 4), (1, 64), (0, 1)])
def test_a_box_is_drawn_as_the_pixels_that_it_covers(tmp_path, side, pixels):
    (tmp_path / "a.txt").write_text(f"0 0.5 0.5 {side} {side}")
    assert int(draw_polygons(tmp_path / "a.txt", (8, 8), 2).sum()) == pixels


def test_a_path_begins_at_the_working_directory_or_at_the_yaml(layout, monkeypatch):
    (layout / "work/sub").mkdir(parents=True)
    for kind in ("images", "labels"):
        (layout / kind).rename(layout / "work/sub" / kind)
    (layout / "data.yaml").write_text("path: sub\ntrain: images/train\nval: images/val\nnames: [a, b]\n")
    monkeypatch.chdir(layout / "work")
    assert len(read_pairs(layout / "data.yaml", "train")[1]) == 2
    monkeypatch.chdir(layout)
    with pytest.raises(MissingFileError, match=rf"no images at {layout}/sub/images/train; make its folders"):
        read_pairs(layout / "data.yaml", "train")
    (layout / "data.yaml").rename(layout / "work/data.yaml")
    assert [file.as_posix() for file in training_pictures("work")] == [
        "work/sub/images/train/a.png", "work/sub/images/train/b.png",
    ]  # fmt: skip


@pytest.mark.parametrize("link", ["images/train", "labels/train", "labels"])
def test_linked_folders_lead_to_labels(layout, link):
    """Also if only the path with the link in it does."""
    (layout / "store").mkdir()
    (layout / link).rename(layout / "store/linked")
    (layout / link).symlink_to(layout / "store/linked")
    found = read_yolo(layout / "data.yaml", "train")
    assert [picture.boxes.tolist() for picture in found.pictures] == [[RED], [RED]]


def test_lists_are_read_from_their_folder_or_the_working_directory(layout, monkeypatch):
    (layout / "lists").mkdir()
    (layout / "lists/b.png").write_bytes((layout / "images/train/b.png").read_bytes())
    (layout / "lists/some.txt").write_text("images/train/a.png \n\n./b.png\n")
    (layout / "data.yaml").write_text("train: [lists/some.txt]\nval: images/val\nnames: [a, b]\n")
    monkeypatch.chdir(layout)
    pairs = read_pairs("data.yaml", "train")[1]
    assert [picture.resolve() for picture, _ in pairs] == [layout / "images/train/a.png", layout / "lists/b.png"]
    assert [file.resolve() for _, file in pairs] == [layout / "labels/train/a.txt", layout / "lists/b.txt"]


def test_the_yaml_of_a_folder(layout):
    assert find_yaml(layout) == layout / "data.yaml" == find_yaml(layout / "data.yaml")
    (layout / "data.yaml").rename(layout / "mine.yml")
    assert find_yaml(layout) == layout / "mine.yml"
    (layout / "other.yaml").write_text("a: 1\n")
    assert find_yaml(layout) == layout / "mine.yml"
    (layout / "other.yml").write_text("a: 1\n")
    assert find_yaml(layout) is None
    (layout / "mine.yml").rename(layout / f"{layout.name}.yml")
    assert find_yaml(layout) == layout / f"{layout.name}.yml"
    (layout / "images/notes.yaml").write_text("[")
    assert find_yaml(layout / "images") is None


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        (
            "train: {a: b}\nval: images/val\nnames: [a]",
            r"has train \{'a': 'b'\}; give a folder, a text file, or",
        ),
        ("val: images/val\nnames: [a]", "has no train; it needs train, val and names"),
        ("train: images/train/a.png\nnames: [a]", r"a\.png is no text file that lists images; give a folder"),
        ("train: images/train\nnames: [a]\nnc: 1.5", "has nc 1.5; give the number of classes, or leave nc out"),
        ("train: images/train\nnames: [a]\nnc:", "has nc None; give the number of classes"),
        ("train: images/train\nnames: []\nnc: 2", "has no names"),
        (
            "train: images/train\nnames: [a]\nkpt_shape: [17]",
            r"has kpt_shape \[17\]; give keypoints and values",
        ),
        ("- a", "holds no settings; it needs train, val and names"),
        ("", "holds no settings"),
        ("train: [a", "is not valid YAML"),
    ],
)
def test_mistakes_of_a_data_yaml_are_one_line(layout, yaml, words):
    (layout / "data.yaml").write_text(yaml)
    with pytest.raises(InputError, match=words):
        read_pairs(layout / "data.yaml", "train")


def test_bytes_that_are_no_text_are_left_out_of_a_yaml(layout):
    (layout / "data.yaml").write_bytes(b"train: images/train\nval: images/val\nnames: [caf\xe9, 'b\0']\n")
    assert read_layout(layout / "data.yaml").classes == ("caf", "b")


def test_a_pipe_in_the_place_of_labels_is_not_waited_for(layout):
    (layout / "labels/train/b.txt").unlink()
    os.mkfifo(layout / "labels/train/b.txt")
    assert [len(picture.boxes) for picture in read_yolo(layout / "data.yaml", "train").pictures] == [1, 0]
