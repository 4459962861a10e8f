"""A run without data is an error, what readers note is shown and stored, and a batch of one picture trains."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

pytest.importorskip("lightning", reason="needs dualvit[recipes]")

from safetensors.torch import save_file

from dualvit.data.folders import read_folders
from dualvit.lone import take_lone_values
from dualvit.models import create_model
from dualvit.recipes.classify.evaluate import Look, Source
from dualvit.recipes.detect.data import DetectData
from dualvit.recipes.loading import Skipped
from dualvit.recipes.run import fit, load, load_recipe, prepare, validate
from dualvit.recipes.semantic.data import SemanticData
from dualvit.recipes.trainer import make_trainer, quiet
from dualvit_cli import main

SMALL = ["network.name=dualvit_n", "schedule.epochs=1", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false"]
COCO = [
    "data.train_json=train.json", "data.train_images=train", "data.val_json=val.json", "data.val_images=val",
    "head.channels=16", "head.rois=16", "head.detections=5", "data.short_side=64", "data.long_side=96", "data.batch=2",
    "trainer.check_val_every_n_epoch=1",
]  # fmt: skip
MASKS = [
    "data.image_size=64", "data.short_side=64", "data.stride=null", "decoder.channels=16",
    "decoder.auxiliary_channels=16", "data.batch=2",
]  # fmt: skip


def dualvit(monkeypatch, *arguments):
    """Run the command in this process; return its exit status."""
    monkeypatch.setattr(sys, "argv", ["dualvit", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return end.code
    return 0


def options(changes):
    return [word for change in changes for word in ("--set", change)]


def pictures(folder):
    for split in ("train", "val"):
        for label in "ab":
            (folder / split / label).mkdir(parents=True)
            Image.new("RGB", (40, 40), "red").save(folder / split / label / "1.png")
    return [f"data.root={folder}", "data.image_size=32", "data.batch=2", *SMALL]


@pytest.fixture
def sets(case, tmp_path):
    """A data set for each task, with its recipe and the folders of its pictures."""
    coco, masks = case("no-sizes"), case("one-picture")
    (tmp_path / "flat").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "flat/1.png")
    flat = [f"data.root={tmp_path / 'flat'}", "data.image_size=64", "data.batch=1", "data.samples=1", *SMALL]
    return {
        "classify": ("laptop-classify", pictures(tmp_path / "folders"), tmp_path / "folders"),
        "detect": ("laptop-detect", [f"data.root={coco}", *COCO, *SMALL], coco),
        "semantic": ("laptop-semantic", [f"data.root={masks}", *MASKS, *SMALL], masks / "images"),
        "pretrain": (None, flat, tmp_path / "flat"),
    }


def settings(name, changes, folder):
    if name:
        return load_recipe(name, changes)
    from dualvit.recipes.pretrain.config import settings

    weights = folder / "teacher.safetensors"
    save_file(create_model("test_resnet").state_dict(), weights)
    return settings(changes, "test_resnet", weights, None, 1, "")


@pytest.mark.parametrize("task", ["classify", "detect", "semantic", "pretrain"])
def test_no_picture_that_can_be_read_is_an_error(sets, task, tmp_path, monkeypatch):
    name, changes, folder = sets[task]
    (tmp_path / "out").mkdir()
    task, data = prepare(settings(name, changes, tmp_path), tmp_path / "out")
    monkeypatch.setattr(type(task), "setup", lambda self, stage: None)  # a teacher's weights are not needed
    for file in [*folder.rglob("*.png"), *folder.rglob("*.jpg")]:
        file.write_bytes(b"nothing")
    count = len(data.train_data())
    with pytest.raises(ValueError, match=rf"^none of the {count} images to train on can be read; the last: cannot"):
        next(iter(data.train_dataloader()))
    data.trainer = None
    with (
        quiet(),
        pytest.raises(ValueError, match=r"^none of the images to validate on can be read; the last: cannot"),
    ):
        make_trainer(task.recipe, None).validate(task, data, verbose=False)
    assert data.skipped.lines()


def test_a_run_without_a_picture_ends_with_1_and_names_no_checkpoint(case, tmp_path, monkeypatch, capsys):
    root = case("no-picture-there")
    command = ["recipe", "fit", "laptop-detect", *options([f"data.root={root}", *COCO, *SMALL])]
    assert dualvit(monkeypatch, *command, "--out", tmp_path / "run") == 1
    said = capsys.readouterr()
    words = (
        f"error: none of the 4 images of {root / 'train.json'} can be used: the first is expected at {root / 'train'}"
    )
    assert words in said.err and "best.ckpt" not in said.out + said.err
    assert not list((tmp_path / "run").glob("*.ckpt")) and not (tmp_path / "run/results.json").exists()


def test_no_validation_picture_stops_before_a_checkpoint(tmp_path):
    recipe = load_recipe("laptop-classify", pictures(tmp_path / "data"))
    for file in (tmp_path / "data/val").rglob("*.png"):
        file.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"none of the images to validate on can be read; the last: cannot read .*png"):
        fit(recipe, tmp_path / "run")
    assert not list((tmp_path / "run").glob("*.ckpt")) and not (tmp_path / "run/results.json").exists()


def test_string_ids_and_notes_reach_screen_results_and_predictions(case, tmp_path, monkeypatch, capsys):
    root = case("string-ids")
    content = json.loads((root / "train.json").read_text())
    content["annotations"][0] |= {"segmentation": [[24, 16, 48, 16]]}
    content["annotations"][1] |= {"bbox": [90, 50, 20, 20]}
    (root / "train.json").write_text(json.dumps(content))
    changes = [f"data.root={root}", *COCO, *SMALL]
    (tmp_path / "run").mkdir()
    (tmp_path / "run/unreadable.txt").write_text("of an earlier start, mended since\n")
    command = ["recipe", "fit", "laptop-detect", *options(changes), "--out", tmp_path / "run"]
    assert dualvit(monkeypatch, *command) == 0
    said, results = capsys.readouterr().out, json.loads((tmp_path / "run/results.json").read_text())
    json_file = root / "train.json"
    fault = "annotation 1 of p0.jpg has a polygon of fewer than three points; correct or remove it"
    assert results["notes"] == [
        f"{json_file}: 1 box reaches beyond its image and is clipped", f"{json_file}: 1 entry is left out: {fault}"
    ]  # fmt: skip
    assert results["skipped"] == [f"{json_file}: {fault}"]
    assert (tmp_path / "run/unreadable.txt").read_text() == f"{json_file}: {fault}\n"
    assert all(f"note: {note}\n" in said for note in results["notes"])
    assert f"skipped 1 that could not be used: {tmp_path / 'run/unreadable.txt'}" in said
    assert "best.ckpt, results.json" in said
    validate(tmp_path / "run/best.ckpt")
    assert f"note: {results['notes'][0]}" in capsys.readouterr().out
    task = load(tmp_path / "run/best.ckpt", ["head.score=0"])
    assert task.category_ids == ["1", "2"]
    list(task.predict([root / "val/p0.jpg"], tmp_path / "said"))
    said = json.loads((tmp_path / "said/predictions.json").read_text())
    assert [one["id"] for one in said["categories"]] == ["1", "2"]
    assert {one["category_id"] for one in said["annotations"]} <= {"1", "2"} and said["annotations"]


@pytest.mark.parametrize(("name", "left"), [("laptop-detect", 1), ("laptop-masks", 0)])
def test_an_object_without_a_mask_is_mask_rcnns_alone(case, name, left, tmp_path):
    data = DetectData(load_recipe(name, [f"data.root={case('one-empty-segmentation')}", *COCO]), tmp_path)
    assert len(data.train_data()[0][1]["boxes"]) == left
    assert len(data.skipped.lines()) == 1 - left


def test_sizes_of_files_give_the_same_samples(case, tmp_path):
    data = DetectData(load_recipe("laptop-detect", [f"data.root={case('no-sizes')}", *COCO]), tmp_path)
    image, target = data.val_data()[0]
    assert image.shape == (3, 64, 96) and target["boxes"].tolist() == [[24, 16, 48, 32]]
    assert [(picture.width, picture.height) for picture in data.train.pictures] == [(96, 64)] * 4
    assert data.notes == (f"{data.train.name}: 4 images have no width and height, and those of their files are taken",)


@pytest.mark.parametrize(
    ("values", "changes", "words"),
    [
        ((0, 255), [], "hold 0 and 255 alone, and 255 (data.ignore_index) is no class: class 1, 'thing', never occurs; "
                       "write 1 instead of 255 into the masks"),
        ((0, 0), [], "hold 0 alone, which is one class, 'background': there is nothing to tell apart"),
        ((255, 255), [], "hold 255 alone, and 255 (data.ignore_index) is no class: class 0, 'background', never"),
        ((0, 1), ["data.reduce_zero_label=true"], "hold 0 and 1 alone, which is one class, 'background'"),
        ((0, 0), ["data.reduce_zero_label=true"], "hold 0 alone, which is no class"),
    ],
)  # fmt: skip
def test_masks_of_a_single_class_are_refused(case, values, changes, words):
    root = case("masks-0-255")
    for file in (root / "masks").rglob("*.png"):
        Image.fromarray(np.array(values, np.uint8)[(np.array(Image.open(file)) > 0).astype(int)]).save(file)
    data = SemanticData(load_recipe("laptop-semantic", [f"data.root={root}", *changes]), None)
    for use, split in ((data.train_data, "train"), (data.val_data, "val")):
        with pytest.raises(ValueError) as error:
            use()
        assert words in str(error.value) and f"the 4 masks, such as {root / 'masks' / split}" in str(error.value)


def test_a_mask_of_a_rotated_photograph_covers_the_red_rectangle(case):
    """Upright as labelled; and drawn on the pixels as stored, which its size tells."""
    root = case("rotated-with-upright-masks")
    recipe = load_recipe("laptop-semantic", [f"data.root={root}", *MASKS])
    for shape in ((96, 64), (64, 96)):
        image, mask = SemanticData(recipe, None).val_data()[0]
        red = (image[0] > 1) & (image[1] < -1)
        assert mask.shape == shape
        reds = nn.functional.interpolate(red[None, None].float(), shape)[0, 0].bool()
        assert float((reds & (mask == 1)).sum() / (reds | (mask == 1)).sum()) > 0.9
        for file in (root / "masks").rglob("*.png"):
            mask = Image.open(file)
            mask.rotate(90, expand=True).save(file)


def test_one_picture_trains(case, tmp_path):
    changes = [f"data.root={case('one-picture')}", *MASKS, *SMALL, "data.batch=1"]
    task = fit(load_recipe("laptop-semantic", changes), tmp_path)
    assert task.global_step == 1 and np.isfinite(task.history[-1]["loss"])
    assert task.training_step and not any(m._forward_pre_hooks for m in task.network.modules())


def test_a_lone_value_is_normed_by_what_was_learnt():
    norm = nn.BatchNorm2d(3)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        norm(torch.randn(1, 3, 1, 1))
    norm(3 + 2 * torch.randn(64, 3, 4, 4))
    mean, var = norm.running_mean.clone(), norm.running_var.clone()
    value = torch.randn(1, 3, 1, 1)
    handles = take_lone_values(nn.Sequential(norm))
    expected = (value.flatten() - mean) / (var + norm.eps).sqrt()
    torch.testing.assert_close(norm(value).flatten(), expected)
    assert norm.training and torch.equal(norm.running_mean, mean)
    more = torch.randn(2, 3, 1, 1)
    torch.testing.assert_close(norm(more), nn.BatchNorm2d(3)(more))  # all others as ever
    for handle in handles:
        handle.remove()
    assert not norm._forward_pre_hooks and not norm._forward_hooks


def test_eval_and_probe_stop_where_nothing_can_be_read(tmp_path):
    pictures(tmp_path / "data")
    samples = read_folders(tmp_path / "data").val
    look, source = Look("none"), Source(nn.Identity(), None, lambda image: torch.zeros(3))
    skipped = Skipped(None, look.unreadable)
    samples[0][0].write_bytes(b"nothing")
    assert len(list(look.batches(samples, source, skipped))) == 1 and len(skipped.lines()) == 1
    samples[1][0].write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"^none of the 2 images can be read; the last: cannot read .*b/1\.png"):
        list(look.batches(samples, source, skipped))


def test_a_list_without_a_file(tmp_path):
    skipped = Skipped(None, 2)
    skipped.add_all(["a", "b", "a"])
    assert skipped.lines() == ["a", "b"]
    with pytest.raises(ValueError, match=r"c; 2 others could not be read either, and data\.unreadable allows 2"):
        skipped.add("c")
    skipped.clear()
    assert skipped.lines() == []
