"""Attention against a slow transcription with explicit softmax, head by head."""

import pytest
import torch
from torch.testing import assert_close

from dualvit.models.dual_vit import CrossAttention, SelfAttention, attend


def slow_attend(q, k, v, num_heads):
    """softmax(q k^T / sqrt(d)) v for one image and one head at a time."""
    dim = q.shape[-1] // num_heads
    out = torch.empty_like(q)
    for image in range(q.shape[0]):
        for head in range(num_heads):
            channels = slice(head * dim, (head + 1) * dim)
            scores = q[image, :, channels] @ k[image, :, channels].T * dim**-0.5
            out[image, :, channels] = scores.softmax(-1) @ v[image, :, channels]
    return out


@pytest.mark.parametrize("heads", [1, 2, 8])
def test_attend_is_explicit_softmax_attention(heads):
    q, k, v = torch.randn(2, 5, 32), torch.randn(2, 7, 32), torch.randn(2, 7, 32)
    assert_close(attend(q, k, v, heads), slow_attend(q, k, v, heads), rtol=1e-5, atol=1e-6)


def test_attend_scale_is_that_of_a_head():
    """With one head of C channels the scale is C^-0.5, as the seed needs it."""
    q, k = torch.randn(1, 1, 64), torch.randn(1, 2, 64)
    v = torch.zeros(1, 2, 64)
    v[:, 0] = 1.0  # the output is the weight of key 0
    weight = torch.sigmoid((q @ (k[:, 0] - k[:, 1]).mT) / 8)
    assert_close(attend(q, k, v, 1), weight.expand(1, 1, 64), rtol=1e-5, atol=1e-6)


def test_attend_gradients_match():
    tensors = [torch.randn(1, 4, 16, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    fast = torch.autograd.grad(attend(*tensors, 2).square().sum(), tensors)
    slow = torch.autograd.grad(slow_attend(*tensors, 2).square().sum(), tensors)
    assert_close(fast, slow, rtol=1e-9, atol=1e-12)


def test_one_key_gives_its_value():
    q, kv = torch.randn(2, 9, 32), torch.randn(2, 1, 32)
    assert_close(attend(q, kv, kv, 4), kv.expand(2, 9, 32))


def test_heads_do_not_mix():
    """A change in one head's values changes that head's channels only."""
    q, k, v = torch.randn(3, 1, 6, 32)
    other = v.clone()
    other[..., 8:16] += 1.0
    changed = (attend(q, k, other, 4) - attend(q, k, v, 4)).abs().amax((0, 1)) > 1e-6
    assert changed.nonzero().flatten().tolist() == list(range(8, 16))


def test_self_attention_is_qkv_in_that_order_without_projection():
    module = SelfAttention(32, 2)
    tokens = torch.randn(2, 6, 32)
    q, k, v = (
        torch.nn.functional.linear(tokens, module.qkv.weight[i : i + 32], module.qkv.bias[i : i + 32])
        for i in (0, 32, 64)
    )
    assert_close(module(tokens), slow_attend(q, k, v, 2), rtol=1e-5, atol=1e-6)
    assert {name for name, _ in module.named_parameters()} == {"qkv.weight", "qkv.bias"}


@pytest.mark.parametrize("project", [False, True])
def test_cross_attention_takes_keys_then_values_from_the_context(project):
    module = CrossAttention(32, 4, project=project)
    tokens, context = torch.randn(2, 6, 32), torch.randn(2, 11, 32)
    kv = context @ module.kv.weight.T + module.kv.bias
    expected = slow_attend(module.q(tokens), kv[..., :32], kv[..., 32:], 4)
    if project:
        expected = expected @ module.proj.weight.T + module.proj.bias
    assert_close(module(tokens, context), expected, rtol=1e-5, atol=1e-6)
    assert ("proj.weight" in dict(module.named_parameters())) is project


def test_cross_attention_ignores_the_order_of_its_context():
    module = CrossAttention(32, 4, project=True)
    tokens, context = torch.randn(1, 6, 32), torch.randn(1, 11, 32)
    assert_close(module(tokens, context), module(tokens, context[:, torch.randperm(11)]), rtol=1e-5, atol=1e-6)
