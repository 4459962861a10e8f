"""Attention recomputed from what hooks see equals the model's own, and looking changes nothing."""

import pytest
import torch
from torch import nn

import dualvit
from dualvit.explain.attention import PIXELS, SEMANTICS, attention_of, network_of, queries_and_keys
from dualvit.fast.fuse import accelerate
from dualvit.models.dual_vit import CrossAttention, split

IMAGES = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
OPTIONS = {
    "dualvit_n": {},
    "dualvit_s": {"depths": (1, 1, 2, 1)},
    "dualvit_s linear": {"depths": (1, 1, 1, 1), "key_grid": (4, 4), "semantic_grid": (4, 4)},
}


@pytest.fixture(scope="module", params=OPTIONS)
def network(request):
    torch.manual_seed(0)
    return dualvit.create_model(request.param.split()[0], num_classes=5, **OPTIONS[request.param]).eval()


def hooks(model):
    return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in model.modules())


@pytest.mark.parametrize("faster", [False, True])
@torch.inference_mode()
def test_weights_equal_those_of_the_model(network, faster):
    """What a module attends to, by our weights and its own values, is what the module gives."""
    if faster:
        network = accelerate(network)
    seen = []

    def note(module, given, out):
        seen.append((module, given, out))

    modules = [one for one in network_of(network).stages.modules() if isinstance(one, CrossAttention)]
    handles = [one.register_forward_hook(note) for one in modules]
    network(IMAGES)
    for handle in handles:
        handle.remove()
    assert len(seen) == len(modules) > 3
    for module, (tokens, source, *_), out in seen:
        queries, keys = queries_and_keys(module, tokens, source)
        weights = (queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5).softmax(-1)
        values = module.kv(source).chunk(2, dim=-1)[1].unflatten(2, (module.num_heads, -1)).transpose(1, 2)
        attended = module.proj((weights @ values).transpose(1, 2).flatten(2))
        assert (attended - out).abs().max() < 1e-5


@torch.inference_mode()
def test_looking_changes_no_bit_and_leaves_no_hook(network):
    before, outputs = hooks(network), network(IMAGES)
    found = attention_of(network, IMAGES)
    assert hooks(network) == before
    with_hooks = []
    from dualvit.explain.attention import recorded

    with recorded(network):
        with_hooks.append(network(IMAGES))
    assert torch.equal(outputs, with_hooks[0])
    assert torch.equal(outputs, network(IMAGES))
    depths = [len(stage.blocks) for stage in network_of(network).stages]
    assert [(one.stage, one.block) for one in found if one.readers == PIXELS] == [
        (stage, block) for stage, depth in enumerate(depths) for block in range(depth)
    ]


@torch.inference_mode()
def test_weights_are_shares(network):
    for one in attention_of(network, IMAGES):
        weights, maps = one.weights(), one.maps()
        assert maps.shape[-2:] == (one.grid or one.size if one.sources == PIXELS else one.size)
        assert maps.shape[2] == (weights.shape[2] if one.readers == SEMANTICS else weights.shape[3])
        sums = weights.sum(-1)
        if one.keys.shape[2] == one.count:  # a dual block
            assert torch.allclose(sums, torch.ones_like(sums), atol=1e-5)
        else:
            assert (sums > 0).all() and (sums < 1).all()


def test_hooks_go_if_the_model_fails(network):
    before = hooks(network)
    with pytest.raises(RuntimeError):
        attention_of(network, torch.zeros(1, 4, 64, 64))
    assert hooks(network) == before


def test_models_that_cannot_be_looked_at_are_named(network):
    with pytest.raises(ValueError, match="Sequential has no semantics of Dual-ViT; relevance, layercam"):
        attention_of(nn.Sequential(nn.Conv2d(3, 3, 1)).eval(), IMAGES)
    with pytest.raises(ValueError, match="in training mode; call eval"):
        attention_of(dualvit.create_model("dualvit_n").train(), IMAGES)


def test_split_is_the_order_of_a_merge_block():
    tokens = torch.arange(7.0).view(1, 7, 1)
    pixels, semantics = split(tokens, torch.zeros(1, 2, 2, 1))
    assert pixels.flatten().tolist() == [0, 1, 2, 3] and semantics.flatten().tolist() == [4, 5, 6]
