"""A tiny data set in ADE20K's layout, and the paper's recipe shrunk to it."""

import numpy as np
import pytest
from PIL import Image

CLASSES = ("wall", "sky", "tree")


@pytest.fixture
def tiny_ade20k(tmp_path):
    """Squares of three classes, each in its own grey; 0 in the masks is nothing."""
    root, random = tmp_path / "ade", np.random.default_rng(0)
    for split, count in (("training", 20), ("validation", 3)):
        for folder in ("images", "annotations"):
            (root / folder / split).mkdir(parents=True)
        for index in range(count):
            labels = np.kron(random.integers(0, 4, (3, 4)), np.ones((24, 24))).astype(np.uint8)
            Image.fromarray(np.repeat(labels[..., None] * 80, 3, 2)).save(root / f"images/{split}/{index}.png")
            Image.fromarray(labels).save(root / f"annotations/{split}/{index}.png")
    (root / "classes.txt").write_text("\n".join(CLASSES))
    return root


@pytest.fixture
def small(tiny_ade20k):
    """What makes a recipe small."""
    return [
        f"data.root={tiny_ade20k}", "data.image_size=64", "data.short_side=64", "data.batch=2", "data.workers=0",
        "network.name=dualvit_n", "decoder.channels=16", "decoder.auxiliary_channels=16", "schedule.steps=10",
        "schedule.warmup_steps=2", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false",
    ]  # fmt: skip
