"""Dual-ViT's own mixer, as one of the six. A network is made of `DualBlock` and `MergeBlock`, which have its parts."""

from timm.layers import trunc_normal_
from torch import Tensor, nn

from dualvit.models.dual_vit import CrossAttention, Downsample, DualViTConfig, SemanticSeed, SemanticUpdate, dual_block
from dualvit.models.registry import Mixer, register_mixer


class DualMixer(nn.Module):
    """Update the semantics from the pixels, then let each pixel consult them.

    With p the normalised pixels: s' = SemanticUpdate(s, p); out = Linear(Attention(query p, key and value
    LayerNorm(s'))). The cost is linear in the number of pixels: no pixel attends to another one.

    Shapes: normalised pixels (B, H, W, C) and semantics (B, M, C) to the pixels' update and the new semantics.
    Source: Dual-ViT, section 3.2 and figure 2.
    """

    def __init__(self, dim: int, num_heads: int, drop_path: float = 0.0, layer_scale: float = 1e-6) -> None:
        super().__init__()
        self.semantic_update = SemanticUpdate(dim, num_heads, drop_path, layer_scale)
        self.semantic_norm = nn.LayerNorm(dim)
        self.attention = CrossAttention(dim, num_heads, project=True)

    def forward(self, pixels: Tensor, semantics: Tensor) -> tuple[Tensor, Tensor]:
        tokens = pixels.flatten(1, 2)  # (B, H W, C)
        semantics = self.semantic_update(semantics, tokens)
        return self.attention(tokens, self.semantic_norm(semantics)).view(pixels.shape), semantics


def map_seed(dim: int, config: DualViTConfig) -> SemanticSeed:
    """Return a seed for a map in the midst of a network, with queries drawn as in `DualViT`."""
    seed = SemanticSeed(dim, config.semantic_grid)
    trunc_normal_(seed.queries, std=0.02)
    return seed


register_mixer(
    "dual",
    Mixer(
        DualMixer,
        dual_block,
        lambda in_chans, config: SemanticSeed(config.dims[0], config.semantic_grid),
        map_seed=map_seed,
        downsample=Downsample,
        options=("dual_stages", "semantic_grid", "key_grid"),
    ),
)
