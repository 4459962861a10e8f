"""A stage: the blocks at one resolution, with what lies before and after them."""

import torch
from timm.models import checkpoint
from torch import Tensor, nn


class Stage(nn.Module):
    """Blocks at one resolution, with the downsampling before and the norms after them.

    The first stage has no downsampling; the last one's norm is the model's, applied after the
    class block.

    Shapes: pixels (B, H, W, C) and the context beside them, such as semantics (B, M, C) or None, to
    (B, H/2, W/2, C') and a context of C' channels.

    Args:
        downsample: What halves the map, or None.
        blocks: Each takes and returns pixels and context.
        norm_dim: C', or None for a stage without norms.
        norm_context: Whether there is a context to be normalised.
    """

    def __init__(
        self, downsample: nn.Module | None, blocks: list[nn.Module], norm_dim: int | None, norm_context: bool = True
    ) -> None:
        super().__init__()
        self.grad_checkpointing = False
        self.downsample = downsample
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.Identity() if norm_dim is None else nn.LayerNorm(norm_dim, eps=1e-6)
        plain = norm_dim is None or not norm_context
        self.semantic_norm = nn.Identity() if plain else nn.LayerNorm(norm_dim, eps=1e-6)

    def forward(self, pixels: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        if self.downsample is not None:
            pixels, context = self.downsample(pixels, context)
        for block in self.blocks:
            if self.grad_checkpointing and not torch.jit.is_scripting():
                pixels, context = checkpoint(block, pixels, context)
            else:
                pixels, context = block(pixels, context)
        if context is not None:
            context = self.semantic_norm(context)
        return self.norm(pixels), context
