"""Relevance: its sum is the rise of the number, at the image and at every stage; and it finds what a function reads."""

import pytest
import torch
from torch import nn

import dualvit
from dualvit.explain.relevance import blurred, relevance_of


def image(seed=0, size=64):
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(seed))


def hooks(model):
    return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in model.modules())


@pytest.mark.parametrize("name", ["dualvit_n", "dualvit_s"])
def test_stages_conserve_relevance(name):
    torch.manual_seed(0)
    options = {} if name == "dualvit_n" else {"depths": (1, 1, 1, 1), "layer_scale": 0.5}
    network = dualvit.create_model(name, num_classes=3, **options).eval()
    # A faint picture is near to its blurred one, so that few steps follow the path.
    found = relevance_of(network, 0.5 + 0.2 * image(), lambda logits: logits[0, 1], steps=32)
    assert [flow.stage for flow in found.flows] == [-1, 0, 1, 2, 3]
    totals = [float(found.image.sum()), *(flow.total for flow in found.flows)]
    assert totals == pytest.approx([found.rise] * 6, rel=0.01)
    assert any(float(flow.semantics.abs().sum()) > 0 for flow in found.flows[1:])


def test_a_detectors_maps_are_counted():
    torch.manual_seed(0)
    features = dualvit.create_model("dualvit_n", features_only=True, out_indices=(1, 2, 3)).eval()
    weights = [torch.randn(channels, 1, 1) for channels in features.feature_info.channels()]

    def target(maps):
        return sum((one[0] * weight).mean() for one, weight in zip(maps, weights, strict=True))

    found = relevance_of(features, image(), target, steps=24)
    assert [flow.total for flow in found.flows] == pytest.approx([found.rise] * 5, rel=0.01)
    assert [flow.taken != 0 for flow in found.flows] == [False, False, False, True, True]


def test_a_linear_function_is_explained_exactly():
    network = nn.Conv2d(3, 1, 1, bias=False).eval()
    seen = image()
    found = relevance_of(network, seen, lambda out: out[0, 0, 10:20, 30:40].sum(), steps=2)
    exact = network(seen - blurred(seen))[0, 0].detach()
    assert torch.allclose(found.image[10:20, 30:40], exact[10:20, 30:40], atol=1e-6)
    outside = found.image.clone()
    outside[10:20, 30:40] = 0
    assert float(outside.abs().max()) == 0 and found.flows == ()


def test_looking_changes_no_bit_and_leaves_no_hook():
    network = dualvit.create_model("dualvit_n", num_classes=3).eval()
    with torch.inference_mode():
        before = network(image())
    numbers = []
    relevance_of(network, image(), lambda logits: numbers.append(logits.detach()) or logits[0, 0], steps=1)
    assert hooks(network) == 0
    with torch.inference_mode():
        assert torch.equal(network(image()), before)


def test_bad_input_is_named():
    network = dualvit.create_model("dualvit_n", num_classes=3)
    with pytest.raises(ValueError, match="evaluation mode; call eval"):
        relevance_of(network.train(), image(), lambda logits: logits[0, 0])
    with pytest.raises(ValueError, match="one image at a time, and 2 were given"):
        relevance_of(network.eval(), torch.rand(2, 3, 64, 64), lambda logits: logits[0, 0])
    with pytest.raises(ValueError, match="does not depend on the image"):
        relevance_of(network, image(), lambda logits: torch.ones(()))


@pytest.mark.parametrize("size", [(32, 32), (33, 200), (640, 64)])
def test_a_blurred_picture_keeps_its_size_and_mean(size):
    images = torch.rand(1, 3, *size)
    out = blurred(images)
    assert out.shape == images.shape and float(out.std()) < float(images.std()) / 2
    assert float(out.mean()) == pytest.approx(float(images.mean()), abs=0.05)
