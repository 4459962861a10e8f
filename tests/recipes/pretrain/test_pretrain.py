"""A student learns a teacher's maps; its file opens in every door; a stopped run ends with the same bits."""

import json
import shutil
import tarfile

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import safe_open

pytest.importorskip("lightning", reason="needs dualvit[recipes]")

from tiny_runs import Stop, content, require_equal

import dualvit
from dualvit.data.pictures import digest, training_pictures
from dualvit.errors import DualViTError
from dualvit.recipes import run
from dualvit.recipes.config import Network
from dualvit.recipes.network import build_network
from dualvit.recipes.pretrain.config import settings
from dualvit.recipes.pretrain.network import cosines
from dualvit.recipes.pretrain.run import pretrain
from dualvit.recipes.pretrain.task import Pretrain
from dualvit.weights import convert

SMALL = ("data.image_size=64", "data.batch=4", "data.samples=12", "schedule.warmup_steps=0", "trainer.accelerator=cpu")


def recipe(pictures, weights, *more, student="dualvit_n", teacher="mobilenetv3_small_050", epochs=3):
    changes = (f"data.root={pictures}", f"network.name={student}", *SMALL, *more)
    return settings(changes, teacher, weights, None, epochs, "MIT")


@pytest.fixture(scope="module")
def straight(blotches, teacher_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("straight")
    lines = list(pretrain(recipe(blotches, teacher_file), out, report=True))
    return out, lines


def test_the_file_has_all_keys_and_says_where_it_is_from(straight, blotches, teacher_file):
    out, lines = straight
    file = out / "dualvit_n.safetensors"
    full = timm.create_model("dualvit_n").state_dict()
    with safe_open(file, "pt") as opened:
        assert set(opened.keys()) == set(full)
        about = opened.metadata()
    assert "403 entries are learnt, 20 are as initialised" in lines[1]
    assert len(json.loads(about["initialised"])) == 20
    assert (about["teacher"], about["licence"], about["pictures"]) == ("mobilenetv3_small_050", "MIT", "10")
    assert about["teacher_sha256"] == dualvit.weights.sha256(teacher_file)
    assert json.loads(about["scores"])["epoch"] == 3


def test_its_page_says_what_was_learnt(straight):
    out, lines = straight
    page = (out / "report.html").read_text()
    assert lines[3] == f"report {out / 'report.html'}"
    assert lines[0] in page and "dualvit pretrain" in page and page.count("<svg ") == 2
    assert "<h2>Predictions</h2>" not in page


def test_learning_explains_more_of_the_teacher(straight):
    history = json.loads((straight[0] / "results.json").read_text())["history"]
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["cosine"] == pytest.approx(np.mean([history[-1][f"cosine{s}"] for s in (8, 16, 32)]))
    assert history[-1]["cosine"] > max(2 * history[0]["cosine"], 0.05)  # after three steps of the running statistics


def test_every_door_takes_the_file(straight, tmp_path):
    file = straight[0] / "dualvit_n.safetensors"
    state = timm.create_model("dualvit_n", checkpoint_path=str(file)).state_dict()
    learnt = content(straight[0] / "last.ckpt")["state_dict"]
    assert torch.equal(state["stem.conv.0.weight"], learnt["network.features.model.stem.conv.0.weight"])
    report, name, _ = convert(file, tmp_path / "converted.safetensors")
    assert (report.loaded, report.total, name) == (423, 423, "dualvit_n")
    network = build_network(Network("dualvit_n", weights=str(file)))
    assert torch.equal(network.state_dict()["stem.conv.0.weight"], state["stem.conv.0.weight"])
    ultralytics = pytest.importorskip("dualvit.yolo", reason="needs dualvit[yolo]")
    model = ultralytics.YOLO("yolov8n-dualvit.yaml", weights=file).model
    assert torch.equal(model.state_dict()["model.0.model.model.stem.conv.0.weight"], state["stem.conv.0.weight"])


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_bits(straight, blotches, teacher_file, tmp_path, monkeypatch):
    real = Pretrain.training_step

    def training_step(self, batch, batch_idx):
        if self.global_step == 4:
            raise Stop
        return real(self, batch, batch_idx)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Pretrain, "training_step", training_step)
        list(pretrain(recipe(blotches, teacher_file), tmp_path))
    moved = shutil.copytree(blotches, tmp_path / "moved")
    list(pretrain(recipe(moved, teacher_file), tmp_path))
    require_equal(
        content(straight[0] / "last.ckpt") | {"dualvit": None}, content(tmp_path / "last.ckpt") | {"dualvit": None}
    )


def test_a_run_goes_on_with_its_teacher_and_its_pictures_alone(straight, blotches, teacher_file, tmp_path):
    out = shutil.copytree(straight[0], tmp_path / "run")
    other = tmp_path / "other.pth"
    torch.save(timm.create_model("mobilenetv3_small_050").state_dict(), other)
    with pytest.raises(DualViTError, match=r"teacher.sha256 was '\w+' and is '\w+'; give another --out"):
        list(pretrain(recipe(blotches, other), out))
    more = shutil.copytree(blotches, tmp_path / "more")
    shutil.copy(blotches / "0.png", more / "a.png")
    with pytest.raises(DualViTError, match=r"data\.digest was"):
        list(pretrain(recipe(more, teacher_file), out))


def test_other_strides(blotches, teacher_file, tmp_path):
    """A teacher without a map at stride 8, and a student that is no network of ours."""
    torch.save(timm.create_model("vit_tiny_patch16_224", img_size=64).state_dict(), tmp_path / "vit.pth")
    with pytest.raises(DualViTError, match=r"teacher: .*no map at stride 8.*match.strides"):
        run.prepare(recipe(blotches, tmp_path / "vit.pth", teacher="vit_tiny_patch16_224"), None)
    lines = list(
        pretrain(
            recipe(blotches, teacher_file, "match.strides=[4,16]", student="resnet10t", epochs=1), tmp_path / "run"
        )
    )
    assert "cosine4" in lines[0] and "cosine16" in lines[0] and "cosine8" not in lines[0]
    state = timm.create_model("resnet10t", checkpoint_path=str(tmp_path / "run" / "resnet10t.safetensors")).state_dict()
    assert all(bool(torch.isfinite(value).all()) for value in state.values())


def test_semantics_stand_for_areas_of_the_teachers_map(straight, blotches, teacher_file):
    assert "semantics" in straight[1][0] and "403 entries are learnt" in straight[1][1]
    weighted = recipe(blotches, teacher_file, "match.semantics=0.5", epochs=1)
    task = Pretrain(weighted, ())
    task.setup("fit")
    torch.nn.init.ones_(task.network.deviation)
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    guesses = task._guesses(images)
    assert [tuple(guess.shape[2:]) for guess in guesses] == [(16, 16), (8, 8), (4, 4), (4, 4)]  # 16 tokens
    targets = task._targets(images, guesses)
    assert torch.equal(targets[3], targets[2])  # 4x4 areas of a 4x4 map
    loss = task.loss((images, torch.zeros(2)))
    part = 1 - cosines(guesses[3], targets[3]).mean() + torch.nn.functional.smooth_l1_loss(guesses[3], targets[3])
    assert float(loss["semantics"]) == pytest.approx(0.5 * float(part))
    assert Pretrain(recipe(blotches, teacher_file), ()).network.semantics == 0.33
    with pytest.raises(DualViTError, match="resnet10t has no semantics"):
        Pretrain(recipe(blotches, teacher_file, "match.semantics=0.5", student="resnet10t"), ())


def test_formulas_with_and_without_a_teacher(teacher_file, tmp_path):
    def fit(out, teacher):
        weights_of = teacher_file if teacher else None
        made = settings(
            ("data.root=formulas", "network.name=dualvit_n", "data.classes=4", *SMALL), teacher, weights_of, None, 1, ""
        )
        return next(pretrain(made, tmp_path / out))

    assert "mobilenetv3_small_050: cosine" in fit("taught", "mobilenetv3_small_050")
    assert "4 formulas: top1" in fit("alone", "")


def test_shards_without_labels(blotches, teacher_file, tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for file in sorted(blotches.iterdir()):
            tar.add(file, file.name)
    lines = list(pretrain(recipe(f"{tmp_path}/{{0..0}}.tar", teacher_file, epochs=1), tmp_path / "run"))
    assert "mobilenetv3_small_050: cosine" in lines[0]


def test_places_that_data_sets_keep_their_training_pictures_in(blotches, tmp_path):
    for place in ("images/train", "images/val", "labels/train"):
        shutil.copytree(blotches, tmp_path / "yolo" / place)
    (tmp_path / "yolo" / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [a]\n")
    for split in ("train", "val"):
        shutil.copytree(blotches, tmp_path / "classes" / split / "a")
    shutil.copytree(blotches, tmp_path / "coco" / "train2017")
    shutil.copytree(blotches, tmp_path / "coco" / "val2017")
    (tmp_path / "classes" / "train" / "a" / "._0.png").write_bytes(b"")
    for place in ("yolo", "yolo/data.yaml", "classes", "coco"):
        files = training_pictures(tmp_path / place)
        assert len(files) == 10 and all("val" not in file.relative_to(tmp_path).as_posix() for file in files), place
        assert digest(files) == digest(training_pictures(blotches))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DualViTError, match="no pictures in"):
        training_pictures(tmp_path / "empty")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"teacher": ""}, "lightly_train.pretrain(out="),
        ({"teacher": "resnet10t"}, "weights do not match"),
        ({"teacher": "resnet_10"}, "unknown model 'resnet_10'; did you mean"),
        ({"more": ("data.batch=11",)}, "has 10 pictures, and a batch has 11"),
        ({"more": ("match.strides=[16,8]",)}, "ascending"),
    ],
)
def test_mistakes_are_one_line(blotches, teacher_file, tmp_path, change, words):
    made = {"teacher": "mobilenetv3_small_050"} | change
    with pytest.raises(DualViTError) as error:
        file = teacher_file if made["teacher"] else None
        list(pretrain(recipe(blotches, file, *made.pop("more", ()), **made), tmp_path))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_pictures_that_cannot_be_read(teacher_file, tmp_path):
    for index in range(6):
        (tmp_path / f"{index}.jpg").write_bytes(b"no picture")
    with pytest.raises(DualViTError, match=r"none of the pictures .* can be read"):
        list(pretrain(recipe(tmp_path, teacher_file), tmp_path / "run"))


def test_cosines_of_places():
    guess = torch.tensor([[3.0, 0.0], [0.0, 2.0]]).view(1, 2, 1, 2)  # along, and across
    target = torch.tensor([[1.0, 5.0], [0.0, 0.0]]).view(1, 2, 1, 2)
    assert cosines(guess, target).tolist() == [0.5]
