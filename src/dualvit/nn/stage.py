"""A stage: the blocks at one resolution, with what lies before and after them."""

import torch
from timm.models import checkpoint
from torch import Tensor, nn


class Stage(nn.Module):
    """Blocks at one resolution, with the downsampling before and the norms after them.

    The first stage has no downsampling; the last one's norm is the model's, applied after the
    class block.

    Shapes: pixels (B, H, W, C) and semantics (B, M, C) to (B, H/2, W/2, C') and (B, M, C').
    """

    def __init__(self, downsample: nn.Module | None, blocks: list[nn.Module], norm_dim: int | None) -> None:
        super().__init__()
        self.grad_checkpointing = False
        self.downsample = downsample
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.Identity() if norm_dim is None else nn.LayerNorm(norm_dim, eps=1e-6)
        self.semantic_norm = nn.Identity() if norm_dim is None else nn.LayerNorm(norm_dim, eps=1e-6)

    def forward(self, pixels: Tensor, semantics: Tensor) -> tuple[Tensor, Tensor]:
        if self.downsample is not None:
            pixels, semantics = self.downsample(pixels, semantics)
        for block in self.blocks:
            if self.grad_checkpointing and not torch.jit.is_scripting():  # type: ignore[attr-defined]
                pixels, semantics = checkpoint(block, pixels, semantics)
            else:
                pixels, semantics = block(pixels, semantics)
        return self.norm(pixels), self.semantic_norm(semantics)
