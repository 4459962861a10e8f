"""The semantic seed: pooling grids, resampled queries, and the whole against a slow transcription."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from dualvit.models.dual_vit import SemanticSeed, area_weights


def pool(pixels, rows, columns):
    """Area pooling as the seed does it, on (B, H, W, C)."""
    seed = SemanticSeed(pixels.shape[-1], grid=(rows, columns))
    return seed.pool(pixels)


@pytest.mark.parametrize(
    ("size", "grid"), [((56, 56), (8, 8)), ((8, 24), (4, 4)), ((4, 4), (4, 4)), ((20, 12), (5, 3))]
)
def test_area_pooling_is_adaptive_average_pooling_where_divisible(size, grid):
    pixels = torch.randn(2, *size, 6)
    expected = F.adaptive_avg_pool2d(pixels.permute(0, 3, 1, 2), grid).permute(0, 2, 3, 1)
    assert_close(pool(pixels, *grid), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(3, 5), (7, 9), (25, 42), (56, 100)])
@pytest.mark.parametrize("grid", [(4, 4), (8, 8), (3, 7)])
def test_area_pooling_conserves_the_mean(size, grid):
    """Also where pixels straddle cells, and where there are fewer pixels than cells."""
    pixels = torch.randn(1, *size, 4, dtype=torch.float64)
    pooled = pool(pixels, *grid)
    assert pooled.shape == (1, *grid, 4)
    assert_close(pooled.mean((1, 2)), pixels.mean((1, 2)), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("size", "cells"), [(7, 4), (10, 4), (3, 8), (56, 8)])
def test_area_weights_are_shares_of_overlap(size, cells):
    weights = area_weights(size, cells, torch.zeros(1, dtype=torch.float64))
    expected = torch.zeros(cells, size, dtype=torch.float64)
    span = size / cells
    for cell in range(cells):
        for pixel in range(size):
            low, high = max(pixel, cell * span), min(pixel + 1, (cell + 1) * span)
            expected[cell, pixel] = max(0.0, high - low) / span
    assert_close(weights, expected, rtol=0, atol=1e-7)  # the shares are rounded to float32
    assert_close(weights.sum(1), torch.ones(cells, dtype=torch.float64), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(56, 56), (28, 112), (24, 33)])
def test_window_mean_reads_whole_windows_only(height, width):
    pixels = torch.randn(2, height, width, 3)
    means = SemanticSeed(3).pool(pixels)
    assert means.shape == (2, height // 7, width // 7, 3)
    for row in range(height // 7):
        for column in range(width // 7):
            window = pixels[:, 7 * row : 7 * row + 7, 7 * column : 7 * column + 7]
            assert_close(means[:, row, column], window.mean((1, 2)), rtol=1e-5, atol=1e-6)


def test_bicubic_resampling_to_its_own_size_is_the_identity():
    """The seed has no branch for 8x8, so the resampling must give its input back, bit for bit."""
    queries = torch.randn(1, 96, 8, 8)
    assert torch.equal(F.interpolate(queries, size=[8, 8], mode="bicubic", align_corners=False), queries)


def slow_seed(seed, pixels, rows, columns):
    """The seed in the words of the model's description, one image at a time."""
    dim = pixels.shape[-1]
    queries = seed.queries.T.reshape(1, dim, 8, 8)
    if (rows, columns) != (8, 8):
        queries = F.interpolate(queries, (rows, columns), mode="bicubic", align_corners=False)
    queries = seed.query_proj(seed.query_norm(queries[0].reshape(dim, -1).T))
    out = []
    for image in pixels:
        pooled = seed.pool(image[None])[0].reshape(rows * columns, dim)
        kv = pooled @ seed.kv.weight.T + seed.kv.bias
        attended = (queries @ kv[:, :dim].T * dim**-0.5).softmax(-1) @ kv[:, dim:]
        gate = seed.gate[2](seed.gate[0]((attended + pooled).mean(0)).relu())
        share = gate.reshape(2, dim).softmax(0)
        out.append(seed.norm(share[0] * attended + share[1] * pooled))
    return torch.stack(out)


@pytest.mark.parametrize(
    ("size", "grid", "cells"),
    [
        ((56, 56), None, (8, 8)),
        ((28, 112), None, (4, 16)),  # 64 cells too, on another grid: resampled by shape
        ((24, 33), None, (3, 4)),
        ((24, 33), (8, 8), (8, 8)),
        ((8, 8), (4, 4), (4, 4)),
    ],
)
def test_seed_is_its_description(size, grid, cells):
    seed = SemanticSeed(32, grid)
    for parameter in seed.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    pixels = torch.randn(2, *size, 32)
    semantics = seed(pixels)
    assert semantics.shape == (2, cells[0] * cells[1], 32)
    assert_close(semantics, slow_seed(seed, pixels, *cells), rtol=1e-4, atol=1e-5)


def test_fixed_8x8_grid_is_the_papers_at_224():
    """56x56 stem pixels in 7x7 windows are 8x8 cells either way."""
    paper, fixed = SemanticSeed(32), SemanticSeed(32, (8, 8))
    torch.nn.init.normal_(paper.queries)
    fixed.load_state_dict(paper.state_dict())
    pixels = torch.randn(1, 56, 56, 32)
    assert_close(paper(pixels), fixed(pixels), rtol=1e-5, atol=1e-5)
