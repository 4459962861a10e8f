"""UPerNet in training: ten steps of the paper's recipes, mIoU against torchmetrics, weights, and predictions."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("lightning", reason="recipes need Lightning")

from safetensors.torch import save_file
from torchmetrics.classification import MulticlassJaccardIndex

from dualvit.models import create_model
from dualvit.pictures.palette import colours
from dualvit.recipes.config import Network, plain
from dualvit.recipes.report import write_report
from dualvit.recipes.run import fit, load, load_recipe, prepare, validate
from dualvit.recipes.semantic.config import Decoder
from dualvit.recipes.semantic.evaluate import class_ious
from dualvit.recipes.semantic.network import Segmenter
from dualvit.recipes.semantic.task import enlarged_argmax, pixel_loss
from dualvit.weights import CheckpointError
from dualvit.weights.match import full_names

SMALL = Decoder(channels=16, auxiliary_channels=16)


def test_ten_steps_of_the_paper_s_recipes(small, tmp_path):
    recipes = [load_recipe(f"ade20k-upernet-{size}", small) for size in "sb"]
    settings = [plain(recipe) | {"title": "", "published": None} for recipe in recipes]
    assert settings[0] == settings[1]  # so that one run is the run of both
    task = fit(recipes[0], tmp_path / "run")
    row = task.history[-1]
    assert task.global_step == row["step"] == 10
    assert 0 < row["miou"] <= 1 and {"iou/wall", "iou/sky", "iou/tree", "pixel_accuracy"} < set(row)
    assert validate(tmp_path / "run/last.ckpt")["miou"] == pytest.approx(row["miou"], abs=1e-6)
    page = write_report(task, tmp_path / "run").read_text()
    assert (
        "No predictions are shown" not in page and page.count("data:image/jpeg") == 2
    )  # of three: the worst, the best
    assert "<td>sky</td>" in page and "mean IoU of best.ckpt" in page

    (tmp_path / "in").mkdir()
    Image.fromarray(np.full((50, 70, 3), 80, np.uint8)).save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_bytes(b"no picture")
    files, out = [tmp_path / "in" / f"{stem}.png" for stem in "ab"], tmp_path / "out"
    lines = list(load(tmp_path / "run/last.ckpt").predict(files, out))
    assert "%" in lines[0] and lines[1].startswith("skipped: cannot read the picture")
    mask = np.array(Image.open(out / "a.mask.png"))
    assert mask.shape == (50, 70) and mask.max() < 3
    content = json.loads((out / "a.json").read_text())
    assert sum(content["shares"].values()) == pytest.approx(1)
    assert content["shares"].get("wall", 0) == pytest.approx((mask == 0).mean())
    assert Image.open(out / "a.overlay.png").width == 256  # enlarged for its legend


def test_the_paper_s_settings():
    for name, miou in (("ade20k-upernet-s", 49.2), ("ade20k-upernet-b", 51.7)):
        recipe = load_recipe(name)
        assert recipe.network.name == f"dualvit_{name[-1]}" and recipe.published == {"miou": miou}
        assert (recipe.data.image_size, recipe.data.batch) == (512, 16)
        assert (recipe.optimizer.name, recipe.optimizer.lr, recipe.optimizer.weight_decay) == ("adamw", 6e-5, 0.01)
        schedule = recipe.schedule
        assert (schedule.steps, schedule.shape, schedule.power, schedule.warmup_steps) == (160_000, "poly", 1, 1500)
        assert recipe.decoder.auxiliary == 0.4


def test_miou_is_that_of_torchmetrics():
    """Of the whole set; a class that neither occurs nor is predicted does not count."""
    classes, metric = 6, MulticlassJaccardIndex(6, average="macro", ignore_index=255)
    counts = torch.zeros(classes, classes, dtype=torch.long)
    for _ in range(3):
        target, said = torch.randint(0, 5, (2, 40, 40))
        target[:5] = 255
        metric.update(said, target)
        kept = target != 255
        counts += torch.bincount(target[kept] * classes + said[kept], minlength=classes**2).view(classes, classes)
    ious = class_ious(counts)
    assert ious[5].isnan() and float(ious.nanmean()) == pytest.approx(float(metric.compute()), abs=1e-6)


def test_a_task_s_score_is_that_of_the_set(small):
    task, _ = prepare(load_recipe("ade20k-upernet-s", small), None)
    target = torch.randint(0, 3, (2, 8, 8))
    said = torch.randint(0, 3, (2, 8, 8))
    task.counts.update(said[:1], target[:1])
    task.counts.update(said[1:], target[1:])
    expected = MulticlassJaccardIndex(3)(said, target)
    assert task.scores()["miou"] == pytest.approx(float(expected), abs=1e-6)
    assert task.counts.compute().sum() == 0


def test_loss_counts_labelled_pixels_alone():
    logits, masks = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    masks[0, :3] = 255
    expected = torch.nn.functional.cross_entropy(logits, masks, ignore_index=255)
    assert float(pixel_loss(logits, masks, 255)) == pytest.approx(float(expected), rel=1e-6)
    assert float(pixel_loss(logits, torch.full_like(masks, 255), 255)) == 0


def test_every_parameter_learns():
    network = Segmenter(Network("dualvit_n"), SMALL, 3)
    logits = network.training_logits(torch.randn(2, 3, 64, 64))
    assert {name: tuple(value.shape) for name, value in logits.items()} == {
        "segment": (2, 3, 64, 64),
        "auxiliary": (2, 3, 64, 64),
    }
    sum(value.square().mean() for value in logits.values()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_auxiliary_head_does_not_change_the_main_one():
    network = Segmenter(Network("dualvit_n"), SMALL, 3).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(network(images), network.training_logits(images)["segment"])
    odd = network.training_logits(torch.randn(2, 3, 67, 71))  # an image of any size
    assert {tuple(one.shape) for one in odd.values()} == {(2, 3, 67, 71)}
    assert Segmenter(Network("dualvit_n"), Decoder(channels=16, auxiliary=0), 3).auxiliary is None


def test_options_reach_the_backbone():
    network = Segmenter(Network("dualvit_n", drop_path=0.3), SMALL, 3)
    assert max(getattr(m, "drop_prob", 0) for m in network.upernet.encoder.modules()) == pytest.approx(0.3)
    with pytest.raises(ValueError, match=r"maps at strides .*UPerNet needs"):
        Segmenter(Network("vit_tiny_patch16_224"), SMALL, 3)
    with pytest.raises(ValueError, match="dualvit_n"):
        Segmenter(Network("dualvit_nn"), SMALL, 3)


def test_checkpoints_of_the_backbone(tmp_path, capsys):
    """All keys, or an error: nothing is left as it was at random; a line says what was loaded."""
    whole = create_model("dualvit_n")
    save_file(whole.state_dict(), tmp_path / "n.safetensors")
    network = Segmenter(Network("dualvit_n", weights=str(tmp_path / "n.safetensors")), SMALL, 3)
    features = network.upernet.encoder.model
    count = len(features.state_dict())
    said = f"weights: {count} of {count} loaded from {tmp_path / 'n.safetensors'}"
    assert capsys.readouterr().out.startswith(said)
    names = full_names(features, whole)
    assert all(torch.equal(value, whole.state_dict()[names[name]]) for name, value in features.state_dict().items())
    state = whole.state_dict()
    del state[next(name for name in state if name.startswith("stages.1"))]
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(CheckpointError, match="1 missing"):
        Segmenter(Network("dualvit_n", weights=str(tmp_path / "part.safetensors")), SMALL, 3)


def test_colours_differ():
    assert len(set(colours(150))) == 150


@pytest.mark.parametrize("size", [(5, 7), (13, 9), (4, 20)])
def test_classes_one_by_one_are_those_of_all_at_once(size):
    logits = torch.randn(6, 5, 7)
    whole = torch.nn.functional.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0]
    assert torch.equal(enlarged_argmax(logits, size), whole.argmax(0))
