"""The form whose cost is linear in the pixels: the paper's at 224x224, the same weights, and no square at 1280."""

import pytest
import timm
import torch
from torch import nn

from dualvit.bench.cost import macs

LINEAR = {"semantic_grid": (8, 8), "key_grid": (14, 14)}


def awake(model):
    """Layer scales at which every block leaves its trace in the output."""
    for name, parameter in model.named_parameters():
        if name.endswith("gamma"):
            nn.init.uniform_(parameter, 0.2, 1.0)
    return model.eval()


@pytest.fixture(scope="module")
def pair():
    paper = awake(timm.create_model("dualvit_s", num_classes=10))
    linear = timm.create_model("dualvit_s", num_classes=10, **LINEAR).eval()
    linear.load_state_dict(paper.state_dict())  # every name and shape is the paper's
    return paper, linear


def test_it_is_the_papers_at_224(pair):
    paper, linear = pair
    image = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        expected = paper(image)
        assert float((linear(image) - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


def test_it_differs_beyond(pair):
    """A stated amount, of random weights: means stand for the keys at 448x320."""
    paper, linear = pair
    image = torch.randn(1, 3, 448, 320)
    with torch.no_grad():
        expected = paper(image)
        error = float((linear(image) - expected).norm() / expected.norm())
    assert 1e-4 < error < 0.5


def test_work_per_pixel_does_not_grow():
    def per_pixel(size, **kwargs):
        with torch.device("meta"):
            model = timm.create_model("dualvit_s", features_only=True, **kwargs)
        return macs(model, size) / size**2

    assert per_pixel(640, **LINEAR) <= 1.1 * per_pixel(224, **LINEAR)
    assert per_pixel(1280, **LINEAR) <= 1.1 * per_pixel(224, **LINEAR)
    assert per_pixel(1280) > 4 * per_pixel(224)


@pytest.mark.parametrize(("name", "options"), [("dualvit_n", {"dual_stages": 2}), ("dualvit_s", {})])
@pytest.mark.parametrize("size", [(96, 160), (224, 352)])
def test_every_parameter_learns_at_any_size(name, options, size):
    model = awake(timm.create_model(name, num_classes=5, **LINEAR, **options)).train()
    model(torch.randn(2, 3, *size)).square().mean().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
