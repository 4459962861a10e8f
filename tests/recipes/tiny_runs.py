"""Tiny runs of a classifier: their recipe, a way to cut them short, and what makes two checkpoints equal."""

import torch

from dualvit.recipes import run
from dualvit.recipes.classify.task import Classify


class Stop(Exception):
    pass


def changes(root, *more):
    return [
        f"data.root={root}", "network.name=dualvit_n", "network.drop_path=0.2", "data.image_size=32", "data.batch=4",
        "mix.mixup=0.8", "mix.cutmix=1.0", "ema=0.8", "schedule.epochs=4", "trainer.accelerator=cpu", *more,
    ]  # fmt: skip


def recipe(root, *more):
    return run.load_recipe("laptop-classify", changes(root, *more))


def content(file):
    return torch.load(file, map_location="cpu", weights_only=True)


def require_equal(one, other, place="checkpoint"):
    """Weights, average, optimizer, steps and history of two checkpoints; not the date, places, and what counts logs."""
    if isinstance(one, dict):
        for name in (set(one) | set(other)) - {"environment", "callbacks", "loops"}:
            require_equal(one[name], other[name], f"{place}.{name}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), place
        for index, pair in enumerate(zip(one, other, strict=True)):
            require_equal(*pair, f"{place}.{index}")
    else:
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, place


def cut_at(monkeypatch, step):
    real = Classify.training_step

    def training_step(self, batch, batch_idx):
        if self.global_step == step:
            raise Stop
        return real(self, batch, batch_idx)

    monkeypatch.setattr(Classify, "training_step", training_step)
