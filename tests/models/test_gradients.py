"""Gradients of whole networks equal differences of their outputs, in whatever order memory hands them back."""

import pytest
import torch

from dualvit.models import create_model
from dualvit.models.dual_vit_small import NormedLinear

NETWORKS = ("dualvit_n", "dualvit_s", "pyramid_n")


def slopes(function, inputs, seed, step=1e-7):
    """The derivative along a random direction: by the gradient, and by a difference."""
    torch.manual_seed(seed)
    direction = torch.randn_like(inputs)
    inputs = inputs.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(function(inputs), inputs)
    with torch.no_grad():
        difference = function(inputs + step * direction) - function(inputs - step * direction)
    return float((gradient * direction).sum()), float(difference / (2 * step))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradient_is_the_slope(name, training):
    """A loss that reads maps as (B, C, H, W), as a detector does, and one that reads them as they are."""
    torch.manual_seed(0)
    network = create_model(name, num_classes=0, features_only=True, drop_path_rate=0.0).double().train(training)
    images = torch.rand(2, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        weights = [torch.randn_like(one) for one in network(images)]

    def loss(images, order):
        pairs = zip(network(images), weights, strict=True)
        return sum((one.permute(order) * weight.permute(order).contiguous()).sum() for one, weight in pairs)

    for order in ((0, 1, 2, 3), (0, 3, 1, 2)):
        # A rectifier may turn between two points; it does not along most directions.
        pairs = [slopes(lambda images, order=order: loss(images, order), images, seed) for seed in range(3)]
        errors = sorted(abs(gradient - difference) / abs(difference) for gradient, difference in pairs)
        assert errors[1] < 1e-4, pairs


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("shape", [(1, 64), (2, 16), (3, 7), (2, 1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (2, 1, 0)])
def test_normed_linear_takes_gradients_in_any_order(shape, order, training):
    torch.manual_seed(0)
    layer = NormedLinear(32, 48).double().train(training)
    torch.nn.init.normal_(layer.weight)
    layer.norm.running_mean.normal_()
    weights = torch.randn(*shape, 48, dtype=torch.float64).permute(order).contiguous()
    back = [order.index(axis) for axis in range(3)]
    tokens = torch.randn(*shape, 32, dtype=torch.float64)
    gradient, difference = slopes(lambda tokens: (layer(tokens) * weights.permute(back)).sum(), tokens, 1, 1e-6)
    assert gradient == pytest.approx(difference, rel=1e-4, abs=1e-5)
