"""A cell through `recipe fit`: it resumes to the same bits, keeps to its minutes, names a NaN; of every task."""

import io
import json
import time

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

pytest.importorskip("lightning", reason="needs dualvit[recipes]")

from dualvit.compare import runner
from dualvit.compare.engine import Place, engine, prepare_data
from dualvit.compare.reading import parse
from dualvit.deploy.runtimes import NEEDS, missing
from dualvit.finite import NonFiniteLossError
from dualvit.recipes.checkpoints import readable
from dualvit.recipes.classify import data as classify_data
from dualvit.recipes.progress import Clock
from dualvit.recipes.task import TICKS

NO_EXPORT = "a detector of torchvision chooses boxes as it goes, and its graph follows the picture"


class Stop(Exception):
    pass


def cell(place, seed=5, **keys):
    """The engine of a cell that trains `tiny_test`, which the fixture `place` registers."""
    import tiny_models  # noqa: F401

    raw = {
        "task": "classify", "data": str(place / "data"), "models": ["tiny_test"], "image_size": 32, "batch": 5,
        **({} if "minutes" in keys else {"epochs": 3}), **keys,
    }  # fmt: skip
    experiment = parse(raw)
    return engine(experiment, experiment.models[0], str(place / "data"), Place(seed=seed))


def weights(folder):
    return torch.load(folder / "weights" / "last.ckpt", weights_only=True)["state_dict"]


def ignore(share, seconds, rows):
    pass


def test_one_answer_for_everything(place):
    """Four of six pictures are dark; of 2x10 labelled pixels 14 are background, 6 a disc, and none a square."""
    for number in (2, 3):
        (place / "data" / "val" / "light" / f"{number}.png").unlink()
    assert cell(place).constant("val") == pytest.approx(4 / 6)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (place / "set" / kind / split).mkdir(parents=True)
        for number in range(2):
            mask = np.zeros((4, 5), np.uint8)
            mask[0, :3], mask[1:3] = 1, 255  # 3 of a disc, 7 of background, 10 of no class
            Image.fromarray(mask).save(place / "set" / "masks" / split / f"{number}.png")
            Image.new("RGB", (5, 4)).save(place / "set" / "images" / split / f"{number}.png")
    (place / "set" / "classes.txt").write_text("background\ndisc\nsquare\n")
    masks = parse({"task": "semantic", "data": str(place / "set"), "models": ["resnet18"], "epochs": 1})
    assert engine(masks, masks.models[0], str(place / "set")).constant("val") == pytest.approx(14 / 20 / 2)


def test_a_resumed_run_equals_a_straight_one(place):
    rows = cell(place).train(place / "straight", ignore)
    calls = []

    def cut(share, seconds, rows):
        calls.append(rows is None)
        if sum(calls) == 7:  # the first is the start; of four steps an epoch: in the midst of the second
            raise Stop

    with pytest.raises(Stop):
        cell(place).train(place / "cut", cut)
    again = cell(place).train(place / "cut", ignore)
    assert [row["epoch"] for row in again] == [1, 2, 3]
    assert [row["seconds"] for row in again] == sorted(row["seconds"] for row in again)
    for row, other in zip(rows, again, strict=True):
        assert (row["top1"], row["loss"]) == (other["top1"], other["loss"])
    straight, resumed = weights(place / "straight"), weights(place / "cut")
    for name, value in straight.items():
        assert torch.equal(value, resumed[name]), name
    scores, content = cell(place).predict(place / "straight", "val")
    assert (scores["top1"], content) == (rows[-1]["top1"], cell(place).predict(place / "cut", "val")[1])
    assert cell(place).train(place / "cut", ignore) == again  # a finished run stays
    assert all(torch.equal(value, weights(place / "cut")[name]) for name, value in resumed.items())


def test_it_learns_what_can_be_learned(place):
    """Bright pictures from dark ones: by chance half are right, in the end all."""
    learner = cell(place, epochs=8, batch=4, settings={"optimizer.lr": 0.05, "schedule.warmup_epochs": 1})
    rows = learner.train(place / "run", ignore)
    assert rows[-1]["top1"] == 1.0
    assert rows[-1]["loss"] < 0.4 < rows[0]["loss"]  # 0.2 is the least, with smoothed labels


def test_what_a_classifier_says_of_each_picture(place):
    (place / "data" / "val" / "light" / "1.png").write_bytes(b"no picture")
    cell(place).train(place / "run", ignore)
    scores, content = cell(place).predict(place / "run", "val")
    assert [image["id"] for image in content["images"]] == [1, 2, 3, 4, 5, 7, 8]  # dark ones, then light ones
    assert content["images"][5]["file"] == place / "data" / "val" / "light" / "2.png"
    answers = content["answers"]
    assert [one["name"] for one in answers] == ["dark"] * 4 + ["light"] * 3
    for one in answers:
        assert sum(one["best"].values()) == pytest.approx(1, abs=1e-4)
        assert one["best"][one["name"]] == one["right"]
    right = [max(one["best"], key=one["best"].get) == one["name"] for one in answers]
    assert scores["top1"] == pytest.approx(sum(right) / 7)


def test_classifiers_are_scored_on_a_test_folder(place):
    with pytest.raises(ValueError, match=r"has no test split, and score is test; give test/CLASS/picture.jpg, or"):
        cell(place).tests()
    for label in ("dark", "light"):
        (place / "data" / "test" / label).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(place / "data" / "test" / label / "black.png")
    assert cell(place).tests() == 2
    cell(place).train(place / "run", ignore)
    scores, content = cell(place).predict(place / "run", "test")
    assert scores["top1"] == 0.5  # the same picture in both classes
    assert [image["file"].parent.name for image in content["images"]] == ["dark", "light"]
    assert sum(one["right"] for one in content["answers"]) == pytest.approx(1, abs=1e-4)


def test_an_epoch_is_told_once_it_is_on_disk(place):
    seen = []

    def listen(share, seconds, rows):
        if rows is not None:
            content = torch.load(place / "run" / "weights" / "last.ckpt", weights_only=True)
            seen.append((share, [row["epoch"] for row in content["dualvit"]["history"]]))

    cell(place, epochs=2).train(place / "run", listen)
    assert seen == [(0.5, [1]), (1.0, [1, 2])]
    assert json.loads((place / "run" / "weights" / "results.json").read_text())["seconds"] >= 0


def test_minutes_end_in_the_midst_of_an_epoch_with_a_validation(place):
    seen, slow = [], [{"name": "tiny_test", "pause": 0.1}]
    timed = cell(place, minutes=1.05 / 60, models=slow)
    begin = time.monotonic()
    rows = timed.train(place / "run", lambda *news: seen.append(news))
    assert 1.05 <= rows[-1]["seconds"] < 3
    assert len(rows) >= 2 and len({row["epoch"] for row in rows}) == len(rows)
    assert seen[-1][0] == 1.0 and seen[-1][2] == rows
    assert time.monotonic() - begin < 20
    assert timed.train(place / "run", ignore) == rows  # nothing is left to train


def test_the_learning_rate_of_minutes_follows_the_clock(place, monkeypatch):
    rates = []
    timed = cell(place, minutes=1, settings={"optimizer.lr": 0.01, "schedule.warmup_epochs": 0.5})
    clocks = iter([0.0, 0.0, 30.0, 45.0, *[60.0] * 99])

    def elapsed(self, stage="train"):
        return now[0]

    now = [0.0]

    def listen(share, seconds, rows):
        if rows is None:
            now[0] = next(clocks)

    real = runner.torch.optim.AdamW.step

    def step(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Clock, "time_elapsed", elapsed)
    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    timed.train(place / "run", listen)
    assert rates[:4] == pytest.approx([0.01 / 3, 0.02 / 3, 1e-5 + (0.01 - 1e-5) / 2, 0.00147], abs=2e-5)
    assert TICKS >= 10**5


def test_a_run_of_minutes_validates_each_epoch(place):
    with pytest.raises(ValueError, match=r"trainer.check_val_every_n_epoch is 2, .*give less"):
        cell(place, minutes=1, settings={"trainer.check_val_every_n_epoch": 2}).train(place / "run", ignore)
    for settings, words in (
        ({"schedule.cooldown_epochs": 2}, "has no milestones and no cooldown; give epochs"),
        ({"schedule.shape": "multistep"}, "has no milestones and no cooldown; give epochs"),
    ):
        with pytest.raises(ValueError, match=words):
            cell(place, minutes=1, settings=settings)


def test_a_nan_names_the_step_the_module_and_the_remedy(place):
    bad = cell(place, models=[{"name": "tiny_test", "fails": "nan"}])
    words = r"^the loss is not finite in step 1 \(class nan\): first in conv \(Conv2d\); lower optimizer.lr"
    with pytest.raises(NonFiniteLossError, match=words):
        bad.train(place / "run", ignore)


def test_a_nan_in_a_picture_names_its_file(place, monkeypatch):
    real, bad = classify_data.Photos.__getitem__, place / "data" / "train" / "light" / "7.png"

    def spoiled(self, index):
        image, label = real(self, index)
        return (image * float("nan") if str(self.samples[index][0]) == str(bad) else image), label

    monkeypatch.setattr(classify_data.Photos, "__getitem__", spoiled)
    with pytest.raises(NonFiniteLossError, match=rf"since its input is not: {bad}; repair or remove it$"):
        cell(place).train(place / "run", ignore)


def test_a_damaged_checkpoint_is_put_aside(tmp_path):
    file = tmp_path / "last.ckpt"
    assert readable(file) is None
    file.write_bytes(b"PK\x03\x04 cut")
    assert readable(file) is None
    assert (tmp_path / "last.damaged").exists() and not file.exists()
    file.write_bytes(b"")
    assert readable(file) is None
    assert (tmp_path / "last.damaged").read_bytes() and (tmp_path / "last-2.damaged").exists()  # both are kept
    torch.save({"a": 1}, file)
    assert readable(file) == file


def test_a_network_of_fixed_size_gets_the_experiments(place):
    fixed = cell(place, models=["deit_tiny_patch16_224"], image_size=48)
    assert fixed.network(2).eval()(torch.zeros(1, 3, 48, 48)).shape == (1, 2)


def test_digits_are_drawn_for_every_task(tmp_path):
    for task, size in (("classify", 32), ("detect", 64), ("semantic", 96)):
        raw = {"engine": "recipe", "task": task, "data": "digits", "models": ["resnet18"], "epochs": 1}
        drawn = prepare_data(parse(raw | {"images": 40, "image_size": size, "output": str(tmp_path / task)}))
        assert (drawn.classes, drawn.train + drawn.val) == (10 + (task == "semantic" and drawn.classes == 11), 40)


@pytest.fixture
def scenes(tmp_path):
    """A data set in the YOLO format: bright squares on a dark ground, as polygons; a data.yaml."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for kind in ("images", "labels"):
            (tmp_path / "scenes" / kind / split).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 60, (64, 64, 3), dtype=np.uint8)
            x, y = rng.integers(4, 28, 2)
            pixels[y : y + 30, x : x + 30] = 220
            Image.fromarray(pixels).save(tmp_path / "scenes" / "images" / split / f"{index}.png")
            corners = [(x, y), (x + 30, y), (x + 30, y + 30), (x, y + 30)]
            line = " ".join(f"{value / 64:.4f}" for corner in corners for value in corner)
            (tmp_path / "scenes" / "labels" / split / f"{index}.txt").write_text(f"0 {line}\n")
    (tmp_path / "scenes" / "images" / "train" / "9.png").write_bytes(b"no picture")
    file = tmp_path / "scenes" / "data.yaml"
    file.write_text(f"path: {tmp_path / 'scenes'}\ntrain: images/train\nval: images/val\nnames: [square]\n")
    return file


@pytest.mark.parametrize("task", ["detect", "semantic"])
def test_detectors_and_segmenters_have_tests_where_data_yaml_says(scenes, task):
    experiment = parse({"engine": "recipe", "task": task, "data": str(scenes), "models": ["resnet18"], "epochs": 1})
    trainer = engine(experiment, experiment.models[0], str(scenes))
    with pytest.raises(ValueError, match=r"data.yaml has no test split, and score is test; give .*, or score: val"):
        trainer.tests()
    scenes.write_text(scenes.read_text() + "test: images/train\n")
    truth = trainer.truth("test")
    assert trainer.tests() == 5 == len(truth.pictures if task == "detect" else truth)


@pytest.mark.parametrize(
    ("task", "needs", "keys"),
    [
        ("detect", "faster_coco_eval", {"settings": {"head.channels": 16, "data.long_side": 64}}),
        ("detect", "faster_coco_eval", {"recipe": "laptop-masks", "settings": {
            "head.channels": 16, "head.rois": 16, "data.long_side": 64, "trainer.check_val_every_n_epoch": 1}}),
        ("semantic", "segmentation_models_pytorch", {"settings": {
            "decoder.channels": 16, "decoder.auxiliary_channels": 16, "data.short_side": 64, "data.stride": 48}}),
    ],
    ids=["retinanet", "mask-rcnn", "upernet"],
)  # fmt: skip
def test_detectors_and_segmenters_are_compared(scenes, tmp_path, task, needs, keys):
    """From the YAML to the report: trained in a process of its own, scored, its cost measured."""
    pytest.importorskip(needs, reason="needs dualvit[recipes]")
    pytest.importorskip("matplotlib", reason="needs dualvit[recipes]")
    raw = {
        "engine": "recipe", "task": task, "data": str(scenes), "models": ["test_resnet"], "epochs": 1,
        "image_size": 64, "batch": 2, "device": "cpu", "output": str(tmp_path / "out"), **keys,
    }  # fmt: skip
    file = tmp_path / "mine.yaml"
    file.write_text(json.dumps(raw))
    screen = io.StringIO()
    assert runner.run(file, Console(file=screen, width=200)), screen.getvalue()
    report = json.loads((tmp_path / "out" / "results.json").read_text())
    (row,), (result,) = report["rows"], report["cells"]
    assert report["metric"] == {"detect": "AP", "semantic": "miou"}[task]
    assert row["macs"] > 1e6 and row["parameters"] > 1e4 and row["latency"]["median"] > 0
    assert [one["epoch"] for one in result["epochs"]] == [1]
    assert 0 <= result["last"] <= 1 and result["peak_memory"] > 0
    installed = [name for name in NEEDS if missing(name) is None]
    assert set(row["runtimes"]) == {"eager", *(installed if task == "semantic" else ())}
    said = [line for line in report["latency"] if "is not installed" not in line]
    reason = f"{row['label']}: not measured in {' and '.join(installed)}: {NO_EXPORT}"
    assert said == ([reason] if installed and task == "detect" else [])
    (note,) = report["data"]["notes"]
    assert "1 image has no label file and counts as background; looked for " in note and "9.txt" in note
    assert f"note: {note}\n" in screen.getvalue()
    answered = json.loads((tmp_path / "out" / "cells" / f"{result['label']}-s0" / "predictions.json").read_text())
    assert [image["file"] for image in answered["images"]] == ["images/val/0.png", "images/val/1.png"]
    if task == "semantic":
        assert all(set(one["ious"]) == {"background", "square"} and one["map"] for one in answered["answers"])
    else:
        assert all(("segmentation" in one) == ("recipe" in keys) for one in answered["annotations"])
    (skipped,) = result["skipped"]
    assert skipped.startswith("cannot read the picture") and "9.png" in skipped
    assert f"{result['label']} seed 0: 1 skipped, such as: {skipped}\n" in screen.getvalue()
