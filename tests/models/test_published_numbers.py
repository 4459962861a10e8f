"""Parameters and multiply-adds of the paper's table, and the headline against VOLO-D4.

Multiply-adds (MACs) are half of what `torch.utils.flop_counter.FlopCounterMode` counts: convolutions,
Linears and the two matrix products of each attention, for one image. Norms, activations, softmax and
resampling are not counted. Models are built on the meta device: nothing is computed.
"""

from functools import cache

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

import dualvit  # noqa: F401
from dualvit.meta import on_meta

TABLE = {  # parameters in millions, GMACs at 224 and at 384
    "dualvit_s": (25.1, 5.4, 18.4),
    "dualvit_b": (42.6, 9.3, 31.9),
    "dualvit_l": (73.0, 18.0, 60.5),
}
VOLO = "volo_d4_224"
PUBLISHED_VOLO = (193, 43.8)
# The class attention after the last map, and the Linears after it, by module name.
CLASS_ATTENTION = {"dualvit_l": ["class_block"], VOLO: ["post_network.0", "post_network.1"]}
HEADS = ["head", "aux_head"]


@cache
def build(name):
    with on_meta():
        return timm.create_model(name).eval()


@cache
def measure(name, size):
    """Parameters in millions, and GMACs by module name ("" is the whole model)."""
    model, image = build(name), torch.empty(1, 3, size, size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    prefix = type(model).__name__
    gmacs = {
        key.removeprefix(prefix).removeprefix("."): sum(counts.values()) / 2e9
        for key, counts in counter.get_flop_counts().items()
        if key.startswith(prefix)
    }
    return sum(p.numel() for p in model.parameters()) / 1e6, gmacs


def within(value, published, share=0.005):
    assert abs(value / published - 1) <= share, f"{value} is {value / published - 1:+.2%} off {published}"


@pytest.mark.parametrize("name", TABLE)
def test_parameters(name):
    within(measure(name, 224)[0], TABLE[name][0])


@pytest.mark.parametrize("name", TABLE)
def test_gmacs_at_224(name):
    within(measure(name, 224)[1][""], TABLE[name][1])


@pytest.mark.parametrize("name", TABLE)
def test_gmacs_at_384(name):
    within(measure(name, 384)[1][""], TABLE[name][2])


def test_headline_parameters():
    """L has 37.8 % of VOLO-D4's parameters."""
    ours, theirs = measure("dualvit_l", 224)[0], measure(VOLO, 224)[0]
    within(theirs, PUBLISHED_VOLO[0])
    within(ours / theirs, 0.378)


def test_headline_computation_by_one_rule():
    """L takes 41.1 % of VOLO-D4's computation, by one counting rule for both models.

    The rule: all MACs from the image to the last token map. Left out, in both models alike, is what
    comes after that map: class attention (one block here, two in VOLO), the class head and the
    token-labelling head. 17.87 / 43.64 = 0.4096.
    """
    trunk = {}
    for name, class_attention in CLASS_ATTENTION.items():
        gmacs = measure(name, 224)[1]
        trunk[name] = gmacs[""] - sum(gmacs[part] for part in class_attention + HEADS)
    within(trunk["dualvit_l"] / trunk[VOLO], 0.411)


def test_headline_computation_as_it_was_published():
    """The published figures each follow a rule of their own, a little to L's disadvantage.

    18.0 is everything in L. 43.8 is VOLO-D4 without its two class attention blocks (0.475 of 44.263).
    With everything counted on both sides the share is 40.6 %.
    """
    ours, theirs = measure("dualvit_l", 224)[1], measure(VOLO, 224)[1]
    without = theirs[""] - sum(theirs[part] for part in CLASS_ATTENTION[VOLO])
    assert round(ours[""], 1) == TABLE["dualvit_l"][1]
    assert round(without, 1) == PUBLISHED_VOLO[1]
    within(ours[""] / without, 0.411)
    assert ours[""] / theirs[""] == pytest.approx(0.4058, abs=5e-4)


def test_a_fixed_grid_costs_less_from_224_up():
    """Features of S in GMACs, as the description gives them: 73 and 732, and 47 and 309 with 8x8 tokens."""

    def features(size, **kwargs):
        with on_meta():
            model = timm.create_model("dualvit_s", features_only=True, **kwargs).eval()
        image = torch.empty(1, 3, size, size, device="meta")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(image)
        return counter.get_total_flops() / 2e9

    assert features(224) == pytest.approx(5.3, abs=0.05)
    assert features(224, semantic_grid=(8, 8)) == pytest.approx(features(224), rel=0.002)
    assert features(640) == pytest.approx(73, abs=0.5)
    assert features(1280) == pytest.approx(732, abs=0.5)
    assert features(640, semantic_grid=(8, 8)) == pytest.approx(47, abs=0.5)
    assert features(1280, semantic_grid=(8, 8)) == pytest.approx(309, abs=0.5)
