"""Fixtures of the models' tests: small networks of each family, as functions that build them, and images."""

from functools import partial

import pytest
import timm
import torch

from dualvit.models.registry import MIXERS

PAPER = {"stem_width": 8, "dims": (32, 64, 96, 128), "depths": (1, 2, 2, 1), "layer_scale": 0.5}
REGION = {"dims": (32, 64, 128, 256), "depths": (1, 2, 1, 1)}
DUAL = {  # the paper's kind has merge blocks from stage 3 on, a grid that grows with the image, and the deep stem
    "paper": ("dualvit_s", PAPER),
    "nano": ("dualvit_n", {}),
}
RIVALS = {
    **{f"pyramid-{mixer}": ("pyramid_s", {**PAPER, "mixer": mixer}) for mixer in MIXERS},
    "regionvit-tiny": ("regionvit_tiny", REGION),
    "regionvit-medium": ("regionvit_medium", REGION),
    "pvt": ("pvt_tiny", {"dims": (64, 64, 128, 192), "depths": (1, 2, 1, 2)}),
}


def small(kind, **kwargs):
    """A small network in evaluation mode; layer scales are such that each branch shows."""
    name, shape = (DUAL | RIVALS)[kind]
    return timm.create_model(name, **{"num_classes": 10, "drop_path_rate": 0.0, **shape, **kwargs}).eval()


@pytest.fixture
def paper():
    """Builds a small network of the paper's kind, for tests in which the size does not matter."""
    return partial(small, "paper")


@pytest.fixture
def nano():
    """Builds dualvit_n."""
    return partial(small, "nano")


@pytest.fixture(params=DUAL)
def dual(request):
    """Builds a Dual-ViT: the paper's kind, and ours for detectors."""
    return partial(small, request.param)


@pytest.fixture(params=RIVALS)
def rival(request):
    """Builds the pyramid with each mixer, RegionViT and PVT."""
    return partial(small, request.param)


@pytest.fixture(params=DUAL | RIVALS)
def each(request):
    """Builds any of them."""
    return partial(small, request.param)


@pytest.fixture
def image():
    """Draws a batch of images of a height and width."""
    return lambda *size, batch=2: torch.randn(batch, 3, *(size or (96, 64)))
