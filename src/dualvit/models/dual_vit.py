"""Dual Vision Transformer (Yao et al., TPAMI 2023, arXiv 2207.04976): config table, model, timm entry points.

image --stem--> pixels ------> dual stages ------> merge stages --> class block --> head
                  |             |       ^             |    ^
                  +--seed--> semantics -+--> ... --> semantics
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from timm.layers import trunc_normal_
from timm.models import generate_default_cfgs
from torch import Tensor, nn

from dualvit.models.contract import Backbone, entrypoint, pretrained_cfg, stage_plans
from dualvit.models.published import DUAL_VIT
from dualvit.nn.blocks import ClassBlock, DualBlock, MergeBlock
from dualvit.nn.layers import Downsample, Stem
from dualvit.nn.semantics import SemanticSeed
from dualvit.nn.stage import Stage

HEAD_DIM = 32  # channels of an attention head


@dataclass(frozen=True)
class DualViTConfig:
    """The shape of a Dual-ViT; the defaults are those all published sizes share.

    Attributes:
        stem_width: Channels inside the stem.
        dims: Channels of the four stages, each a multiple of 32.
        depths: Blocks of the four stages.
        ffn_ratios: Hidden width over C of the pixels' feed-forward network; a stage's blocks
            take its values in turn.
        dual_stages: How many stages, from the first, have dual blocks; the rest have merge blocks.
        semantic_grid: None for one semantic token per 28x28 image pixels, or (rows, columns).
        key_grid: None for the paper's merge blocks, whose cost grows with the square of the pixels; or
            (rows, columns) of the means that stand for the pixels as keys in the first merge stage, half as many
            in the next. With (14, 14) and semantic_grid=(8, 8) the cost is linear at any size, and at 224x224
            the output is the paper's.
        drop_path_rate: Drop path of the last block; it rises linearly from 0.
        layer_scale: Initial value of every layer scale.
        linear_std: Standard deviation of a new Linear's weights; None for 1 / sqrt(inputs), with
            which every branch is at work from the first step: for runs too short to wake branches
            that start near zero.
        stem_kernel, stem_depth: Kernel of the first convolution, and further convolutions after it.
    """

    stem_width: int
    dims: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    ffn_ratios: tuple[tuple[int, ...], ...] = ((8,), (8,), (4, 3), (3,))
    dual_stages: int = 2
    semantic_grid: tuple[int, int] | None = None
    key_grid: tuple[int, int] | None = None
    drop_path_rate: float = 0.15
    layer_scale: float = 1e-6
    linear_std: float | None = 0.02
    stem_kernel: int = 7
    stem_depth: int = 2


CONFIGS = {
    "dualvit_n": DualViTConfig(
        stem_width=16,
        dims=(32, 64, 96, 160),
        depths=(1, 1, 3, 1),
        ffn_ratios=((2,), (3,), (3, 2), (3,)),
        dual_stages=3,
        semantic_grid=(4, 4),
        drop_path_rate=0.0,
        layer_scale=1.0,
        linear_std=None,
        stem_kernel=3,
        stem_depth=0,
    ),
    "dualvit_t": DualViTConfig(
        stem_width=32,
        dims=(64, 128, 192, 320),
        depths=(1, 1, 3, 1),
        ffn_ratios=((2,), (3,), (3, 2), (3,)),
        dual_stages=3,
        semantic_grid=(4, 4),
        drop_path_rate=0.0,
        layer_scale=1.0,
        linear_std=None,
        stem_kernel=3,
        stem_depth=0,
    ),
    "dualvit_s": DualViTConfig(32, (64, 128, 320, 448), (3, 4, 6, 3)),
    "dualvit_b": DualViTConfig(64, (64, 128, 320, 512), (3, 4, 15, 3)),
    "dualvit_l": DualViTConfig(64, (96, 192, 384, 512), (3, 6, 21, 3), drop_path_rate=0.3),
}


class DualViT(Backbone):
    """Dual Vision Transformer with timm's model interface.

    Args:
        config: Shape of the network; see `CONFIGS` for the five named ones.
        num_classes: Classes; 0 leaves the heads out.
        in_chans: Channels of the image.
        global_pool: "token" for the class token, "avg" for the mean of the pixels, "" for none.
        token_label: Keep the token-labelling head: half of its largest logit over all pixels is
            added to the class logits, as with the published weights.
        drop_rate: Dropout before the heads.

    Shapes: images (B, in_chans, H, W), normalised, H and W multiples of 32 or 112, to logits
    (B, num_classes).

    Raises:
        ValueError: a size that is no multiple of 32 or 112, or a bad option.

    Example:
        >>> import torch, dualvit
        >>> model = dualvit.create_model("dualvit_n", num_classes=10)
        >>> model(torch.randn(1, 3, 96, 128)).shape
        torch.Size([1, 10])
    """

    def __init__(
        self,
        config: DualViTConfig = CONFIGS["dualvit_s"],
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "token",
        token_label: bool = True,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__(config.dims, in_chans, config.linear_std, drop_rate)
        self.token_label = token_label
        self.stem = Stem(in_chans, config.stem_width, config.dims[0], config.stem_kernel, config.stem_depth)
        self.seed = self.build_seed(config)
        self.stages = nn.ModuleList(self.build_stages(config))
        self.class_block: nn.Module | None = ClassBlock(
            self.num_features, self.num_features // HEAD_DIM, 2 * self.num_features
        )
        self.norm: nn.Module = nn.LayerNorm(self.num_features, eps=1e-6)
        self.reset_classifier(num_classes, global_pool)
        self.init_weights()
        self.register_load_state_dict_pre_hook(DUAL_VIT.adopt)

    @torch.jit.ignore
    def build_seed(self, config: DualViTConfig) -> nn.Module | None:
        """What reads the first semantics off the stem's map."""
        return SemanticSeed(config.dims[0], config.semantic_grid)

    @torch.jit.ignore
    def build_stages(self, config: DualViTConfig) -> list[Stage]:
        """The four stages, dual blocks first and merge blocks then."""
        stages = []
        semantics = None if config.semantic_grid is None else math.prod(config.semantic_grid)
        for index, (dim, plans) in enumerate(block_plans(config)):
            block_class: Callable[..., nn.Module] = partial(DualBlock, num_semantics=semantics)
            if index >= config.dual_stages:
                block_class = partial(MergeBlock, key_grid=halved(config.key_grid, index - config.dual_stages))
            blocks = [block_class(dim, dim // HEAD_DIM, hidden, rate, config.layer_scale) for hidden, rate in plans]
            last = index == len(config.dims) - 1
            downsample = Downsample(config.dims[index - 1], dim) if index else None
            stages.append(Stage(downsample, blocks, None if last else dim))
        return stages

    def forward_seed(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """The two values that flow through the stages: pixels (B, H/4, W/4, C), semantics (B, M, C)."""
        pixels = self.stem(image)
        return pixels, self.seed(pixels)

    def collect(self, pixels: Tensor, context: Tensor | None) -> Tensor:
        """Run the class block: (B, 1 + ceil(H/32), ceil(W/32), C), the class token in row 0, all normalised."""
        if self.class_block is None:  # pruned to a feature extractor
            return self.norm(pixels)
        token = self.class_block(pixels, context)
        row = token.unsqueeze(1).expand(-1, -1, pixels.shape[2], -1)
        return self.norm(torch.cat([row, pixels], dim=1))

    def feature_map(self, index: int, before: Tensor, after: Tensor) -> Tensor:
        """The pixel map after a stage; the last one by the model's own norm, an Identity once that stage is pruned."""
        return self.norm(after) if index == len(self.stages) - 1 else after

    @torch.jit.ignore
    def prune_context(self) -> None:
        """Drop the class block, and what updates the semantics after their last reader."""
        final = self.stages[-1]
        final.semantic_norm = nn.Identity()
        last_block = final.blocks[-1]  # type: ignore[index]
        if isinstance(last_block, MergeBlock):
            last_block.semantic_ffn = None
        self.class_block = None

    @torch.jit.ignore
    def _init_module(self, module: nn.Module) -> None:
        """Initialise Linears by a truncated normal, convolutions by fan-out, norms to 1 and 0."""
        super()._init_module(module)
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, SemanticSeed):
            trunc_normal_(module.queries, std=0.02)


def halved(grid: tuple[int, int] | None, times: int) -> tuple[int, int] | None:
    """A grid of cells after so many downsamplings of the map.

    Example:
        >>> halved((14, 14), 1)
        (7, 7)
    """
    return None if grid is None else (max(grid[0] >> times, 1), max(grid[1] >> times, 1))


def block_plans(config: DualViTConfig) -> list[tuple[int, list[tuple[int, float]]]]:
    """For each stage its channels, and for each of its blocks the feed-forward width and the drop path.

    Raises:
        ValueError: channels that heads of 32 do not divide.
    """
    plans = []
    for index, (dim, rates) in enumerate(stage_plans(config, HEAD_DIM)):
        ratios = config.ffn_ratios[index]
        plans.append((dim, [(dim * ratios[i % len(ratios)], rate) for i, rate in enumerate(rates)]))
    return plans


default_cfgs = generate_default_cfgs(
    {name: pretrained_cfg(first_conv="stem.conv.0", classifier=("head", "aux_head")) for name in CONFIGS}
)


def _entrypoint(variant: str, doc: str) -> Callable[..., nn.Module]:
    return entrypoint(__name__, DualViT, variant, CONFIGS[variant], doc)


__all__ = ["CONFIGS", "DualViT", "DualViTConfig"]

dualvit_n = _entrypoint("dualvit_n", "Dual-ViT nano, for real-time detectors (ours).")
dualvit_t = _entrypoint("dualvit_t", "Dual-ViT tiny, for real-time detectors (ours).")
dualvit_s = _entrypoint("dualvit_s", "Dual-ViT small, 25.1 M parameters (the paper's).")
dualvit_b = _entrypoint("dualvit_b", "Dual-ViT base, 42.6 M parameters (the paper's).")
dualvit_l = _entrypoint("dualvit_l", "Dual-ViT large, 73.0 M parameters (the paper's).")
