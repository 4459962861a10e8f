"""PVT v1 (Wang et al., ICCV 2021, arXiv 2102.12122): config table, model, timm entry points.

image --patches, positions--> pixels --> reduction blocks --> ... x 4, the class token joins in stage 4 --> head
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.fx
import torch.nn.functional as F
from timm.layers import trunc_normal_
from timm.models import generate_default_cfgs, register_notrace_function
from torch import Tensor, nn

from dualvit.models.contract import STRIDE, Backbone, block_shapes, entrypoints, pretrained_cfg
from dualvit.models.dual_vit import Stage, TokenFFN
from dualvit.models.mixers.block import MixerBlock
from dualvit.models.mixers.reduction import RATIOS, ReductionMixer
from dualvit.models.published import Layout

HEAD_DIM = 64  # channels of an attention head
TRAINED = 224  # image size of the position embeddings

LAYOUT = Layout(
    mark="pos_embed1",
    renames=(
        (r"^pos_embed1$", "stem.pos_embed"),
        (r"^pos_embed(\d)$", "stages.{}.downsample.pos_embed"),
        (r"^patch_embed1\.", "stem."),
        (r"^patch_embed(\d)\.", "stages.{}.downsample."),
        (r"^block4\.(\d+)\.", r"block4.\1.block."),
        (r"^block(\d)\.", "stages.{}.blocks."),
        (r"\.attn\.sr\.", ".mixer.reduce."),
        (r"\.attn\.norm\.", ".mixer.norm."),
        (r"\.attn\.", ".mixer.attention."),
        (r"\.mlp\.", ".ffn."),
    ),
)


@dataclass(frozen=True)
class PVTConfig:
    """The shape of a PVT; the defaults are those all published sizes share.

    Attributes:
        depths: Blocks of the four stages.
        dims: Channels of the four stages, each a multiple of 64.
        ffn_ratios: Hidden width over C of the feed-forward networks, by stage.
        drop_path_rate: Drop path of the last block; it rises linearly from 0.
    """

    depths: tuple[int, int, int, int]
    dims: tuple[int, int, int, int] = (64, 128, 320, 512)
    ffn_ratios: tuple[int, int, int, int] = (8, 8, 4, 4)
    drop_path_rate: float = 0.1


CONFIGS = {
    "pvt_tiny": PVTConfig((2, 2, 2, 2)),
    "pvt_small": PVTConfig((3, 4, 6, 3)),
    "pvt_medium": PVTConfig((3, 4, 18, 3)),
    "pvt_large": PVTConfig((3, 8, 27, 3), drop_path_rate=0.3),
}


@torch.fx.wrap
@register_notrace_function
def resample_positions(positions: Tensor, grid: int, like: Tensor) -> Tensor:
    """Position embeddings (1, grid * grid, C), bilinearly resampled to the map (B, H, W, C) `like`."""
    square = positions.view(1, grid, grid, -1).permute(0, 3, 1, 2)
    size = [like.shape[1], like.shape[2]]
    # To its own size the resampling reproduces its input, so no branch on the shape is needed.
    return F.interpolate(square, size=size, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)


class PatchEmbed(nn.Module):
    """Cut the map into patches, project, normalise, and add position embeddings.

    A semantics is a class token on its way to the last stage, whose embedding has a position for it.

    Shapes: pixels (B, H, W, C) to (B, H/patch, W/patch, dim). Source: PVT, section 3.2.

    Args:
        in_dim, dim: Channels before and after.
        patch: Side of a patch.
        grid: Rows and columns of the position embeddings.
        class_position: Whether the first position is the class token's.
    """

    def __init__(self, in_dim: int, dim: int, patch: int, grid: int, class_position: bool = False) -> None:
        super().__init__()
        self.grid = grid
        self.first = int(class_position)  # position of the first pixel
        self.proj = nn.Conv2d(in_dim, dim, patch, stride=patch)
        self.norm = nn.LayerNorm(dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, self.first + grid * grid, dim))
        trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, pixels: Tensor, semantics: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        pixels = self.norm(self.proj(pixels.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        pixels = pixels + resample_positions(self.pos_embed[:, self.first :], self.grid, pixels)
        if semantics is not None and self.first > 0:
            semantics = semantics + self.pos_embed[:, :1]
        return pixels, semantics


class ClassTokenBlock(nn.Module):
    """A block of the last stage, which nothing there makes spatial: the class token is one more pixel.

    Shapes: pixels (B, H, W, C) and the class token (B, 1, C) or None, both unchanged.
    """

    def __init__(self, block: MixerBlock) -> None:
        super().__init__()
        self.block = block

    def forward(self, pixels: Tensor, semantics: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        tokens = pixels.flatten(1, 2)
        if semantics is not None:
            tokens = torch.cat([semantics, tokens], dim=1)
        tokens = self.block(tokens.unsqueeze(1), None)[0].squeeze(1)  # a map of one row
        if semantics is not None:
            semantics, tokens = tokens[:, :1], tokens[:, 1:]
        return tokens.reshape(pixels.shape), semantics


class PVT(Backbone):
    """Pyramid Vision Transformer with timm's model interface.

    Maps for detectors come without the class token, as in the published detection code.

    Args:
        config: Shape of the network; see `CONFIGS` for the four published ones.
        num_classes: Classes; 0 leaves the head out.
        in_chans: Channels of the image.
        global_pool: "token" for the class token, "avg" for the mean of the pixels, "" for none.
        drop_rate: Dropout before the head.

    Shapes: images (B, in_chans, H, W), normalised, H and W from 32 on, to logits (B, num_classes). Sides
    that are no multiples of 32 are padded, see `pad_image`.

    Raises:
        ValueError: a side below 32, or a bad option.

    Example:
        >>> import torch, dualvit
        >>> model = dualvit.create_model("pvt_tiny", num_classes=10)
        >>> model(torch.randn(1, 3, 96, 128)).shape
        torch.Size([1, 10])
    """

    def __init__(
        self,
        config: PVTConfig = CONFIGS["pvt_tiny"],
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "token",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__(config.dims, in_chans, linear_std=0.02, drop_rate=drop_rate)
        self.multiples = (STRIDE,)
        self.stem = PatchEmbed(in_chans, config.dims[0], 4, TRAINED // 4)
        self.cls_token: nn.Parameter | None = nn.Parameter(torch.zeros(1, 1, self.num_features))
        trunc_normal_(self.cls_token, std=0.02)
        self.stages = nn.ModuleList(_stages(config))
        self.norm = nn.LayerNorm(self.num_features, eps=1e-6)
        self.reset_classifier(num_classes, global_pool)
        self.init_weights()
        self.register_load_state_dict_pre_hook(LAYOUT.adopt)

    def begin(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pixels (B, H/4, W/4, C), and the class token (B, 1, C4), which waits for the last stage."""
        pixels = self.stem(image.permute(0, 2, 3, 1))[0]
        if self.cls_token is None:
            return pixels, None
        return pixels, self.cls_token.expand(image.shape[0], -1, -1)

    def finish(self, pixels: Tensor, semantics: Tensor | None) -> Tensor:
        """(B, 1 + H/32, W/32, C), the class token in row 0, all normalised."""
        if semantics is not None:
            row = semantics.unsqueeze(1).expand(-1, -1, pixels.shape[2], -1)
            pixels = torch.cat([row, pixels], dim=1)
        return self.norm(pixels)

    def feature_map(self, index: int, before: Tensor, after: Tensor) -> Tensor:
        """The pixel map after a stage; the last stage runs again where the class token was in it."""
        if index < len(self.stages) - 1 or self.cls_token is None:
            return after
        pixels: Tensor = self.stages[-1](before, None)[0]
        return pixels

    def prune_semantics(self) -> None:
        """Drop the class token and the norm, which maps do without."""
        self.cls_token = None
        self.norm = nn.Identity()


def _stages(config: PVTConfig) -> Iterator[Stage]:
    for shapes in block_shapes(config, HEAD_DIM, [(ratio,) for ratio in config.ffn_ratios]):
        stage, dim = shapes[0].stage, shapes[0].dim
        last = stage == len(config.dims) - 1
        blocks: list[nn.Module] = []
        for shape in shapes:
            mixer = ReductionMixer(dim, shape.num_heads, RATIOS[stage])
            block = MixerBlock(shape, mixer, TokenFFN(dim, shape.hidden))
            blocks.append(ClassTokenBlock(block) if last else block)
        grid = TRAINED // (4 * 2**stage)
        downsample = PatchEmbed(config.dims[stage - 1], dim, 2, grid, class_position=last) if stage else None
        yield Stage(downsample, blocks, None)


default_cfgs = generate_default_cfgs({name: pretrained_cfg(first_conv="stem.proj") for name in CONFIGS})
pvt_tiny, pvt_small, pvt_medium, pvt_large = entrypoints(__name__, PVT, CONFIGS)
