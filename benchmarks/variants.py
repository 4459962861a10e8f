"""Other forms of dualvit_n, each with one thing changed, for comparisons: `imports: [benchmarks.variants]`.

`pyramid_n` is the form with layer norms. `dualvit_n` with `dual_stages: 3` merges both pathways in its last stage.
"""

from timm.models import generate_default_cfgs
from torch import nn

from dualvit.models.contract import entrypoints, pretrained_cfg
from dualvit.models.dual_vit_small import CONFIGS, NormedConvFFN, NormedLinear, SmallDualBlock, SmallDualViT


class ZeroBranches(SmallDualViT):
    """Each branch of the pixels starts at zero: its last norm has scale 0."""

    def _init_module(self, module: nn.Module) -> None:
        super()._init_module(module)
        if isinstance(module, NormedConvFFN):
            nn.init.zeros_(module.fc2.norm.weight)
        elif isinstance(module, SmallDualBlock):
            nn.init.zeros_(module.attention.proj.norm.weight)  # type: ignore[union-attr, arg-type]


class NormedSemantics(SmallDualViT):
    """The semantics have batch norms too, behind each of their Linears."""

    def build_block(self, *args: object) -> nn.Module:
        """Return one block without layer norms."""
        block: SmallDualBlock = super().build_block(*args)  # type: ignore[arg-type, assignment]
        update, dim = block.semantic_update, block.attention.q.in_features
        for name in ("norm1", "norm2", "norm3", "scale1", "scale2", "scale3"):
            setattr(update, name, nn.Identity())
        block.semantic_norm = nn.Identity()  # type: ignore[assignment]
        update.self_attention.qkv, update.cross_attention.q = NormedLinear(dim, 3 * dim), NormedLinear(dim, dim)
        update.ffn.fc1, update.ffn.fc2 = NormedLinear(dim, dim), NormedLinear(dim, dim)
        block.attention.kv = NormedLinear(dim, 2 * dim)
        return block


class Gelu(SmallDualViT):
    """GELU in the place of SiLU, as in the paper's sizes."""

    def build_block(self, *args: object) -> nn.Module:
        """Return one block."""
        block = super().build_block(*args)  # type: ignore[arg-type]
        block.ffn.act = nn.GELU()  # type: ignore[union-attr]
        return block


for kind in (ZeroBranches, NormedSemantics, Gelu):
    name = f"dualvit_n_{kind.__name__.lower()}"
    default_cfgs = generate_default_cfgs({name: pretrained_cfg(first_conv="stem.conv.0")})
    globals()[name] = entrypoints(__name__, kind, {name: CONFIGS["dualvit_n"]})[0]
