"""Layers around the attention: stem, downsampling and the two feed-forward networks.

Pixels are (B, H, W, C) throughout. A Linear or LayerNorm acts on the last axis; a convolution
sees the same memory as a channels-last NCHW view, so that no layer copies:

    pixels (B, H, W, C)  --permute-->  (B, C, H, W), channels last  --conv, permute-->  (B, H', W', C')
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dualvit.nn.blocking import conv_ffn_by_slices
from dualvit.nn.fuse import fold_batch_norms
from dualvit.nn.onednn import plus, serves, unwatched


class Stem(nn.Module):
    """Image to the first pixel map at stride 4.

    A stride-2 convolution, `depth` convolutions at that size, each with BatchNorm and ReLU, a
    stride-2 convolution to `dim` channels and a LayerNorm. The paper has kernel 7 and depth 2.

    Shapes: (B, in_chans, H, W) to (B, H/4, W/4, dim).
    """

    def __init__(self, in_chans: int, width: int, dim: int, kernel: int = 7, depth: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(1 + depth):
            first = index == 0
            layers += [
                nn.Conv2d(
                    in_chans if first else width,
                    width,
                    kernel if first else 3,
                    stride=2 if first else 1,
                    padding=kernel // 2 if first else 1,
                    bias=False,
                ),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
        self.conv = nn.Sequential(*layers)
        self.proj = nn.Conv2d(width, dim, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(dim)

    def forward(self, image: Tensor) -> Tensor:
        return self.norm(self.proj(self.conv(image)).permute(0, 2, 3, 1))

    @torch.jit.ignore
    def fold(self) -> None:
        """Batch norms go into their convolutions."""
        self.conv = fold_batch_norms(self.conv)


class MapDownsample(nn.Module):
    """Halve the pixel map, and, by the same weights, the map of regional tokens where there is one.

    Shapes: pixels (B, H, W, C) to (B, H/2, W/2, C'), regional tokens (B, h, w, C) to (B, h/2, w/2, C').
    """

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(dim, out_dim, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(out_dim)

    def halve(self, pixels: Tensor) -> Tensor:
        """One map, (B, H, W, C) to (B, H/2, W/2, C')."""
        return self.norm(self.proj(pixels.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))

    def forward(self, pixels: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        if context is not None:
            context = self.halve(context)
        return self.halve(pixels), context


class Downsample(MapDownsample):
    """Halve the pixel map and widen both pathways, between two stages.

    Shapes: pixels (B, H, W, C) to (B, H/2, W/2, C'), semantics (B, M, C) to (B, M, C').
    """

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__(dim, out_dim)
        self.semantic_proj = nn.Linear(dim, out_dim)
        self.semantic_norm = nn.LayerNorm(out_dim)

    def forward(self, pixels: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        if context is not None:
            context = self.semantic_norm(self.semantic_proj(context))
        return self.halve(pixels), context


class ConvFFN(nn.Module):
    """Feed-forward network of the pixels, with a depthwise 3x3 convolution inside.

    In eager inference on a CPU a wide hidden map is computed in slices, see `dualvit.nn.blocking`.

    Shapes: (B, H, W, C), and what is to be added to the result or None, to (B, H, W, C). Source: PVT v2, section 3.2.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.conv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, pixels: Tensor, residual: Tensor | None = None) -> Tensor:
        if torch.jit.is_scripting():
            pass  # and compile nothing of the other branch
        elif serves(pixels) and unwatched((self.fc1, self.conv, self.fc2)):
            return conv_ffn_by_slices(pixels, self.fc1, self.conv, self.fc2, residual)
        hidden = self.conv(self.fc1(pixels).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return plus(self.fc2(F.gelu(hidden)), residual)


class TokenFFN(nn.Module):
    """Feed-forward network of tokens: Linear, activation, Linear.

    Shapes: (..., C) to (..., C).
    """

    def __init__(self, dim: int, hidden: int, activation: type[nn.Module] = nn.GELU) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = activation()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(tokens)))
