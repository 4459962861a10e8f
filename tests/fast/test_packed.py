"""Packed Linears: the same numbers, plain to all that looks at them, and never out of step with their weights."""

import copy
import pickle
import types
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from dualvit.fast.packed import OPERATORS, PackedLinear, add, pack, product, serves

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")

KERNELS = OPERATORS


@pytest.fixture
def packings(monkeypatch):
    """How often weights were packed."""
    made = []
    kernels = types.SimpleNamespace(**{name: getattr(torch.ops.mkldnn, name) for name in KERNELS})
    reorder = kernels._reorder_linear_weight
    kernels._reorder_linear_weight = lambda *args: made.append(1) or reorder(*args)
    monkeypatch.setattr(torch.ops, "mkldnn", kernels)
    return made


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 7), (3, 5, 7), (2, 9, 11, 7)])
def test_product_bias_and_residual(shape, bias):
    linear, tokens = nn.Linear(7, 10, bias=bias), torch.randn(shape)
    residual = torch.randn(*shape[:-1], 10)
    given, plain = residual.clone(), linear(tokens).detach()
    pack(linear)
    with torch.inference_mode():
        assert_close(linear(tokens), plain, rtol=1e-5, atol=1e-6)
        assert_close(add(residual, linear, tokens), plain + residual, rtol=1e-5, atol=1e-6)
    assert_close(add(residual, linear, tokens), plain + residual, rtol=1e-5, atol=1e-6)  # with gradients, by PyTorch
    assert torch.equal(residual, given)


@pytest.mark.parametrize("packed", [True, False])
def test_parts_sum_to_the_whole(packed):
    linear, tokens = nn.Linear(64, 48), torch.randn(2, 30, 64)
    plain = linear(tokens).detach()
    if packed:
        pack(linear)
    with torch.inference_mode():
        wide = [product(linear, tokens, outputs=slice(start, start + 16)) for start in (0, 16, 32)]
        assert_close(torch.cat(wide, -1), plain, rtol=1e-5, atol=1e-5)
        sums = None
        for start in (0, 32):
            part = slice(start, start + 32)
            sums = product(linear, tokens[..., part], sums, inputs=part, biased=start == 0)
    assert_close(sums, plain, rtol=1e-5, atol=1e-5)


def test_weights_are_packed_once_and_again_when_they_change(packings):
    linear, tokens = pack(nn.Linear(16, 8)), torch.randn(4, 16)
    with torch.no_grad():
        for _ in range(3):
            linear(tokens)
        assert len(packings) == 1
        linear.weight.mul_(2)
        assert_close(linear(tokens), tokens @ linear.weight.T + linear.bias)
        assert len(packings) == 2
        linear.load_state_dict(nn.Linear(16, 8).state_dict())
        assert_close(linear(tokens), tokens @ linear.weight.T + linear.bias)
        linear.weight = nn.Parameter(torch.randn(8, 16))
        assert_close(linear(tokens), tokens @ linear.weight.T + linear.bias)
        linear.double().float()
        assert_close(linear(tokens), tokens @ linear.weight.T + linear.bias)
    assert len(packings) == 5


def test_packs_never_hold_more_than_the_weights_once():
    linear, tokens = pack(nn.Linear(64, 96)), torch.randn(4, 64)
    expected = linear(tokens).detach()
    with torch.no_grad():
        for step in (96, 32, 48, 96, 64):  # as image sizes change, so do the slices
            parts = [slice(start, min(start + step, 96)) for start in range(0, 96, step)]
            for _ in range(2):
                out = torch.cat([product(linear, tokens, outputs=part) for part in parts], -1)
                assert_close(out, expected, rtol=1e-5, atol=1e-5)
                assert sum(held.numel() for held in linear._packs.values()) == 96 * 64
                assert len(linear._packs) == len(parts)


def test_threads_share_a_packed_linear():
    linear, tokens = pack(nn.Linear(64, 96)), torch.randn(4, 64)
    expected = linear(tokens).detach()

    def run(step):
        with torch.inference_mode():
            for _ in range(50):
                out = [product(linear, tokens, outputs=slice(s, s + step)) for s in range(0, 96, step)]
                assert_close(torch.cat(out, -1), expected, rtol=1e-5, atol=1e-5)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, (96, 48, 32, 24)))


def test_inference_tensors_are_never_packed(packings):
    with torch.inference_mode():
        linear, tokens = pack(nn.Linear(16, 8)), torch.randn(4, 16)
        linear(tokens)
        linear.weight.mul_(2)  # which an inference tensor does not count
        assert_close(linear(tokens), tokens @ linear.weight.T + linear.bias)
    assert not packings


def test_copies_and_pickles_are_plain(packings):
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU())
    tokens = torch.randn(4, 16)
    pack(model[0])
    with torch.no_grad():
        expected = model(tokens)
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert type(other[0]) is nn.Linear
            assert not [name for name in vars(other[0]) if "pack" in name]
            assert_close(other(tokens), expected)
    assert type(model[0]) is PackedLinear
    assert list(model.state_dict()) == ["0.weight", "0.bias"]
    assert packings == [1]


def test_packing_keeps_parameters_and_hooks():
    linear, seen = nn.Linear(16, 8), []
    weight = linear.weight
    linear.register_forward_hook(lambda _m, _i, out: seen.append(out.shape))
    assert pack(linear) is linear
    assert linear.weight is weight
    with torch.no_grad():
        linear(torch.randn(4, 16))
    assert seen == [(4, 8)]


def test_other_classes_are_left_as_they_are():
    other = nn.modules.linear.NonDynamicallyQuantizableLinear(4, 4)
    assert type(pack(other)) is nn.modules.linear.NonDynamicallyQuantizableLinear


def test_only_eager_inference_on_a_cpu_is_served(packings):
    linear, tokens = pack(nn.Linear(16, 8)), torch.randn(4, 16)
    expected = linear(tokens).detach()
    with torch.no_grad():
        assert serves(tokens)
        assert not serves(tokens.double())
        assert not serves(tokens.half())
        assert not serves(nn.Parameter(tokens))
        assert not serves(tokens.to("meta"))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert not serves(tokens)
        with FlopCounterMode(display=False) as counter:
            linear(tokens)
        assert counter.get_total_flops() == 2 * 4 * 16 * 8
        assert_close(torch.jit.trace(linear, tokens, check_trace=False)(tokens), expected)
        assert_close(torch.export.export(linear, (tokens,)).module()(tokens), expected)
        assert_close(torch.fx.symbolic_trace(nn.Sequential(linear))(tokens), expected)
    assert not serves(tokens)  # with gradients
    assert not packings


def test_bfloat16(packings, bfloat16):
    linear, tokens = pack(nn.Linear(64, 48)), torch.randn(100, 64)
    with torch.no_grad():
        expected = linear(tokens)
        out = linear.to(bfloat16)(tokens.to(bfloat16))
        assert out.dtype == bfloat16
        assert float((out - expected).norm() / expected.norm()) < 0.01
    assert len(packings) == 2


def test_without_its_operators_torch_computes(monkeypatch):
    """As on a PyTorch that keeps other private operators than these."""
    linear, tokens, residual = pack(nn.Linear(16, 8)), torch.randn(4, 16), torch.randn(4, 8)
    monkeypatch.setattr(torch.ops, "mkldnn", types.SimpleNamespace())
    with torch.no_grad():
        assert not serves(tokens)
        assert_close(add(residual, linear, tokens), residual + tokens @ linear.weight.T + linear.bias)
