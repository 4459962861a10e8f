"""Recipes, YOLO and comparisons find and say the same of labels in the YOLO layout, and share a reader."""

import os
import shutil
import sys
from inspect import unwrap

import pytest
import torch
import ultralytics.data.dataset as dataset
import yaml
from PIL import Image

from dualvit.data.images import UnreadableError
from dualvit.data.yolo_labels import Labels, read_objects
from dualvit.errors import InputError, MissingFileError
from dualvit.yolo import YOLO
from dualvit.yolo.checks import read_data, require_labels

pytest.importorskip("lightning", reason="needs dualvit[recipes]")

import dualvit_cli
from dualvit.compare.engine import prepare_data
from dualvit.compare.reading import parse
from dualvit.recipes.config import kind, load_recipe

SETTINGS = {"imgsz": 64, "batch": 4, "epochs": 1, "device": "cpu", "workers": 0, "plots": False, "verbose": False}


class Begins(Exception):
    """Training would begin now."""


@pytest.fixture(scope="module")
def cases(makers, tmp_path_factory):
    root = tmp_path_factory.mktemp("cases")
    for name in ("roboflow", "nested-images", "no-label-matches", "labels-in-pixels"):
        makers[name](root / name)
    return root


def recipe(task):
    def read(data, _):
        found = kind(task).DataType(load_recipe(f"laptop-{task}", [f"data.root={data}"]), None)
        return len(found.train_data()), len(found.val_data())

    return read


def compared(engine):
    def read(data, out):
        models = {"recipe": ["resnet18"], "yolo": ["yolov8n.yaml"]}[engine]
        settings = {"engine": engine, "task": "detect", "data": str(data), "models": models, "epochs": 1,
                    "output": str(out / "out"), "image_size": 64, "batch": 2}  # fmt: skip
        found = prepare_data(parse(settings | ({"recipe": "laptop-detect"} if engine == "recipe" else {})))
        return found.train, found.val

    return read


def begins(data, out):
    """What YOLO would train on."""
    model = YOLO("yolov8n.yaml")

    def stop(trainer):
        sets = (trainer.train_loader.dataset, trainer.test_loader.dataset)
        raise Begins([{label["im_file"]: label["bboxes"].tolist() for label in one.labels} for one in sets])

    model.add_callback("on_train_start", stop)
    with pytest.raises(Begins) as begun:
        model.train(data=str(data), project=str(out), **SETTINGS)
    return begun.value.args[0]


def trained(data, out):
    return tuple(map(len, begins(data, out)))


def validated(data, out):
    YOLO("yolov8n.yaml").val(data=str(data), project=str(out), imgsz=64, device="cpu", workers=0, plots=False)


READERS = {
    "recipe detect": recipe("detect"),
    "recipe semantic": recipe("semantic"),
    "compare with recipes": compared("recipe"),
    "compare with yolo": compared("yolo"),
    "yolo train": trained,
    "yolo val": validated,
}


@pytest.mark.parametrize("reader", READERS)
def test_all_read_labels_by_the_one_reader(cases, tmp_path, monkeypatch, reader):
    stock, seen = Labels.read, set()

    def read(self, picture, file):
        seen.add(file)
        return stock(self, picture, file)

    monkeypatch.setattr(Labels, "read", read)
    data = cases / "nested-images/data.yaml"
    assert READERS[reader](data, tmp_path) in ((4, 4), None)
    expected = {data.parent / f"images/{split}/labels/p{index}.txt" for split in ("train", "val") for index in range(4)}
    if reader == "yolo train":  # Ultralytics reads the others
        assert {file.parent.parent.name for file in seen} == {"train", "val"} and seen <= expected
    else:
        assert seen == {file for file in expected if reader != "yolo val" or "val" in file.parts}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no-label-matches", "has a label; the first is expected at {root}/labels/{split}/p0.txt, and the next at "
         "{root}/labels/{split}/p1.txt, {root}/labels/{split}/p2.txt, ...; there is "
         "{root}/annotations/{split}/p0.txt; put label files there"),
        ("labels-in-pixels", "has a label that can be read: {root}/labels/{split}/p0.txt, line 1 has the coordinate "
         "36; give shares of width and height, 0 to 1; {root}/labels/{split}/p1.txt, line 1 has "),
    ],
)  # fmt: skip
def test_all_stop_before_anything_is_trained(cases, tmp_path, reader, name, words):
    data = cases / name / "data.yaml"
    split, use = ("val", "validate on") if reader == "yolo val" else ("train", "train on")
    with pytest.raises(InputError) as error:
        READERS[reader](data, tmp_path)
    told = str(error.value).removeprefix("data ")
    assert told.startswith(f"{data}: none of its 4 images to {use} " + words.format(root=data.parent, split=split))
    assert "\n" not in told and not list(tmp_path.rglob("*.pt"))


@pytest.mark.parametrize("yaml", ["names: [a, b]\nnc: 3", "names: {1: a, 2: b}", ""])
def test_all_say_the_same_of_a_data_yaml(layout, tmp_path, yaml):
    (layout / "data.yaml").write_text(f"train: images/train\nval: images/val\n{yaml}\n")
    told = set()
    for reader in READERS.values():
        with pytest.raises(InputError) as error:
            reader(layout / "data.yaml", tmp_path)
        told.add(str(error.value))
    assert len(told) == 1 and str(layout / "data.yaml") in told.pop()


def test_roboflow_trains_with_yolo_on_the_red_rectangle(cases, tmp_path):
    for split, found in zip(("train", "valid"), begins(cases / "roboflow", tmp_path), strict=True):
        files = [str(cases / f"roboflow/{split}/images/p{index}.jpg") for index in range(4)]
        assert found == {file: [[0.375, 0.375, 0.25, 0.25]] for file in files}


def command(monkeypatch, capsys, *words):
    """The exit status of `dualvit WORDS`, and what it says last."""
    monkeypatch.setattr(sys, "argv", ["dualvit", *map(str, words)])
    monkeypatch.setattr("ultralytics.YOLO", YOLO)  # put back what the command puts there
    monkeypatch.delenv("DUALVIT_DEBUG", raising=False)
    with pytest.raises(SystemExit) as end:
        dualvit_cli.main()
    return end.value.code, capsys.readouterr().err.strip().splitlines()[-1]


def test_the_commands_end_with_1(cases, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = cases / "labels-in-pixels/data.yaml"
    experiment = {"engine": "yolo", "task": "detect", "data": str(data), "models": ["yolov8n.yaml"], "epochs": 1}
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(experiment))
    for words in (
        ["recipe", "fit", "laptop-detect", "--set", f"data.root={data}", "--out", tmp_path / "detect"],
        ["recipe", "fit", "laptop-semantic", "--set", f"data.root={data}", "--out", tmp_path / "semantic"],
        ["yolo", "detect", "train", "model=yolov8n.yaml", f"data={data}", "device=cpu", f"project={tmp_path}"],
        ["yolo", "detect", "val", "model=yolov8n.yaml", f"data={data}", "device=cpu", f"project={tmp_path}"],
        ["compare", tmp_path / "e.yaml"],
    ):
        code, line = command(monkeypatch, capsys, *words)
        assert code == 1 and line.startswith("error: ") and "line 1 has the coordinate 36" in line, words
    assert not [file for ending in ("*.ckpt", "*.pt", "results.json") for file in tmp_path.rglob(ending)]


@pytest.mark.parametrize("reader", ["yolo train", "compare with yolo"])
def test_yolo_stops_at_a_label_file_that_cannot_be_read(layout, tmp_path, reader):
    (layout / "labels/train/b.txt").write_text("0 36 24 24 16\n5 0.5 0.5 0.1 0.1\n")
    with pytest.raises(InputError) as error:
        READERS[reader](layout / "data.yaml", tmp_path / "out")
    assert str(error.value) == (
        f"data {layout}/data.yaml: 1 of 2 train images or their labels cannot be read: "
        f"{layout}/labels/train/b.txt, line 1 has the coordinate 36; "
        "give shares of width and height, 0 to 1; repair or remove them"
    )


@pytest.mark.parametrize("task", ["detect", "semantic"])
def test_recipes_go_on_without_the_picture_and_list_it(layout, tmp_path, task):
    (layout / "labels/train/b.txt").write_text("5 0.5 0.5 0.1 0.1\n")
    data = kind(task).DataType(load_recipe(f"laptop-{task}", [f"data.root={layout}/data.yaml"]), tmp_path)
    assert (len(data.train_data()), len(data.val_data())) == (1, 2)
    line = f"{layout}/labels/train/b.txt, line 1 has class 5; data.yaml names 0 to 1"
    assert data.skipped.lines() == [line] == (tmp_path / "unreadable.txt").read_text().splitlines()
    strict = load_recipe(f"laptop-{task}", [f"data.root={layout}/data.yaml", "data.unreadable=0"])
    with pytest.raises(InputError, match=rf"{line}; 0 others could not be read either, and data\.unreadable allows 0"):
        kind(task).DataType(strict, None).train_data()


def test_a_box_beside_a_polygon_is_a_box_for_all(layout):
    """Ultralytics would leave the file out, or in old versions take the box's numbers for two corners."""
    file = layout / "labels/train/a.txt"
    file.write_text("\ufeff0 0.375 0.375 0.25 0.25\n1 0.1 0.1 0.6 0.1 0.6 0.5\n")
    stock = unwrap(dataset.verify_image_label)
    rest = [False] if "single_cls" in stock.__code__.co_varnames else []
    answer = dataset.verify_image_label((str(layout / "images/train/a.png"), str(file), "", False, 2, 0, 0, *rest))
    boxes, segments, corrupt = answer[1], answer[3], answer[8]
    assert not corrupt and len(segments) == 2
    assert torch.allclose(torch.tensor(boxes), torch.tensor([[0, 0.375, 0.375, 0.25, 0.25], [1, 0.35, 0.3, 0.5, 0.4]]))
    assert next(numbers for _, _, numbers in read_objects(file, 2)) == [0.375, 0.375, 0.25, 0.25]
    file.write_text("0 0.375 0.375 0.25 0.25\n1 0.1 0.1 0.6 0.1 0.6\n")
    with pytest.raises(UnreadableError, match="line 2 has 5 numbers"):
        read_objects(file, 2)


def test_a_cache_that_leaves_files_out_is_made_again(layout, tmp_path):
    """An Ultralytics without our reader wrote it."""
    file = layout / "labels/train/a.txt"
    file.write_text("0 0.375 0.375 0.25 0.25\n1 0.1 0.1 0.6 0.1 0.6 0.5\n")
    wrapped = dataset.verify_image_label
    dataset.verify_image_label = unwrap(wrapped)
    try:
        with pytest.raises(InputError, match=r"1 of 2 train images or their labels cannot be read: .*a\.png"):
            begins(layout / "data.yaml", tmp_path / "out")
    finally:
        dataset.verify_image_label = wrapped
    assert trained(layout / "data.yaml", tmp_path / "out") == (2, 2)


def test_places_that_recipes_find_are_found_by_yolo(layout, tmp_path, monkeypatch):
    """A `path` from the YAML's folder, a list without ./ from there, and a linked folder beside its labels."""
    (layout / "sub").mkdir()
    for name in ("images", "labels"):
        (layout / name).rename(layout / "sub" / name)
    (layout / "sub/images/val").rename(layout / "elsewhere")
    (layout / "sub/images/val").symlink_to(layout / "elsewhere")
    (layout / "sub/list.txt").write_text("images/train/a.png\nimages/train/b.png\n")
    (layout / "data.yaml").write_text("path: sub\ntrain: list.txt\nvalidation: images/val\nnames: [a, b]\n")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for reader in READERS.values():
        assert reader(layout / "data.yaml", tmp_path / "out") in ((2, 2), None)
    shutil.rmtree(layout / "elsewhere")
    for reader in READERS.values():
        with pytest.raises(MissingFileError, match=f"no images at .*{os.sep}sub/images/val"):
            reader(layout / "data.yaml", tmp_path / "out")


def test_images_that_only_recipes_read_are_named(layout, caplog):
    Image.new("RGB", (96, 64)).save(layout / "images/train/c.ppm")
    (layout / "labels/train/c.txt").write_text("")
    require_labels("mine", read_data(layout / "data.yaml"), "train", "detect")
    line = f"train: 1 of 3 images have a format that Ultralytics leaves out: {layout}/images/train/c.ppm"
    assert [record.message.rpartition("mine ")[2] for record in caplog.records if "mine" in record.message] == [line]
