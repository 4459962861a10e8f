"""The pyramid: Dual-ViT itself with its own mixer, and nothing but another mixer with the others."""

from dataclasses import asdict, fields

import pytest
import timm
import torch
from timm.layers import LayerScale

import dualvit
from dualvit.models import dual_vit, dual_vit_small
from dualvit.models.dual_vit import DualViT, SemanticUpdate
from dualvit.models.mixers import FullMixer, LocalMixer, OutlookMixer, ReductionMixer
from dualvit.models.mixers.block import MixerBlock
from dualvit.models.mixers.local import WindowAttention
from dualvit.models.mixers.regional import RegionalBlock
from dualvit.models.pyramid import CONFIGS
from dualvit.models.registry import MIXERS, Mixer

DUAL_VIT = dual_vit_small.CONFIGS | dual_vit.CONFIGS
RIVALS = [mixer for mixer in MIXERS if mixer != "dual"]


@pytest.mark.parametrize("kwargs", [{}, {"mixer": "dual"}])
def test_a_small_pyramid_is_a_small_dual_vit(kwargs):
    shape = {"depths": (1, 2, 2, 1), "num_classes": 10}
    dual = dualvit.create_model("dualvit_s", **shape).eval()
    ours = dualvit.create_model("pyramid_s", **shape, **kwargs).eval()
    assert isinstance(ours, DualViT)
    ours.load_state_dict(dual.state_dict(), strict=True)
    picture = torch.randn(2, 3, 96, 128)
    assert torch.equal(ours(picture), dual(picture))
    maps = zip(*(m.forward_intermediates(picture, intermediates_only=True) for m in (ours, dual)), strict=True)
    assert all(torch.equal(one, other) for one, other in maps)


@pytest.mark.parametrize("size", "ntsbl")
def test_every_pyramid_has_the_widths_and_depths_of_its_dual_vit(size):
    ours, dual = CONFIGS[f"pyramid_{size}"], DUAL_VIT[f"dualvit_{size}"]
    changed = {"dual_stages": 3} if size in "nt" else {}  # the rivals' paper forms, and the dual one's merge blocks
    assert {field.name: getattr(ours, field.name) for field in fields(dual)} == asdict(dual) | changed


@pytest.mark.parametrize("size", "sbl")
def test_every_pyramid_of_the_papers_sizes_is_its_dual_vit(size):
    """Names, shapes, order and initial values, so seeds give the same network."""
    states = [timm.create_model(f"{kind}_{size}", device="meta").state_dict() for kind in ("pyramid", "dualvit")]
    assert [(n, v.shape) for n, v in states[0].items()] == [(n, v.shape) for n, v in states[1].items()]


def test_one_seed_makes_one_network():
    values = []
    for name in ("pyramid_s", "dualvit_s"):
        torch.manual_seed(3)
        values.append(timm.create_model(name, depths=(1, 1, 1, 1)).state_dict())
    assert all(torch.equal(values[0][name], values[1][name]) for name in values[1])


def test_the_papers_checkpoint_loads_into_the_pyramid(golden):
    state = {name: torch.from_numpy(value) for name, value in golden.state_dict("dualvit_s").items()}
    model = timm.create_model("pyramid_s", device="meta")
    model.load_state_dict(state, strict=True, assign=True)
    assert torch.equal(model.head.weight, state["head.weight"])


def parts(model, kind):
    return [[module for module in stage.modules() if isinstance(module, kind)] for stage in model.stages]


@pytest.mark.parametrize("mixer", RIVALS)
@pytest.mark.parametrize("size", "ns")
def test_nothing_but_the_mixer_differs(mixer, size):
    """Entries outside the mixers and the semantics are the dual ones', by name and shape; so are scales and widths."""
    dual = timm.create_model(f"pyramid_{size}", device="meta")
    rival = timm.create_model(f"pyramid_{size}", mixer=mixer, device="meta")
    own = ("seed.", "mixer.", "semantic", ".attention.", ".norm1.")

    def rest(model):
        return {n: v.shape for n, v in model.state_dict().items() if not any(part in n for part in own)}

    assert rest(rival) == rest(dual)
    initial = {float(m.init_values) if hasattr(m, "init_values") else None for m in rival.modules()} - {None}
    assert initial <= {CONFIGS[f"pyramid_{size}"].layer_scale}
    scales = [sum(isinstance(m, LayerScale) for m in block.children()) for s in rival.stages for block in s.blocks]
    assert set(scales) == {2}


def test_stages_follow_the_rivals_papers():
    def build(mixer):
        return timm.create_model("pyramid_s", mixer=mixer, device="meta")

    assert [{m.ratio for m in stage} for stage in parts(build("reduction"), ReductionMixer)] == [{8}, {4}, {2}, {1}]
    local = build("local")
    kinds = [isinstance(m.attention, WindowAttention) for stage in parts(local, LocalMixer) for m in stage]
    assert kinds == [i % 2 == 0 for i in range(16)]
    assert [{m.ratio for m in stage} for stage in parts(local, ReductionMixer)] == [{8}, {4}, {2}, {1}]
    assert [{m.window for m in stage} for stage in parts(local, WindowAttention)] == [{7}] * 4
    outlook = build("outlook")
    assert [len(stage) for stage in parts(outlook, OutlookMixer)] == [3, 4, 0, 0]
    assert [len(stage) for stage in parts(outlook, FullMixer)] == [0, 0, 6, 3]
    assert [len(stage) for stage in parts(build("full"), FullMixer)] == [3, 4, 6, 3]
    assert [len(stage) for stage in parts(build("regional"), RegionalBlock)] == [3, 4, 6, 3]
    assert not any(isinstance(m, SemanticUpdate) for mixer in RIVALS for m in build(mixer).modules())


def test_regional_tokens_are_halved_with_the_pixels():
    model = timm.create_model("pyramid_n", mixer="regional").eval()
    pixels, regions = model.begin(torch.randn(1, 3, 224, 160))
    shapes = []
    for stage in model.stages:
        pixels, regions = stage(pixels, regions)
        shapes.append((tuple(pixels.shape[1:3]), tuple(regions.shape[1:3])))
    assert shapes == [((56, 40), (8, 6)), ((28, 20), (4, 3)), ((14, 10), (2, 2)), ((7, 5), (1, 1))]


def test_an_unknown_mixer_raises_one_clear_line():
    with pytest.raises(ValueError, match="unknown mixer 'outlok'; did you mean outlook") as error:
        dualvit.create_model("pyramid_n", mixer="outlok")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("option", ["semantic_grid", "key_grid", "dual_stages"])
@pytest.mark.parametrize("mixer", RIVALS)
def test_an_option_without_effect_is_an_error(mixer, option):
    value = 2 if option == "dual_stages" else (4, 4)
    with pytest.raises(ValueError, match=f"{option} has no effect with mixer='{mixer}'; leave it out"):
        dualvit.create_model("pyramid_n", mixer=mixer, device="meta", **{option: value})
    dualvit.create_model("pyramid_n", mixer="dual", device="meta", **{option: value})


@pytest.mark.parametrize("name", ["dualvit_n", "pyramid_n"])
def test_a_key_grid_needs_a_merge_block(name):
    with pytest.raises(ValueError, match="dual_stages=4 leaves none"):
        dualvit.create_model(name, dual_stages=4, key_grid=(14, 14))
    with pytest.raises(ValueError, match="dual_stages is 5; give 0 to 4"):
        dualvit.create_model(name, dual_stages=5)


def test_a_new_mixer_is_one_entry(monkeypatch):
    """A mixer of a user's own: each pixel gets the mean of the map."""

    class MeanMixer(torch.nn.Module):
        def __init__(self, dim, num_heads):
            super().__init__()
            self.proj = torch.nn.Linear(dim, dim)

        def forward(self, pixels, semantics=None):
            return self.proj(pixels.mean((1, 2), keepdim=True)).expand_as(pixels), semantics

    def block(shape, config):
        return MixerBlock(shape, MeanMixer(shape.dim, shape.num_heads))

    monkeypatch.setitem(MIXERS, "mean", Mixer(MeanMixer, block))
    model = dualvit.create_model("pyramid_n", mixer="mean", num_classes=3).eval()
    assert model(torch.randn(2, 3, 64, 96)).shape == (2, 3)
