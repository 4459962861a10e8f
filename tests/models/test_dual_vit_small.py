"""N and T: what their batch norms promise before they are folded, and that nothing is left of them after."""

import copy
import math

import pytest
import torch
from torch import nn

import dualvit
from dualvit.models.dual_vit import DualViT
from dualvit.models.dual_vit_small import GAIN, NormedConv, NormedLinear

NORMED = NormedLinear | NormedConv


@pytest.fixture(params=["dualvit_n", "dualvit_t"])
def network(request):
    """A fresh network as a detector has it, in training mode."""
    return dualvit.create_model(request.param, features_only=True).model  # the network in timm's wrapper


def maps_of(network, image):
    """Return the maps of a network in training mode, which has no dropout and so no chance."""
    with torch.no_grad():
        return network.train().forward_intermediates(image, intermediates_only=True)


def test_the_scale_of_the_normed_weights_says_nothing(network):
    image = torch.randn(4, 3, 64, 64)
    before = maps_of(network, image)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, NORMED):
                module.weight *= 3
    for one, other in zip(before, maps_of(network, image), strict=True):
        assert float((one - other).abs().mean()) < 0.01 * float(one.std())  # the norms' eps


def test_new_weights_turn_as_fast_as_those_of_a_detector(network):
    normed = [module for module in network.modules() if isinstance(module, NORMED)]
    for module in normed:
        inputs = module.weight[0].numel()
        assert float(module.weight.std()) == pytest.approx(GAIN / math.sqrt(inputs), rel=0.25)
    assert len(normed) == 4 + 6 * 6  # the stem's and the downsamplings' last; of a block two reads, a write, and three


def test_every_product_of_the_pixels_has_a_norm_behind(network):
    plain = {
        name for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and not isinstance(module, NORMED)
    }  # fmt: skip
    of_semantics = ("semantic_proj", "self_attention.qkv", "cross_attention.q", "ffn.fc1", "ffn.fc2", "attention.kv")
    first = {"stem.conv.0"}  # its norm stands beside it, in the stem
    left = {name for name in plain - first if not name.startswith("seed.") and not name.endswith(of_semantics)}
    assert not left


def test_folded_pixels_have_no_norm(network):
    folded = dualvit.fuse(copy.deepcopy(network).eval())
    assert not [module for module in folded.modules() if isinstance(module, nn.BatchNorm2d)]
    norms = {name for name, module in folded.named_modules() if isinstance(module, nn.LayerNorm)}
    assert all("semantic" in name or name.startswith("seed.") for name in norms)


@pytest.mark.parametrize("size", [(64, 64), (96, 160), (70, 50)])
def test_folded_maps_stay_at_any_size_also_as_a_runtime_gets_them(network, size):
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    image = torch.randn(2, 3, *size)
    plain = network.eval().forward_intermediates(image, intermediates_only=True)
    folded = dualvit.fuse(copy.deepcopy(network))
    with torch.no_grad():
        eager = folded.forward_intermediates(image, intermediates_only=True)
    traced = folded.forward_intermediates(image, intermediates_only=True)  # with gradients no kernel of oneDNN serves
    for one, two, three in zip(plain, eager, traced, strict=True):
        assert float((one - two).abs().max()) < 1e-5 * float(one.abs().max())
        assert float((one - three).abs().max()) < 1e-5 * float(one.abs().max())


def test_the_larger_sizes_and_the_pyramids_keep_the_papers_layer_norms():
    for name in ("dualvit_s", "pyramid_n"):
        network = dualvit.create_model(name, depths=(1, 1, 1, 1))
        assert not [module for module in network.modules() if isinstance(module, NORMED)]
        assert isinstance(network.stages[0].blocks[0].norm1, nn.LayerNorm)


def test_a_number_of_dual_stages_can_be_chosen():
    network = dualvit.create_model("dualvit_n", num_classes=3, dual_stages=2)
    assert isinstance(network, DualViT)
    assert network(torch.randn(2, 3, 64, 64)).shape == (2, 3)
