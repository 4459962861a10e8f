"""Attention in other orders of its products: the numbers, gradients and counts of the plain class, its oracle."""

import pytest
import torch
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

import dualvit
from dualvit.fast import attention
from dualvit.fast.attention import FastCrossAttention, FewKeys, FewTokens, few_pay
from dualvit.fast.fuse import fold
from dualvit.models.dual_vit import CrossAttention, attend

FEW = pytest.mark.parametrize("few", [FewTokens, FewKeys])


def lengths(few, many, count):
    """How many tokens and how many of the source there are, of which a class has few."""
    return (count, many) if few is FewTokens else (many, count)


@pytest.mark.parametrize("together", [1 << 24, 3000])  # bytes: all heads at once, one or two at a time
def test_bfloat16_writes_its_scores_out(monkeypatch, bfloat16, together):
    monkeypatch.setattr(attention, "TOGETHER", together)
    module, made = FastCrossAttention(32, 4, project=True), []
    exact = [torch.randn(3, 20, 32), torch.randn(3, 33, 32)]
    expected = CrossAttention.forward(module, *exact)
    tokens, source = (tensor.to(bfloat16) for tensor in exact)
    real = attention.attend_by_products
    monkeypatch.setattr(attention, "attend_by_products", lambda *args: made.append(1) or real(*args))
    with torch.no_grad():
        module(*exact)
        assert not made
        out = module.to(bfloat16)(tokens, source)
        assert made == [1]
        assert out.dtype == bfloat16
        assert float((out - expected).norm() / expected.norm()) < 0.02
        monkeypatch.setattr(attention, "SCORES", 1)
        assert_close(module(tokens, source), out, rtol=0.05, atol=0.02)
    module(tokens, source)
    assert made == [1]


def test_products_are_attend():
    q, k, v = torch.randn(3, 20, 32), torch.randn(3, 33, 32), torch.randn(3, 33, 32)
    with torch.no_grad():
        assert_close(attention.attend_by_products(q, k, v, 4), attend(q, k, v, 4), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize(("few", "project"), [(FewTokens, False), (FewTokens, True), (FewKeys, True)])
def test_absorbed_products_are_the_plain_ones_in_another_order(few, project, folded):
    """Outputs and every gradient, with biases that count, before and after they are folded."""
    module = few(32, 4, project=project).double()
    for linear in (module.q, module.kv, module.proj)[: 2 + project]:
        torch.nn.init.normal_(linear.bias)
    if folded:
        fold(module)
    tokens, source = (torch.randn(2, n, 32, dtype=torch.float64, requires_grad=True) for n in lengths(few, 90, 6))
    results = {}
    for kind in (few, CrossAttention):
        out = kind.forward(module, tokens, source)
        inputs = [tokens, source, *module.parameters()]
        grads = torch.autograd.grad(out.sin().sum(), inputs, allow_unused=True)
        results[kind] = [out, *(torch.zeros_like(i) if g is None else g for i, g in zip(inputs, grads, strict=True))]
    for ours, plain in zip(results[few], results[CrossAttention], strict=True):
        assert_close(ours, plain, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", [FastCrossAttention, FewTokens, FewKeys])
def test_a_residual_is_added(kind):
    module, tokens, source = kind(32, 4, project=True), torch.randn(2, 8, 32), torch.randn(2, 9, 32)
    residual = torch.randn(2, 8, 32)
    expected = residual + CrossAttention.forward(module, tokens, source)
    assert_close(module(tokens, source, residual), expected, rtol=1e-5, atol=1e-6)


@FEW
def test_absorbing_takes_the_multiply_adds_it_says(few):
    """2 heads few many C, and on the few's side what does not grow with the many."""
    module, counted = few(64, 2, project=few is FewKeys), {}
    for many in (400, 800):
        with FlopCounterMode(display=False) as counter:
            module(*(torch.randn(1, n, 64) for n in lengths(few, many, 16)))
        counted[many] = counter.get_total_flops() / 2
    assert counted[800] - counted[400] == 2 * 2 * 16 * 400 * 64


@pytest.mark.parametrize(("few", "pays"), [(16, True), (64, False)])
def test_absorbing_pays_if_the_few_are_few_enough(few, pays):
    assert few_pay(64, 2, few) is pays


@FEW
@pytest.mark.parametrize("what", ["hook", "layer"])
def test_plain_order_if_a_layer_is_watched_or_replaced(few, what, monkeypatch):
    module = few(64, 2, project=True)
    tokens, source = (torch.randn(1, n, 64) for n in lengths(few, 400, 16))
    expected, seen = module(tokens, source), []
    if what == "hook":
        module.kv.register_forward_hook(lambda *_: seen.append("kv"))
    else:
        module.q = torch.nn.Sequential(module.q)
    monkeypatch.setattr(attention, "split_heads", None)  # whoever calls it fails
    assert_close(module(tokens, source), expected, rtol=1e-5, atol=1e-6)
    assert seen == (["kv"] if what == "hook" else [])


@FEW
def test_absorbed_attention_traces(few):
    module = few(32, 2, project=True).eval()
    tokens, source = (torch.randn(1, n, 32) for n in lengths(few, 100, 4))
    expected = CrossAttention.forward(module, tokens, source)
    traced = torch.jit.trace(module, (tokens, source))
    assert_close(traced(tokens, source), expected, rtol=1e-5, atol=1e-6)
    used = {node.kind() for node in traced.inlined_graph.nodes()}
    assert "aten::softmax" in used and not used & {"aten::baddbmm", "aten::unflatten", "aten::unbind"}


def test_the_graph_of_a_network_has_operators_that_every_format_knows():
    model = dualvit.fuse(dualvit.create_model("dualvit_n", num_classes=2).eval())
    traced = torch.jit.trace(model, torch.rand(1, 3, 64, 64), check_trace=False)
    used = {node.kind() for node in traced.inlined_graph.nodes()}
    assert "aten::softmax" in used and not used & {"aten::baddbmm", "aten::unflatten", "aten::unbind"}
