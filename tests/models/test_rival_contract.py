"""What timm and its users expect, for the pyramid with each mixer, RegionViT and PVT, in small sizes."""

import copy
import pickle
from itertools import pairwise

import pytest
import timm
import torch
from timm.models._manipulate import group_parameters
from timm.optim import param_groups_layer_decay
from torch.export import export
from torch.testing import assert_close

import dualvit
from dualvit.models import dual_vit, dual_vit_small, pvt, pyramid, region_vit

NAMES = [name for family in (pyramid, region_vit, pvt) for name in family.CONFIGS]


def test_all_families_are_listed_and_registered():
    assert dualvit.list_models() == [*dual_vit_small.CONFIGS, *dual_vit.CONFIGS, *NAMES]
    assert len(NAMES) == 13
    assert all(timm.is_model(name) for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_meta_build_knows_its_config(name):
    model = timm.create_model(name, device="meta")
    assert {p.device.type for p in [*model.parameters(), *model.buffers()]} == {"meta"}
    cfg, modules = model.pretrained_cfg, dict(model.named_modules())
    assert cfg["architecture"] == name
    firsts = cfg["first_conv"] if isinstance(cfg["first_conv"], tuple) else (cfg["first_conv"],)
    heads = cfg["classifier"] if isinstance(cfg["classifier"], tuple) else (cfg["classifier"],)
    assert all(part in modules for part in (*firsts, *heads))
    assert {modules[first].in_channels for first in firsts} == {3}
    features = model.forward_features(torch.empty(1, 3, 224, 224, device="meta"))
    assert tuple(features.shape[1:3]) == cfg["pool_size"]
    assert model.feature_info[-1] == {"num_chs": model.num_features, "reduction": 32, "module": "stages.3"}


@pytest.mark.parametrize("size", [(96, 64), (224, 224)])
def test_every_parameter_gets_a_gradient(rival, size, image):
    model = rival().train()
    out = model(image(*size))
    assert out.shape == (2, 10)
    out.square().mean().backward()
    norms = {n: torch.zeros(()) if p.grad is None else p.grad.norm() for n, p in model.named_parameters()}
    assert all(norm.isfinite() for norm in norms.values())
    if size == (224, 224):  # at others softmax over a single key leaves some queries nothing to choose
        # RegionViT's head reads regional tokens, and no later block what that bias did between pixels.
        unread = ["stages.3.blocks.0.mixer.rel_pos"] if type(model) is region_vit.RegionViT else []
        assert [n for n, norm in norms.items() if norm == 0] == unread


@pytest.mark.parametrize("size", [(32, 32), (96, 64), (64, 224), (160, 288)])
@torch.no_grad()
def test_any_multiple_of_32_and_a_batch_equals_its_images(rival, size, image):
    model, batch = rival(), image(*size)
    out = model(batch)
    assert out.isfinite().all()
    assert_close(out, torch.cat([model(one[None]) for one in batch]), rtol=1e-4, atol=1e-5)
    maps = model.forward_intermediates(batch, intermediates_only=True)
    assert [tuple(m.shape[2:]) for m in maps] == [tuple(side // s for side in size) for s in (4, 8, 16, 32)]


@pytest.mark.parametrize("indices", [(0, 1, 2, 3), (1, 2), (3,)])
def test_features_only(rival, indices, image):
    whole, features = rival(), rival(features_only=True, out_indices=indices)
    state = {f"model.{k}": v for k, v in whole.state_dict().items()}
    assert not features.load_state_dict(state, strict=False).missing_keys
    picture = image()
    maps = features(picture)
    expected = whole.forward_intermediates(picture, indices=list(indices), intermediates_only=True)
    for out, same, dim in zip(maps, expected, features.feature_info.channels(), strict=True):
        assert out.shape[1] == dim
        assert_close(out, same, rtol=1e-4, atol=1e-5)
    sum(out.mean() * out.square().mean() for out in maps).backward()
    assert not [name for name, parameter in features.named_parameters() if parameter.grad is None]


def test_intermediates_and_heads_agree_with_forward(rival, image):
    model, picture = rival(), image()
    features = model.forward_features(picture)
    final, maps = model.forward_intermediates(picture, indices=[0, 1])
    assert torch.equal(final, features)
    assert torch.equal(model.forward_head(features), model(picture))
    ran = []
    model.stages[2].register_forward_pre_hook(lambda *_: ran.append(2))
    early = model.forward_intermediates(picture, indices=[0, 1], stop_early=True, intermediates_only=True)
    assert not ran
    assert all(torch.equal(one, other) for one, other in zip(early, maps, strict=True))
    pooled = model.forward_head(features, pre_logits=True)
    assert pooled.shape == (2, model.num_features)
    model.reset_classifier(0)
    assert torch.equal(model(picture), pooled)
    model.reset_classifier(3)
    assert model(picture).shape == (2, 3)
    model.reset_classifier(0, "")
    assert torch.equal(model(picture), features)
    with pytest.raises(ValueError, match="global_pool 'max' is unknown"):
        model.reset_classifier(3, "max")


def test_training_options(rival):
    model = rival(drop_path_rate=0.3, drop_rate=0.2, in_chans=4).train()
    assert model(torch.randn(2, 4, 64, 64)).isfinite().all()
    blocks = [getattr(block, "block", block) for stage in model.stages for block in stage.blocks]
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in blocks]
    assert rates == pytest.approx([0.3 * i / (len(rates) - 1) for i in range(len(rates))], abs=1e-6)
    with pytest.raises(TypeError, match="depth_of_field"):
        rival(depth_of_field=3)


def test_layer_groups_rise_with_depth(rival):
    model = rival()
    undecayed = model.no_weight_decay()
    assert undecayed <= {name for name, _ in model.named_parameters()}
    groups = param_groups_layer_decay(model, no_weight_decay_list=undecayed, layer_decay=0.5)
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    first = {n.split(".norm2")[0]: scale[id(p)] for n, p in model.named_parameters() if ".norm2.weight" in n}
    order = [v for n, v in first.items() if n.startswith("stages.") and "semantic_update" not in n]
    assert len(order) == sum(len(stage.blocks) for stage in model.stages)
    assert all(low < high for low, high in pairwise(order))
    assert set(scale) == {id(p) for p in model.parameters()}
    assert len(set(group_parameters(model, model.group_matcher(coarse=True), reverse=True).values())) >= 5


@torch.no_grad()
def test_copies_and_graphs_answer_the_same(rival, image):
    model, picture = rival(), image()
    expected = model(picture)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(picture), expected)
    assert_close(export(model, (picture,)).module()(picture), expected, rtol=1e-4, atol=1e-5)


def test_bf16_autocast_is_close(rival, image):
    model, picture = rival(), image()
    with torch.no_grad():
        plain = model(picture)
        with torch.autocast("cpu", torch.bfloat16):
            half = model(picture).float()
        cast = model.to(torch.bfloat16)(picture.to(torch.bfloat16)).float()
    for other in (half, cast):
        assert (other - plain).abs().max() <= 0.05 * plain.abs().max()
