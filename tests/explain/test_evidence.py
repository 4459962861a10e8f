"""Evidence: shares that sum to 1, of all kinds of blocks, and the products of the forward pass itself."""

import pytest
import torch
from linear import FOUND, LinearDetector, bright_view
from subjects import classifier, yolo

import dualvit
from dualvit.errors import InputError
from dualvit.explain.attention import attention_of, network_of
from dualvit.explain.evidence import KEPT, evidence, on_maps, rollout, watch
from dualvit.explain.methods import METHODS
from dualvit.explain.subject import Found, View
from dualvit.fast.fuse import fuse
from dualvit.models.dual_vit import area_weights

IMAGES = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
BOXES = torch.tensor([[[8.0, 16.0, 40.0, 90.0], [-20.0, 3.0, 11.0, 500.0]]]).repeat(2, 1, 1)
OPTIONS = {
    "dualvit_n": {},
    "dualvit_s": {"depths": (1, 1, 2, 1)},
    "dualvit_s linear": {"depths": (1, 1, 1, 1), "key_grid": (4, 4), "semantic_grid": (4, 4)},
}


def rolled(model):
    network, reads = network_of(model), []
    handles = watch(network, reads)
    with torch.inference_mode():
        model(IMAGES)
    for handle in handles:
        handle.remove()
    return rollout(reads, BOXES, (96, 64), network.seed)


@pytest.mark.parametrize("name", OPTIONS)
def test_shares_of_a_box_sum_to_one_fused_or_not(name):
    torch.manual_seed(0)
    model = dualvit.create_model(name.split()[0], **OPTIONS[name]).eval()
    plain = rolled(model)
    assert plain.shape == (2, 2, 12, 8) and plain.min() >= 0
    torch.testing.assert_close(plain.sum((2, 3)), torch.ones(2, 2))
    assert (plain[0] - plain[1]).abs().max() > 0  # another image, other reads
    torch.testing.assert_close(rolled(fuse(model)), plain, rtol=1e-4, atol=1e-6)


def test_it_is_the_attention_of_the_blocks():
    """By the attentions of `attention_of` and large matrices from all pixels and tokens to those before."""
    torch.manual_seed(0)
    model = dualvit.create_model("dualvit_n").eval()
    found = attention_of(model, IMAGES)
    starts, pixels, tokens = on_maps(BOXES[:1], (96, 64)), torch.zeros(1), torch.zeros(1)
    for stage in (3, 2, 1, 0):
        if stage < 3:
            pixels = pixels.unflatten(1, (-1, 64 // (8 << stage)))
            pixels = (pixels.repeat_interleave(2, 1).repeat_interleave(2, 2) / 4).flatten(1)
        if stage:
            pixels = pixels + starts[stage - 1][0].flatten(1) / 3
        for read, consulted in zip(*[iter([one for one in reversed(found) if one.stage == stage])] * 2, strict=True):
            read, consulted = consulted, read  # backwards, the pixels come first
            tokens = tokens + (1 - KEPT) * pixels @ consulted.weights()[0].mean(0)
            pixels = KEPT * pixels + (1 - KEPT) * tokens @ read.weights()[0].mean(0)
            tokens = KEPT * tokens
    rows, columns = area_weights(24, 4, pixels), area_weights(16, 4, pixels)
    first = pixels.unflatten(1, (24, 16)) + rows.T @ tokens.unflatten(1, (4, 4)) @ columns
    expected = 4 * torch.nn.functional.avg_pool2d(first, 2)
    torch.testing.assert_close(rolled(model)[0], expected, rtol=1e-4, atol=1e-6)


def test_boxes_lie_evenly_on_all_maps():
    fine, middle, coarse = on_maps(torch.tensor([[[8.0, 0.0, 24.0, 64.0], [100.0, 0.0, 120.0, 64.0]]]), (64, 64))
    expected = torch.zeros(8, 8)
    expected[:, 1:3] = 1 / 16
    torch.testing.assert_close(fine[0, 0], expected)
    torch.testing.assert_close(middle[0, 0, :, :2], torch.full((4, 2), 1 / 8))
    torch.testing.assert_close(coarse[0, 0], torch.tensor([[0.5, 0.0], [0.5, 0.0]]))
    assert not fine[0, 1].any()  # outside of the image


def test_as_a_method():
    subject = yolo("yolov8n-dualvit.yaml")
    view = View(IMAGES[:1], (0, 0, 64, 96), (64, 96))
    values = METHODS["evidence"].map(subject, view, Found(0, "block", 1.0, 0, (8.0, 16.0, 40.0, 90.0)))
    assert values.shape == (96, 64) and METHODS["evidence"].cost(subject, view) == 1
    assert not network_of(subject.network).stem._forward_pre_hooks


def test_what_has_none_is_one_line():
    with pytest.raises(InputError, match="has no semantics of Dual-ViT"):
        evidence(LinearDetector(), View(IMAGES, (0, 0, 64, 96), (64, 96)), FOUND)
    with pytest.raises(InputError, match=r"^evidence is of boxes, and a has none"):
        evidence(classifier(), bright_view(), Found(0, "a", 1.0, 0))
    with pytest.raises(InputError, match=r"multiples of 32, and the images have 48x64$"):
        evidence(LinearDetector(), View(torch.zeros(1, 3, 64, 48), (0, 0, 48, 64), (48, 64)), FOUND)
