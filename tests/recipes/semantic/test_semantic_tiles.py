"""Tiles over whole images: equality with the plain network, coverage, and weights."""

import pytest
import torch

from dualvit.recipes.semantic.tiles import slide, starts, tile_weight


@pytest.fixture
def network():
    torch.manual_seed(0)
    return torch.nn.Conv2d(3, 5, 3, padding=1)


@pytest.mark.parametrize("blending", ["mean", "gaussian"])
@torch.no_grad()
def test_one_window_is_the_plain_network(network, blending):
    image = torch.randn(3, 32, 32)
    result = slide(network, image, 32, 20, blending)
    torch.testing.assert_close(result, network(image[None])[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("size", [(20, 50), (50, 20), (33, 70), (9, 9)])
@torch.no_grad()
def test_any_size(network, size):
    """A network without context, a 1x1 convolution, gives the same with tiles and without."""
    network = torch.nn.Conv2d(3, 5, 1)
    image = torch.randn(3, *size)
    for blending in ("mean", "gaussian"):
        result = slide(network, image, 32, 20, blending, batch=2)
        torch.testing.assert_close(result, network(image[None])[0], atol=1e-6, rtol=1e-5)


def test_logits_are_averaged():
    """Two tiles, of logits 1 and 3: 2 where they overlap, and with a Gaussian nearer to the closer tile's."""
    calls = iter([1.0, 3.0])

    def network(images):
        return torch.stack([torch.full((1, 8, 8), next(calls)) for _ in images])

    row = slide(network, torch.zeros(3, 8, 12), 8, 4)[0, 0]
    assert row.tolist() == [1.0] * 4 + [2.0] * 4 + [3.0] * 4
    calls = iter([1.0, 3.0])
    row = slide(network, torch.zeros(3, 8, 12), 8, 4, "gaussian")[0, 0]
    assert (row.diff() >= -1e-5).all() and row[4] < 1.5 and row[7] > 2.5


def test_every_pixel_is_covered():
    for length in range(10, 100):
        covered = torch.zeros(length)
        for start in starts(length, 10, 7):
            assert 0 <= start <= length - 10
            covered[start : start + 10] += 1
        assert covered.min() >= 1
    assert tile_weight(64, "gaussian").min() > 0
