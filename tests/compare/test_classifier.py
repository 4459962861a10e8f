"""Classification: the recipe's numbers, and a resumed run that equals a straight one."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

pytest.importorskip("lightning", reason="needs dualvit[recipes]")

from dualvit.compare.classifier import FLOOR, Budget, loaders, lr_factor, train
from dualvit.compare.settings import ClassifyRecipe
from dualvit.data.images import Pictures, read_folders
from dualvit.finite import NonFiniteLossError
from dualvit.recipes.checkpoints import readable

RECIPE = ClassifyRecipe()


class Stop(Exception):
    pass


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 10), ("val", 4)):
        for label in ("a", "b"):
            (tmp_path / "data" / split / label).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / label / f"{index}.png")
    return read_folders(tmp_path / "data")


def network():
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Dropout(0.2), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 2)
    )


def go(folder, data, budget, report=lambda news: None, model=None):
    model = network() if model is None else model
    return model, train(folder, model, loaders(data, RECIPE, 16, 4, 0, 5), RECIPE, budget, 5, False, report)


def test_a_resumed_run_equals_a_straight_one(data, tmp_path):
    straight, epochs = go(tmp_path / "straight", data, Budget(epochs=3))

    steps = []

    def cut(news):
        steps.append(news.get("epoch_end", False))
        if steps.count(False) == 8:  # five steps an epoch: in the midst of the second
            raise Stop

    with pytest.raises(Stop):
        go(tmp_path / "cut", data, Budget(epochs=3), cut)
    resumed, again = go(tmp_path / "cut", data, Budget(epochs=3), model=network())
    assert [row["epoch"] for row in again] == [1, 2, 3]
    for row, other in zip(epochs, again, strict=True):
        assert (row["top1"], row["loss"]) == (other["top1"], other["loss"])
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_it_learns_what_can_be_learned(tmp_path):
    """Bright pictures from dark ones: by chance half are right, in the end all."""
    rng = np.random.default_rng(1)
    for split, count in (("train", 16), ("val", 8)):
        for label, low in (("bright", 120), ("dark", 20)):
            (tmp_path / "data" / split / label).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(low, low + 80, (24, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / label / f"{index}.png")
    recipe = ClassifyRecipe(lr=0.02)
    batches = loaders(read_folders(tmp_path / "data"), recipe, 16, 8, 0, 0)
    epochs = train(tmp_path / "run", network(), batches, recipe, Budget(epochs=6), 0, False, lambda news: None)
    assert epochs[-1]["top1"] == 1.0
    assert epochs[-1]["loss"] < 0.35 < epochs[0]["loss"]  # 0.2 is the least, with smoothed labels


def test_a_finished_run_stays(data, tmp_path):
    model, epochs = go(tmp_path / "run", data, Budget(epochs=1))
    again, same = go(tmp_path / "run", data, Budget(epochs=1))
    assert same == epochs
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))


def test_lr():
    """Up from one step's share, at the top after the warm-up, down to FLOOR; the groups follow it."""
    assert lr_factor(0.0, 1.0) == 1.0
    assert lr_factor(0.5, 1.0) == pytest.approx((1 + FLOOR) / 2)
    assert lr_factor(1.0, 1.0) == pytest.approx(FLOOR)
    assert lr_factor(0.0, 0.25) == 0.25


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


def test_a_nan_names_the_epoch_the_module_and_the_remedy(data, tmp_path):
    model = network()
    with torch.no_grad():
        model[0].weight.fill_(float("nan"))
    with pytest.raises(NonFiniteLossError, match=r"^loss is nan in epoch 1: first in 0 \(Conv2d\); lower lr$"):
        go(tmp_path / "run", data, Budget(epochs=1), model=model)


def test_a_nan_in_a_picture_names_its_file(data, tmp_path, monkeypatch):
    real, bad = Pictures.__getitem__, data.train[7][0]

    def spoiled(self, index):
        image, label = real(self, index)
        return (image * float("nan") if self.samples[index][0] == bad else image), label

    monkeypatch.setattr(Pictures, "__getitem__", spoiled)
    with pytest.raises(NonFiniteLossError, match=rf"^loss is nan in epoch 1, since its input is: {bad}; remove it$"):
        go(tmp_path / "run", data, Budget(epochs=1))


def test_minutes_end_in_the_midst_of_an_epoch_with_a_validation(data, tmp_path):
    class Slow(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network()

        def forward(self, image):
            import time

            time.sleep(0.1 if self.training else 0)
            return self.inner(image)

    seen = []
    _, epochs = go(tmp_path / "run", data, Budget(seconds=1.25), seen.append, Slow())
    assert len(epochs) >= 2
    assert 1.25 <= epochs[-1]["seconds"] < 3
    assert seen[-1]["progress"] == 1.0
    assert len({row["epoch"] for row in epochs}) == len(epochs)
