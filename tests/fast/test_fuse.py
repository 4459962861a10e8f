"""Fused models give the same outputs with fewer steps, and are for inference alone."""

import copy

import pytest
import timm
import torch
from timm.layers import LayerScale
from torch import nn

import dualvit  # noqa: F401  (registers the models)
from dualvit.fast import fuse, is_fused
from dualvit.fast.packed import PackedLinear
from dualvit.fast.sliced import SlicedConvFFN


def shaken(model):
    """Values everywhere: statistics, norms and layer scales that are not what a fresh model has."""
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.ndim == 1 and tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5) if not name.endswith("bias") else tensor.normal_(std=0.1)
    return model.eval()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dualvit_n", {}),
        ("dualvit_s", {}),
        ("dualvit_s", {"semantic_grid": (8, 8), "key_grid": (14, 14)}),
        ("pyramid_n", {"mixer": "regional"}),
        ("pyramid_n", {"mixer": "outlook"}),
        ("regionvit_tiny", {}),
        ("pvt_tiny", {}),
    ],
)
@pytest.mark.parametrize("features", [False, True])
def test_outputs_stay(name, options, features):
    kind = {"features_only": True} if features else {"num_classes": 7}
    model = shaken(timm.create_model(name, **kind, **options))
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        before = model(image)
        fuse(model)
        after = model(image)
        again = fuse(model)(image)
    for a, b, c in zip(after, before, again, strict=True) if features else [(after, before, again)]:
        assert float((a - b).abs().max()) <= 1e-5 * float(b.abs().max())
        assert torch.equal(a, c)


def test_nothing_is_left_to_fold_in_dual_vit():
    model = timm.create_model("dualvit_s").eval()
    assert not is_fused(model)
    fuse(model)
    assert is_fused(model)
    assert not [m for m in model.modules() if isinstance(m, LayerScale | nn.BatchNorm2d)]
    assert not [name for name, _ in model.stages.named_parameters() if name.endswith(".kv.bias")]


def test_linears_of_folded_parts_are_packed_and_a_copy_is_plain():
    model = fuse(timm.create_model("dualvit_n", num_classes=7).eval())
    kinds = {name: type(part) for name, part in model.named_modules() if isinstance(part, nn.Linear)}
    assert kinds["stages.0.blocks.0.attention.q"] is kinds["stages.3.blocks.0.ffn.fc2"] is PackedLinear
    image = torch.randn(2, 3, 64, 96)
    other = copy.deepcopy(model)
    assert not [part for part in other.modules() if isinstance(part, PackedLinear)]
    with torch.no_grad():
        exact = model(image)
        assert torch.allclose(other(image), exact, atol=1e-5)
        assert torch.allclose(fuse(other)(image), exact, atol=1e-5)
    assert [part for part in other.modules() if isinstance(part, PackedLinear)]


def test_training_mode_is_refused():
    with pytest.raises(ValueError, match=r"call eval\(\) first"):
        fuse(timm.create_model("dualvit_n").train())


@pytest.mark.parametrize("grad", [False, True])
def test_who_watches_a_folded_product_sees_it_and_the_answer_stays(grad):
    model = fuse(shaken(timm.create_model("dualvit_n", features_only=True)))
    image = torch.randn(1, 3, 64, 96)
    with torch.set_grad_enabled(grad):
        before, seen = model(image), []
        for module in model.modules():
            if isinstance(module, SlicedConvFFN):
                module.fc1.register_forward_hook(lambda _, inputs, out: seen.append(out.shape))
        after = model(image)
    assert len(seen) == 6
    for a, b in zip(after, before, strict=True):
        assert float((a - b).abs().max()) <= 1e-5 * float(b.abs().max())


def test_fusing_again_changes_no_class():
    model = fuse(shaken(timm.create_model("dualvit_n", features_only=True)))
    classes = [type(module) for module in model.modules()]
    assert [type(module) for module in fuse(model).modules()] == classes
