"""Recipes of classification: each one takes ten steps, and what each mistake says."""

import json
import re

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

pytest.importorskip("lightning", reason="needs dualvit[recipes]")

from typer.testing import CliRunner

from dualvit.errors import InputError
from dualvit.recipes.classify.evaluate import Look
from dualvit.recipes.classify.network import build_classifier
from dualvit.recipes.classify.teacher import token_scores, write_maps
from dualvit.recipes.config import Network, names, plain, read
from dualvit.recipes.run import fit, load, load_recipe, prepare
from dualvit_cli import app

OURS = [name for name in names() if read(name)["task"] == "classify"]
SMALL = (
    "network.name=dualvit_n", "network.drop_path=0", "data.image_size=64", "data.batch=4", "data.workers=0",
    "optimizer.lr_batch=null", "optimizer.lr=1e-3", "schedule.epochs=1", "schedule.warmup_epochs=0",
    "schedule.cooldown_epochs=0", "trainer.enable_progress_bar=false", "trainer.accelerator=cpu",
)  # fmt: skip
# Recipes that differ in what SMALL sets, their network, alone.
ALIKE = [
    ["imagenet-s", "imagenet-b"], ["imagenet-l"], ["imagenet-s-384", "imagenet-b-384"], ["imagenet-l-384"],
    ["laptop-classify"], ["laptop-token-labels"],
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(same_pictures, tmp_path_factory):
    """The best checkpoint of three epochs on the pictures of `root`."""
    out = tmp_path_factory.mktemp("trained")
    fit(load_recipe("laptop-classify", [*SMALL, f"data.root={same_pictures}", "schedule.epochs=3"]), out)
    return out / "best.ckpt"


@pytest.fixture
def teacher(tmp_path):
    """Weights of a small timm network of two classes."""
    torch.manual_seed(0)
    save_file(timm.create_model("resnet10t", num_classes=2).state_dict(), tmp_path / "teacher.safetensors")
    return tmp_path / "teacher.safetensors"


def test_the_paper_has_its_rows():
    assert sorted(OURS) == sorted(name for group in ALIKE for name in group)
    assert set(OURS) >= {f"imagenet-{size}{more}" for size in "sbl" for more in ("", "-384")}
    published = {name: read(name)["published"]["top1"] for name in OURS if "published" in read(name)}
    assert published == {
        "imagenet-s": 84.1, "imagenet-b": 85.2, "imagenet-l": 85.7,
        "imagenet-s-384": 85.2, "imagenet-b-384": 86.0, "imagenet-l-384": 86.5,
    }  # fmt: skip


@pytest.mark.parametrize("group", ALIKE, ids=" ".join)
def test_ten_steps(group, root, teacher, tmp_path):
    name, changes = group[0], [*SMALL, f"data.root={root}"]
    settings = [plain(load_recipe(name, changes)) | {"title": "", "published": None} for name in group]
    assert settings == settings[:1] * len(group)  # so that one run is the run of each
    if "token_labels" in read(name):
        write_maps(Look("resnet10t", teacher, 64), root, tmp_path / "maps")
        changes.append(f"token_labels.maps={tmp_path / 'maps'}")
    task = fit(load_recipe(name, [*changes, "trainer.limit_train_batches=10"]), tmp_path / "run")
    assert task.global_step == 10
    row = json.loads((tmp_path / "run" / "results.json").read_text())["history"][-1]
    assert row["step"] == 10 and 0 <= row["top1"] <= row["top5"] == 1


def test_mixup(root):
    task, data = prepare(load_recipe("imagenet-s", [*SMALL, f"data.root={root}", *FREE]), None)
    images, labels = next(iter(data.train_dataloader()))
    before = images.clone()
    task.train()
    first = task.loss((images, labels))["class"]
    assert first.isfinite() and torch.equal(images, before)
    with pytest.raises(ValueError, match="pairs pictures, and a batch of one process has 3"):
        task.loss((images[:3], labels[:3]))


FREE = ("token_labels=null", "mix.mixup=0.8", "mix.cutmix=1.0")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["mix.mixup=0.8"], "token labels bring MixToken"),
        (["data.image_size=112"], "token labels need a multiple of 32"),
        ([*FREE, "data.batch=7"], "give an even one"),
    ],
)
def test_settings_that_exclude_each_other(changes, message):
    with pytest.raises(ValueError, match=message):
        load_recipe("imagenet-s", changes)


def test_a_policy_that_timm_cannot_read(root):
    _, data = prepare(load_recipe("laptop-classify", [*SMALL, f"data.root={root}", "augment.auto=rnd-m9"]), None)
    with pytest.raises(ValueError, match=r"augment.auto is 'rnd-m9'"):
        data.train_data()


def test_networks_without_the_head(root):
    changes = [*SMALL, f"data.root={root}", "token_labels={maps: maps}", "network.name=resnet10t"]
    with pytest.raises(ValueError, match="resnet10t has no token-labelling head"):
        prepare(load_recipe("laptop-classify", [*changes, "network.options={}"]), None)


def test_unreadable_pictures_are_skipped_and_listed(root, tmp_path):
    for file in (root / "train" / "a" / "0.png", root / "val" / "b" / "1.png"):
        file.write_bytes(b"no picture")
    changes = [*SMALL, f"data.root={root}"]
    fit(load_recipe("laptop-classify", changes), tmp_path / "run")
    lines = (tmp_path / "run" / "unreadable.txt").read_text().splitlines()
    assert len(lines) == 2 and "train/a/0.png" in lines[0] and "val/b/1.png" in lines[1]
    with pytest.raises(ValueError, match=r"data.unreadable allows 1"):
        fit(load_recipe("laptop-classify", [*changes, "data.unreadable=1"]), tmp_path / "strict")


def test_layer_decay_and_groups(root):
    changes = [*SMALL, f"data.root={root}", "optimizer.layer_decay=0.5"]
    task, _ = prepare(load_recipe("laptop-classify", changes), None)
    groups = task.configure_optimizers().param_groups
    names = {id(parameter): name for name, parameter in task.network.named_parameters()}
    scale = {names[id(p)]: (group["lr_scale"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert set(scale) == set(names.values())
    assert scale["head.weight"] == (1.0, 0.05)
    assert scale["head.bias"] == (1.0, 0.0)
    assert scale["seed.queries"][1] == 0
    order = [
        "stem.conv.0.weight",
        "stages.1.blocks.0.ffn.fc1.weight",
        "stages.3.blocks.0.ffn.fc1.weight",
        "head.weight",
    ]
    order = [name for name in order if name in scale]
    rates = [scale[name][0] for name in order]
    assert rates == sorted(rates) and rates[0] < 0.1


# ---- weights to begin with


def test_another_class_count_replaces_the_head(tmp_path, capsys):
    old = timm.create_model("dualvit_n", num_classes=3)
    save_file(old.state_dict(), tmp_path / "old.safetensors")
    network = Network("dualvit_n", weights=str(tmp_path / "old.safetensors"))
    same = build_classifier(network, 3)
    assert torch.equal(same.head.weight, old.head.weight)
    new = build_classifier(network, 7)
    assert new.head.weight.shape[0] == new.aux_head.weight.shape[0] == 7
    assert torch.equal(new.stages[3].blocks[0].ffn.fc1.weight, old.stages[3].blocks[0].ffn.fc1.weight)
    assert all(torch.equal(v, old.state_dict()[k]) for k, v in new.state_dict().items() if "head." not in k)
    assert "the head is new, for 7 classes" in capsys.readouterr().out


def test_a_shipped_start_leaves_class_block_and_heads_new(capsys):
    from dualvit.weights.read import left_out_of, read_checkpoint
    from dualvit.weights.starts import start_file

    state = build_classifier(Network("dualvit_n", weights="start"), 5).state_dict()
    assert re.search(
        r"note: .*dualvit_n\.safetensors has no weights of .*head.*: they are new", capsys.readouterr().out
    )
    shipped, absent = read_checkpoint(start_file("dualvit_n")), left_out_of(start_file("dualvit_n"))
    assert set(state) == set(shipped) | absent
    assert all(torch.equal(state[name].half(), value) for name, value in shipped.items())
    with pytest.raises(InputError, match="no start is shipped for dualvit_s; there are dualvit_n, dualvit_t"):
        build_classifier(Network("dualvit_s", weights="start"), 5)


def test_other_mismatches_are_errors(tmp_path):
    state = timm.create_model("dualvit_n", num_classes=3).state_dict()
    del state["norm.weight"]
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(ValueError, match=r"weights do not match.*missing: norm.weight"):
        build_classifier(Network("dualvit_n", weights=str(tmp_path / "part.safetensors")), 7)


# ---- teachers


@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("resnet10t", 64, {}), ("vit_tiny_patch16_224", 64, {"img_size": 64}), ("dualvit_n", 64, {}),
        ("dualvit_n", 64, {"token_label": False}), ("pyramid_n", 64, {}),
        ("swin_tiny_patch4_window7_224", 64, {"img_size": 64, "depths": (1, 1, 1, 1)}),
    ],
)  # fmt: skip
def test_any_classifier_teaches(name, size, options):
    network = timm.create_model(name, num_classes=4, **options).eval()
    with torch.inference_mode():
        scores = token_scores(network, torch.randn(2, 3, size, size))
    assert scores.shape[:2] == (2, 4) and scores.shape[2] == scores.shape[3] >= 2
    assert torch.allclose(scores.sum(1), torch.ones_like(scores[:, 0]), atol=1e-5)


def test_a_place_is_what_the_head_says_of_it():
    """A ResNet's head on a map that is the same everywhere."""
    network = timm.create_model("resnet10t", num_classes=4).eval()
    network.forward_features = lambda images: torch.full((1, 512, 1, 1), 0.3).expand(1, -1, 2, 3)
    expected = network.forward_head(torch.full((1, 512, 2, 3), 0.3)).softmax(1)
    scores = token_scores(network, torch.zeros(1, 3, 64, 96))
    assert torch.allclose(scores, expected[:, :, None, None].expand(-1, -1, 2, 3), atol=1e-6)


def test_a_teacher_of_other_classes(root, trained, tmp_path):
    for split in ("train", "val"):
        (root / split / "b").rename(root / split / "c")
    with pytest.raises(ValueError, match=r"knows 2 classes \(a, b, ...\) and .* has 2 \(a, c, ...\)"):
        write_maps(Look(str(trained)), root, tmp_path / "maps")


# ---- commands


def ask(*words):
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
def test_eval_probe_and_predict(root, trained, teacher, tmp_path):
    best = trained
    (root / "val" / "a" / "0.png").write_bytes(b"no picture")
    line = ask("eval", best, root, "--out", tmp_path / "eval")
    found = json.loads((tmp_path / "eval" / "eval.json").read_text())
    assert found["images"] == 7 and found["skipped"] == 1 and "1 skipped" in line
    counts = torch.tensor(found["confusion"])
    assert counts.sum() == 7 and found["top1"] == pytest.approx(float(counts.diagonal().sum()) / 7)
    assert found["top1"] == 1  # red and blue
    assert Image.open(tmp_path / "eval" / "confusion.png").width > 300
    ask("eval", "resnet10t", root / "val", "--weights", teacher, "--image-size", 64, "--out", tmp_path / "timm")

    ask("probe", best, root, "--neighbours", 3, "--out", tmp_path / "probe")
    found = json.loads((tmp_path / "probe" / "probe.json").read_text())
    assert found["knn"] == found["linear"] == 1

    files = sorted((root / "val" / "b").iterdir())
    lines = list(load(best).predict([*files, root / "val" / "a" / "0.png"], tmp_path / "out"))
    assert len(lines) == 5 and "cannot read" in lines[-1]
    rows = json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"]
    assert [max(row["classes"], key=row["classes"].get) for row in rows] == ["b"] * 4


def test_models_without_weights(root, tmp_path):
    with pytest.raises(ValueError, match="resnet10t has no weights here"):
        write_maps(Look("resnet10t"), root, tmp_path)


def test_a_folder_of_an_unknown_class(root, trained):
    (root / "val" / "b").rename(root / "val" / "z")
    result = CliRunner().invoke(app, ["eval", str(trained), str(root)])
    assert "class 'z' is none of the model's 2" in str(result.exception)


def test_shards_train_and_validate(root, tmp_path):
    import tarfile

    (tmp_path / "classes.txt").write_text("a\nb\n")
    for split in ("train", "val"):
        with tarfile.open(tmp_path / f"{split}-0.tar", "w") as tar:
            for number, file in enumerate(sorted((root / split).glob("*/*.png"))):
                label = tmp_path / "label"
                label.write_text(str("ab".index(file.parent.name)))
                tar.add(file, f"{number:03}.png")
                tar.add(label, f"{number:03}.cls")
    changes = [*SMALL, f"data.root={tmp_path}/train-{{0..0}}.tar", f"data.val={tmp_path}/val-0.tar", "data.samples=40"]
    changes.append(f"data.classes={tmp_path / 'classes.txt'}")
    task = fit(load_recipe("laptop-classify", [*changes, "schedule.epochs=2"]), tmp_path / "run")
    assert task.global_step == 20 and len(task.history) == 2
    with pytest.raises(ValueError, match="shards have no label maps"):
        prepare(load_recipe("laptop-token-labels", changes), None)
    with pytest.raises(ValueError, match=r"shards need data.samples"):
        prepare(load_recipe("laptop-classify", [*changes, "data.samples=null"]), None)
