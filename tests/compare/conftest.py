"""Fixtures of the comparison's tests: two classes of tiny pictures, and models that train in a moment, or fail."""

import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

MODELS = '''
import time
import torch
from timm.models import register_model
from torch import nn

class Tiny(nn.Module):
    """One convolution; `pause` seconds longer at each training step; `fails` in training, but not before."""

    def __init__(self, num_classes=2, width=4, pause=0.0, fails=False):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, width, 3, 2), nn.Linear(width, num_classes)
        self.pause, self.fails = pause, fails

    def forward(self, image):
        if self.training:
            time.sleep(self.pause)
            if self.fails == "nan":
                image = image * float("nan")
            elif self.fails:
                raise RuntimeError("the network broke")
        return self.head(self.conv(image).relu().mean((2, 3)))

def create(**kwargs):
    ours = ("num_classes", "width", "pause", "fails")
    return Tiny(**{key: value for key, value in kwargs.items() if key in ours})

def tiny_test(pretrained=False, **kwargs):
    return create(**kwargs)

register_model(tiny_test)
'''


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Tiny networks are no quicker on several cores, and much slower where these are busy."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with 24 + 8 pictures of 32x32 in `data`, and the module `tiny_models`."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 4)):
        for label, colour in (("dark", 60), ("light", 180)):
            folder = tmp_path / "data" / split / label
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(colour, colour + 60, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    (tmp_path / "tiny_models.py").write_text(MODELS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("tiny_models", None)


@pytest.fixture
def experiment(place):
    """Write an experiment's YAML and return its path; arguments are its keys, None leaves one out."""

    def write(**keys) -> Path:
        raw = {
            "task": "classify", "data": str(place / "data"), "models": ["tiny_test"], "epochs": 2, "image_size": 32,
            "batch": 8, "imports": ["tiny_models"], "device": "cpu", "output": str(place / "out"), "runtimes": [],
        } | keys  # fmt: skip
        path = place / "experiment.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in raw.items() if value is not None}))
        return path

    return write
