"""The semantic seed: how the first few semantic tokens are read off the stem's pixel map."""

import torch
import torch.nn.functional as F
from timm.models import register_notrace_function
from torch import Tensor, nn

from dualvit.nn.attention import attend

QUERY_GRID = [8, 8]  # the learned queries lie on this grid
WINDOW = 7  # stem pixels that a semantic token covers along each side: 28 image pixels


@register_notrace_function
def area_weights(size: int, cells: int, like: Tensor) -> Tensor:
    """The (cells, size) matrix that averages `size` pixels into `cells` equal, gapless spans.

    A pixel that straddles two spans counts in each by its share. It equals average pooling where
    `size` is a multiple of `cells`, needs no lower limit, and is computed from the shape inside
    the graph, so that an exported model keeps its dynamic sizes.
    """
    left = torch.arange(size, device=like.device).unsqueeze(0)
    start = torch.arange(cells, device=like.device).unsqueeze(1)
    # Integer edges in units of 1 / cells of a pixel: exact at any size.
    overlap = torch.minimum((left + 1) * cells, (start + 1) * size) - torch.maximum(left * cells, start * size)
    return (overlap.clamp(min=0) / size).to(like.dtype)


@register_notrace_function
def window_mean(pixels: Tensor, window: int) -> Tensor:
    """Average the (B, H, W, C) map in whole square windows; what is left at the far edges is not read."""
    return F.avg_pool2d(pixels.permute(0, 3, 1, 2), window).permute(0, 2, 3, 1)


def area_mean(pixels: Tensor, rows: int, columns: int) -> Tensor:
    """Average the (B, H, W, C) map into rows x columns equal, gapless cells, at any H and W."""
    down = area_weights(pixels.shape[1], rows, pixels)
    across = area_weights(pixels.shape[2], columns, pixels)
    pooled = torch.matmul(across, pixels)  # (B, H, columns, C)
    return torch.matmul(down, pooled.flatten(2)).unflatten(2, [columns, -1])


class SemanticSeed(nn.Module):
    """Read the first semantic tokens off the stem's output.

    The map is averaged into a grid of cells. A learned query for each cell, resampled from an 8x8
    grid, attends to all cells; a gate then mixes, channel by channel, what was attended and what
    was averaged.

    Shapes: pixels (B, H, W, C) to semantics (B, M, C).

    Args:
        dim: C.
        grid: None for the paper's grid, floor(H/7) x floor(W/7) cells of 7x7 stem pixels;
            (rows, columns) for a fixed number of tokens at any image size.

    Source: Dual-ViT, section 3.2.
    """

    def __init__(self, dim: int, grid: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.grid = grid
        self.window = WINDOW
        self.query_grid = QUERY_GRID
        self.queries = nn.Parameter(torch.empty(QUERY_GRID[0] * QUERY_GRID[1], dim))
        self.query_norm = nn.LayerNorm(dim)
        self.query_proj = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.gate = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 2 * dim))
        self.norm = nn.LayerNorm(dim)

    def pool(self, pixels: Tensor) -> Tensor:
        """Average the map into the semantic grid, (B, rows, columns, C)."""
        if self.grid is None:
            return window_mean(pixels, self.window)
        return area_mean(pixels, self.grid[0], self.grid[1])

    def forward(self, pixels: Tensor) -> Tensor:
        cells = self.pool(pixels)
        queries = self.queries.transpose(0, 1).unflatten(1, self.query_grid).unsqueeze(0)
        # At 8x8 the bicubic resampling reproduces its input, so no branch on the shape is needed.
        queries = F.interpolate(queries, size=[cells.shape[1], cells.shape[2]], mode="bicubic", align_corners=False)
        queries = self.query_proj(self.query_norm(queries.flatten(2).transpose(1, 2)))

        pooled = cells.flatten(1, 2)
        k, v = self.kv(pooled).chunk(2, dim=-1)
        attended = attend(queries.expand(pooled.shape[0], -1, -1), k, v, num_heads=1)
        gate = self.gate((attended + pooled).mean(1, keepdim=True)).unflatten(2, [2, -1]).softmax(2)
        return self.norm(gate[:, :, 0] * attended + gate[:, :, 1] * pooled)
