"""Attention against a slow transcription with explicit softmax, head by head."""

import pytest
import torch
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from dualvit.nn import attention
from dualvit.nn.attention import CrossAttention, SelfAttention, absorbing_saves, attend


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


@pytest.mark.parametrize("together", [1 << 24, 3000])  # bytes: all heads at once, one or two at a time
def test_attend_in_bfloat16_writes_its_scores_out(monkeypatch, bfloat16, together):
    monkeypatch.setattr(attention, "TOGETHER", together)
    exact = [torch.randn(3, 20, 32), torch.randn(3, 33, 32), torch.randn(3, 33, 32)]
    q, k, v = (tensor.to(bfloat16) for tensor in exact)
    made = []
    real = attention._attend_by_products
    monkeypatch.setattr(attention, "_attend_by_products", lambda *args: made.append(1) or real(*args))
    expected = slow_attend(*exact, 4)
    with torch.no_grad():
        out = attend(q, k, v, 4)
        assert made == [1]
        assert out.dtype == bfloat16
        assert float((out - expected).norm() / expected.norm()) < 0.02
        attend(*exact, 4)
        monkeypatch.setattr(attention, "SCORES", 1)
        assert_close(attend(q, k, v, 4), out, rtol=0.05, atol=0.02)
    attend(q, k, v, 4)
    assert made == [1]


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


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize(("few", "project"), [("tokens", False), ("tokens", True), ("context", True)])
def test_absorbed_products_are_the_plain_ones_in_another_order(few, project, folded):
    """Outputs and every gradient, with biases that count, before and after they are folded."""
    module = CrossAttention(32, 4, project=project, few=few).double()
    for linear in (module.q, module.kv, module.proj)[: 2 + project]:
        torch.nn.init.normal_(linear.bias)
    if folded:
        module.fold()
    lengths = (6, 90) if few == "tokens" else (90, 6)
    tokens, context = (torch.randn(2, n, 32, dtype=torch.float64, requires_grad=True) for n in lengths)
    found = {}
    for order in (few, ""):
        module.few = order
        out = module(tokens, context)
        inputs = [tokens, context, *module.parameters()]
        grads = torch.autograd.grad(out.sin().sum(), inputs, allow_unused=True)
        found[order] = [out, *(torch.zeros_like(i) if g is None else g for i, g in zip(inputs, grads, strict=True))]
    for ours, plain in zip(found[few], found[""], strict=True):
        assert_close(ours, plain, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("few", ["tokens", "context"])
def test_absorbing_takes_the_multiply_adds_it_says(few):
    """2 heads few many C, and on the few's side what does not grow with the many."""
    module = CrossAttention(64, 2, project=few == "context", few=few)
    counted = {}
    for many in (400, 800):
        lengths = (many, 16) if few == "context" else (16, many)
        with FlopCounterMode(display=False) as counter:
            module(*(torch.randn(1, n, 64) for n in lengths))
        counted[many] = counter.get_total_flops() / 2
    assert counted[800] - counted[400] == 2 * 2 * 16 * 400 * 64


@pytest.mark.parametrize(("few", "saves"), [(None, False), (16, True), (64, False)])
def test_absorbing_saves_where_the_few_are_few_enough(few, saves):
    assert absorbing_saves(64, 2, few) is saves


def test_few_keys_go_through_the_output_linear():
    with pytest.raises(ValueError, match="give project=True"):
        CrossAttention(64, 2, project=False, few="context")


@pytest.mark.parametrize("what", ["hook", "layer"])
def test_plain_order_where_a_layer_is_watched_or_replaced(what, monkeypatch):
    module = CrossAttention(64, 2, project=True, few="context")
    pixels, semantics = torch.randn(1, 400, 64), torch.randn(1, 16, 64)
    expected, seen = module(pixels, semantics), []
    if what == "hook":
        module.kv.register_forward_hook(lambda *_: seen.append("kv"))
    else:
        module.q = torch.nn.Sequential(module.q)
    monkeypatch.setattr(CrossAttention, "_few_keys", None)  # whoever calls it fails
    assert_close(module(pixels, semantics), expected, rtol=1e-5, atol=1e-6)
    assert seen == (["kv"] if what == "hook" else [])


def test_absorbed_attention_scripts_and_traces():
    module = CrossAttention(32, 2, project=True, few="context").eval()
    pixels, semantics = torch.randn(1, 100, 32), torch.randn(1, 4, 32)
    expected = module(pixels, semantics)
    assert_close(torch.jit.script(module)(pixels, semantics), expected, rtol=1e-5, atol=1e-6)
    assert_close(torch.jit.trace(module, (pixels, semantics))(pixels, semantics), expected, rtol=1e-5, atol=1e-6)
