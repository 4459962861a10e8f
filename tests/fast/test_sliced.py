"""Slices of a wide map: the same numbers and the same counts, and only where nothing watches the whole map."""

import math

import pytest
import torch
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from dualvit.fast.sliced import BUDGET, NARROWEST, ROWS, SlicedConvFFN, cut
from dualvit.models.dual_vit import ConvFFN


def plain(ffn, pixels):
    """The plain class with the same weights: the oracle."""
    other = ConvFFN(ffn.fc1.in_features, ffn.fc1.out_features)
    other.load_state_dict(ffn.state_dict())
    return other(pixels).detach()


@pytest.fixture
def calls(monkeypatch):
    """How often a part of the hidden map was computed in slices."""
    made = []
    real = SlicedConvFFN._slices
    monkeypatch.setattr(SlicedConvFFN, "_slices", lambda self, *args: made.append(args) or real(self, *args))
    return made


@pytest.mark.parametrize(
    ("shape", "hidden"),
    [
        ((3, 56, 56, 64), 512),
        ((8, 28, 28, 32), 256),
        ((1, 160, 96, 16), 128),
        ((2, 300, 301, 8), 72),
        ((5, 57, 1, 48), 4096),
    ],
)
def test_slices_give_what_the_whole_map_gives(shape, hidden, calls):
    ffn = SlicedConvFFN(shape[-1], hidden)
    pixels = torch.randn(shape)
    expected = plain(ffn, pixels)
    assert not calls
    with torch.no_grad():
        out = ffn(pixels)
    assert calls
    assert out.shape == pixels.shape
    assert out.is_contiguous()
    assert_close(out, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    with torch.inference_mode():
        assert torch.equal(ffn(pixels), out)


@pytest.mark.parametrize("shape", [(3, 56, 56, 64), (1, 14, 14, 64)])
def test_residual_is_added_in_slices_and_whole(shape, calls):
    ffn, pixels, residual = SlicedConvFFN(64, 512), torch.randn(shape), torch.randn(shape)
    before = residual.clone()
    expected = residual + plain(ffn, pixels)
    with torch.no_grad():
        out = ffn(pixels, residual)
    assert calls
    assert_close(out, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(residual, before)


@pytest.mark.parametrize(("batch", "pixels", "hidden"), [(8, 3136, 512), (8, 196, 1280), (1, 102400, 512), (2, 49, 96)])
def test_slices_fit_the_budget_and_cover_all_channels_evenly(batch, pixels, hidden):
    images, step = cut(batch, pixels, hidden)
    assert 1 <= images <= batch
    assert step % NARROWEST == 0
    parts = math.ceil(hidden / step)
    assert parts * step - hidden < NARROWEST * parts  # no narrow rest
    assert 4 * images * pixels * step <= BUDGET or step == NARROWEST
    assert images * pixels >= ROWS or images == batch


def test_multiply_adds_are_counted(calls):
    ffn, pixels = SlicedConvFFN(32, 256), torch.randn(2, 64, 64, 32)
    counts = []
    for grad in (True, False):
        with torch.set_grad_enabled(grad), FlopCounterMode(display=False) as counter:
            ffn(pixels)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] == 2 * 2 * 64 * 64 * 256 * (32 + 9 + 32)
    assert not calls  # a counter knows layers alone, and none of oneDNN's own operators


def test_what_watches_the_whole_map_sees_it(calls):
    ffn, pixels = SlicedConvFFN(16, 128), torch.randn(1, 128, 128, 16)
    seen = []
    handle = ffn.fc1.register_forward_hook(lambda _m, _i, out: seen.append(out.shape))
    with torch.no_grad():
        ffn(pixels)
    assert seen == [(1, 128, 128, 128)]
    handle.remove()
    with torch.no_grad():
        ffn.to(torch.float64)(pixels.to(torch.float64))
        ffn.to(torch.float32)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            ffn(pixels)
        traced = torch.jit.trace(ffn, pixels, check_trace=False)
    assert not calls
    assert_close(traced(pixels), plain(ffn, pixels))


def test_bfloat16_goes_by_slices_too(calls, bfloat16):
    ffn, pixels = SlicedConvFFN(64, 512), torch.randn(2, 56, 56, 64)
    expected = plain(ffn, pixels)
    with torch.no_grad():
        out = ffn.to(bfloat16)(pixels.to(bfloat16))
    assert calls
    assert float((out - expected).norm() / expected.norm()) < 0.01
