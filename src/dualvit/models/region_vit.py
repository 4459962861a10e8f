"""RegionViT (Chen, Panda, Fan, ICLR 2022, arXiv 2106.02689): config table, model, timm entry points.

image --stem--> pixels -----> windows of 7x7, each with its own regional token --halved--> ... x 4
   |                            |   ^
   +----seed--> regional tokens +---+-------------------------------------------halved--> ... mean --> head
"""

from collections.abc import Iterator
from dataclasses import dataclass

from timm.layers import LayerNorm2d
from timm.models import generate_default_cfgs
from torch import Tensor, nn

from dualvit.models.contract import Backbone, block_shapes, entrypoints, pretrained_cfg
from dualvit.models.dual_vit import Stage, TokenFFN
from dualvit.models.mixers.regional import RegionalBlock, RegionalSeed
from dualvit.models.published import Layout

HEAD_DIM = 32  # channels of an attention head

LAYOUT = Layout(
    mark="layers.0.block.1.norm0.weight",
    renames=(
        (r"^patch_embed\.", "stem."),
        (r"^cls_token\.", "seed."),
        (r"^layers\.(\d)\.", r"stages.\1."),
        (r"\.block\.0\.proj_cls\.0\.", ".downsample.norm."),
        (r"\.block\.0\.proj_cls\.2\.", ".downsample.conv."),
        (r"\.block\.(\d+)\.", ".blocks.{}."),
        (r"\.(norm[01]|attn\.proj|attn\.rel_pos)(\.|$)", r".mixer.\1\2"),
        (r"\.attn\.qkv\.", ".mixer.attention.qkv."),
        (r"\.mixer\.attn\.", ".mixer."),
        (r"\.mlp\.", ".ffn."),
    ),
    twins=r"\.block\.0\.proj\.",  # the same tensors as proj_cls
)


@dataclass(frozen=True)
class RegionViTConfig:
    """The shape of a RegionViT.

    Attributes:
        dims: Channels of the four stages, each a multiple of 32.
        depths: Blocks of the four stages.
        stem_convs: 3 for three convolutions of 3x3, 1 for one of 8x8.
        ffn_ratio: Hidden width over C of the feed-forward networks.
        drop_path_rate: Drop path of the last block; it rises linearly from 0.
    """

    dims: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    stem_convs: int
    ffn_ratio: int = 4
    drop_path_rate: float = 0.1


CONFIGS = {
    "regionvit_tiny": RegionViTConfig((64, 128, 256, 512), (2, 2, 8, 2), 3),
    "regionvit_small": RegionViTConfig((96, 192, 384, 768), (2, 2, 8, 2), 3),
    "regionvit_medium": RegionViTConfig((96, 192, 384, 768), (2, 2, 14, 2), 1),
    "regionvit_base": RegionViTConfig((128, 256, 512, 1024), (2, 2, 14, 2), 1),
}


class RegionStem(nn.Module):
    """Image to the first pixel map: one overlapping 8x8 convolution, or three of 3x3 with LayerNorm and GELU.

    Shapes: (B, in_chans, H, W) to (B, H/4, W/4, dim). Source: RegionViT, table 1.
    """

    def __init__(self, in_chans: int, dim: int, convs: int) -> None:
        super().__init__()
        self.proj: nn.Module
        if convs == 1:
            self.proj = nn.Conv2d(in_chans, dim, 8, stride=4, padding=3)
            return
        self.proj = nn.Sequential(
            nn.Conv2d(in_chans, dim // 4, 3, stride=2, padding=1),
            LayerNorm2d(dim // 4, eps=1e-5),
            nn.GELU(),
            nn.Conv2d(dim // 4, dim // 2, 3, stride=2, padding=1),
            LayerNorm2d(dim // 2, eps=1e-5),
            nn.GELU(),
            nn.Conv2d(dim // 2, dim, 3, padding=1),
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image).permute(0, 2, 3, 1)


class RegionDownsample(nn.Module):
    """Halve both maps by the same LayerNorm, GELU and grouped 3x3 convolution, which doubles the channels.

    Shapes: pixels (B, H, W, C) to (B, H/2, W/2, 2C), regional tokens likewise. Source: RegionViT, section 3.1.
    """

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.act = nn.GELU()
        self.conv = nn.Conv2d(dim, out_dim, 3, stride=2, padding=1, groups=dim)

    def halve(self, pixels: Tensor) -> Tensor:
        """One map, (B, H, W, C) to (B, H/2, W/2, 2C)."""
        return self.conv(self.act(self.norm(pixels)).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def forward(self, pixels: Tensor, semantics: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        if semantics is not None:
            semantics = self.halve(semantics)
        return self.halve(pixels), semantics


class RegionViT(Backbone):
    """RegionViT with timm's model interface.

    Windows that do not fit are padded below and to the right, with the regional tokens' image patches,
    and masked. (The published code pads these patches on all sides, so that they no longer lie over
    their windows, and lets the last window see its padding.)

    Args:
        config: Shape of the network; see `CONFIGS` for the four published ones.
        num_classes: Classes; 0 leaves the head out.
        in_chans: Channels of the image.
        global_pool: "avg" for the mean of the regional tokens, "" for none.
        drop_rate: Dropout before the head.

    Shapes: images (B, in_chans, H, W), normalised, H and W from 32 on, to logits (B, num_classes);
    `forward_features` gives the regional tokens, (B, h, w, C). Sides that are no multiples of 32 or
    112 are padded, see `pad_image`.

    Raises:
        ValueError: a side below 32, or a bad option.

    Example:
        >>> import torch, dualvit
        >>> model = dualvit.create_model("regionvit_tiny", num_classes=10)
        >>> model(torch.randn(1, 3, 96, 128)).shape
        torch.Size([1, 10])
    """

    pools = ("avg", "")

    def __init__(
        self,
        config: RegionViTConfig = CONFIGS["regionvit_tiny"],
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__(config.dims, in_chans, linear_std=0.02, drop_rate=drop_rate)
        self.maps_only = False
        self.stem = RegionStem(in_chans, config.dims[0], config.stem_convs)
        self.seed = RegionalSeed(in_chans, config.dims[0])
        self.stages = nn.ModuleList(_stages(config))
        self.norm = nn.LayerNorm(self.num_features, eps=1e-6)
        self.reset_classifier(num_classes, global_pool)
        self.init_weights()
        self.register_load_state_dict_pre_hook(LAYOUT.adopt)

    def begin(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """The two values that flow through the stages: pixels (B, H/4, W/4, C), regional tokens (B, h, w, C)."""
        return self.stem(image), self.seed(image)

    def finish(self, pixels: Tensor, semantics: Tensor | None) -> Tensor:
        """The regional tokens, normalised; of a model pruned to a feature extractor, the pixels."""
        return pixels if self.maps_only or semantics is None else self.norm(semantics)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Average the regional tokens and classify; `pre_logits` stops before the head."""
        pooled = features if self.global_pool == "" else features.mean((1, 2))
        return pooled if pre_logits else self.head(self.head_drop(pooled))

    def prune_semantics(self) -> None:
        """Drop the norm, which regional tokens alone pass."""
        self.maps_only = True
        self.norm = nn.Identity()


def _stages(config: RegionViTConfig) -> Iterator[Stage]:
    for shapes in block_shapes(config, HEAD_DIM, [(config.ffn_ratio,)] * len(config.dims)):
        stage, dim = shapes[0].stage, shapes[0].dim
        blocks: list[nn.Module] = [RegionalBlock(shape, TokenFFN(dim, shape.hidden)) for shape in shapes]
        yield Stage(RegionDownsample(config.dims[stage - 1], dim) if stage else None, blocks, None)


default_cfgs = generate_default_cfgs(
    {
        name: pretrained_cfg(
            first_conv=("stem.proj" if config.stem_convs == 1 else "stem.proj.0", "seed.proj"), pool_size=(1, 1)
        )
        for name, config in CONFIGS.items()
    }
)
regionvit_tiny, regionvit_small, regionvit_medium, regionvit_base = entrypoints(__name__, RegionViT, CONFIGS)
