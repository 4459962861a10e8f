"""Dual Vision Transformer (Yao et al., TPAMI 2023, arXiv 2207.04976): config table, model, timm entry points.

image --stem--> pixels ------> dual stages ------> merge stages --> class block --> head
                  |             |       ^             |    ^
                  +--seed--> semantics -+--> ... --> semantics
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import calculate_drop_path_rates, trunc_normal_
from timm.models import (
    build_model_with_cfg,
    generate_default_cfgs,
    register_model,
    register_notrace_function,
)
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from dualvit.models.published import adopt_published
from dualvit.nn.blocks import ClassBlock, DualBlock, MergeBlock
from dualvit.nn.layers import Downsample, Stem
from dualvit.nn.semantics import SemanticSeed
from dualvit.nn.stage import Stage

_logger = logging.getLogger(__name__)

STRIDE = 32  # of the last stage; image sides are multiples of it
WINDOWS = 112  # or of this: whole 28x28 semantic windows, and whole pixels down to stride 16
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


@register_notrace_function
def check_image(image: Tensor, stride: int = STRIDE, windows: int = WINDOWS) -> Tensor:
    """Return `image` if it is (B, C, H, W) with sides that the network divides evenly; else raise ValueError.

    These are multiples of 32, the last stage's stride, and of 112, whole semantic windows.
    """
    if image.ndim != 4:
        raise ValueError(f"image batch has {image.ndim} dimensions; give (batch, channels, height, width)")
    for side in image.shape[2:]:
        if side == 0 or (side % stride != 0 and side % windows != 0):
            size = f"{image.shape[2]}x{image.shape[3]}"
            raise ValueError(
                f"image size {size}: sides must be multiples of {stride} (or {windows}); resize or pad them"
            )
    return image


class DualViT(nn.Module):
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

    output_fmt = "NHWC"
    feature_dim = -1

    def __init__(
        self,
        config: DualViTConfig = CONFIGS["dualvit_s"],
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "token",
        token_label: bool = True,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_chans = in_chans
        self.linear_std = config.linear_std
        self.token_label = token_label
        self.num_features = self.head_hidden_size = config.dims[-1]
        self.feature_info = [
            {"num_chs": dim, "reduction": 4 * 2**i, "module": f"stages.{i}"} for i, dim in enumerate(config.dims)
        ]
        self.stem = Stem(in_chans, config.stem_width, config.dims[0], config.stem_kernel, config.stem_depth)
        self.seed = SemanticSeed(config.dims[0], config.semantic_grid)
        self.stages = nn.ModuleList(_build_stages(config))
        self.class_block: nn.Module | None = ClassBlock(
            self.num_features, self.num_features // HEAD_DIM, 2 * self.num_features
        )
        self.norm: nn.Module = nn.LayerNorm(self.num_features, eps=1e-6)
        self.head_drop = nn.Dropout(drop_rate)
        self.reset_classifier(num_classes, global_pool)
        self.init_weights()
        self.register_load_state_dict_pre_hook(adopt_published)

    def forward(self, image: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(image))

    def forward_features(self, image: Tensor) -> Tensor:
        """Run all stages and the class block.

        Shapes: (B, in_chans, H, W) to (B, 1 + ceil(H/32), ceil(W/32), C). Row 0 is the class token, the same
        in each column; the rows after it are the pixel map. One tensor holds all that the heads
        need, in timm's NHWC form.
        """
        pixels, semantics = self.forward_seed(image)
        for stage in self.stages:
            pixels, semantics = stage(pixels, semantics)
        return self._with_class_row(pixels, semantics)

    def forward_seed(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The two values that flow through the stages: pixels (B, H/4, W/4, C), semantics (B, M, C)."""
        pixels = self.stem(check_image(image))
        return pixels, self.seed(pixels)

    def _with_class_row(self, pixels: Tensor, semantics: Tensor) -> Tensor:
        if self.class_block is None:  # pruned to a feature extractor
            return self.norm(pixels)
        token = self.class_block(pixels, semantics)
        row = token.unsqueeze(1).expand(-1, -1, pixels.shape[2], -1)
        return self.norm(torch.cat([row, pixels], dim=1))

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool what `forward_features` returns and classify it; `pre_logits` stops before the heads."""
        if self.global_pool == "":
            pooled = features
        elif self.global_pool == "avg":
            pooled = features[:, 1:].mean((1, 2))
        else:
            pooled = features[:, 0, 0]
        if pre_logits:
            return pooled
        logits = self.head(self.head_drop(pooled))
        if self.aux_head is not None and self.global_pool != "":
            logits = logits + 0.5 * self.aux_head(features[:, 1:].flatten(1, 2)).amax(1)
        return logits

    @torch.jit.ignore
    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """The pixel map after each stage, normalised, at strides 4, 8, 16, 32.

        Args:
            x: Images, (B, in_chans, H, W).
            indices: Stages to return; an int for that many of the last ones, None for all.
            norm: Accepted for timm; the maps are always normalised.
            stop_early: Run no stage beyond the last one asked for.
            output_fmt: "NCHW" (a channels-last view) or "NHWC".
            intermediates_only: Return the list of maps alone, without `forward_features`' output.
        """
        if output_fmt not in ("NCHW", "NHWC"):
            raise ValueError(f"output_fmt {output_fmt!r} is unknown; use 'NCHW' or 'NHWC'")
        take, last = feature_take_indices(len(self.stages), indices)
        maps: list[Tensor] = []
        pixels, semantics = self.forward_seed(x)
        for index, stage in enumerate(self.stages):
            if stop_early and index > last:
                break
            pixels, semantics = stage(pixels, semantics)
            if index in take:
                out = self.norm(pixels) if index == len(self.feature_info) - 1 else pixels
                maps.append(out.permute(0, 3, 1, 2) if output_fmt == "NCHW" else out)
        if intermediates_only:
            return maps
        return self._with_class_row(pixels, semantics), maps

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what the pixel maps of `indices` do not need, and return the indices that are left.

        The norms of returned maps stay (`prune_norm` is accepted for timm and has no effect).
        """
        take, last = feature_take_indices(len(self.stages), indices)
        self.stages = self.stages[: last + 1]
        final: Any = self.stages[-1]
        if last < len(self.feature_info) - 1:
            self.norm = nn.Identity()
        if prune_head:
            # Nothing reads the semantics after the last map.
            final.semantic_norm = nn.Identity()
            if isinstance(final.blocks[-1], MergeBlock):
                final.blocks[-1].semantic_ffn = None
            self.class_block = None
            self.reset_classifier(0, "")
        return list(take)

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module | tuple[nn.Module, ...]:
        """The classifier: `head`, or `(head, aux_head)` with the token-labelling head."""
        return self.head if self.aux_head is None else (self.head, self.aux_head)

    @torch.jit.ignore
    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the heads by new ones for `num_classes`, 0 for none; optionally change the pooling."""
        if global_pool is not None:
            if global_pool not in ("token", "avg", ""):
                raise ValueError(f"global_pool {global_pool!r} is unknown; use 'token', 'avg' or ''")
            self.global_pool = global_pool
        reference = self.norm.weight if isinstance(self.norm, nn.LayerNorm) else next(self.parameters())
        self.num_classes = num_classes

        def new_head() -> nn.Module:
            head = nn.Linear(self.num_features, num_classes, device=reference.device, dtype=reference.dtype)
            self._init_module(head)
            return head.train(self.training)

        self.head = new_head() if num_classes > 0 else nn.Identity().train(self.training)
        self.aux_head: nn.Module | None = new_head() if num_classes > 0 and self.token_label else None

    @torch.jit.ignore
    def init_weights(self) -> None:
        """Initialise Linears by a truncated normal, convolutions by fan-out, norms to 1 and 0."""
        self.apply(self._init_module)

    @torch.jit.ignore
    def _init_module(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            trunc_normal_(module.weight, std=self.linear_std or module.in_features**-0.5)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, SemanticSeed):
            trunc_normal_(module.queries, std=0.02)

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """Names that weight decay must not shrink: the queries and every layer scale."""
        return {name for name, _ in self.named_parameters() if name.endswith((".queries", ".gamma"))}

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's layer groups, by stage (`coarse`) or by block, for layer-wise lr decay."""
        by_block = [
            (r"^stages\.(\d+)\.downsample", (0,)),
            (r"^stages\.(\d+)\.blocks\.(\d+)", None),
            (r"^stages\.(\d+)\.(?:semantic_)?norm", (99998,)),
            (r"^(?:class_block|norm)", (99999,)),
        ]
        return {"stem": r"^(?:stem|seed)", "blocks": r"^stages\.(\d+)" if coarse else by_block}

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        for stage in self.stages.children():
            stage.grad_checkpointing = enable  # type: ignore[assignment]


def _build_stages(config: DualViTConfig) -> list[Stage]:
    rates = calculate_drop_path_rates(config.drop_path_rate, list(config.depths), stagewise=True)
    stages = []
    for index, dim in enumerate(config.dims):
        if dim % HEAD_DIM:
            raise ValueError(f"stage {index + 1} has {dim} channels; give a multiple of {HEAD_DIM}")
        block_class = DualBlock if index < config.dual_stages else MergeBlock
        ratios = config.ffn_ratios[index]
        blocks: list[nn.Module] = [
            block_class(dim, dim // HEAD_DIM, dim * ratios[i % len(ratios)], rate, config.layer_scale)
            for i, rate in enumerate(rates[index])
        ]
        last = index == len(config.dims) - 1
        downsample = Downsample(config.dims[index - 1], dim) if index else None
        stages.append(Stage(downsample, blocks, None if last else dim))
    return stages


def _pretrained_cfg(**kwargs: Any) -> dict[str, Any]:
    return {
        "url": "",
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": (8, 7),  # the class row and the 7x7 map, as forward_features returns them
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": "stem.conv.0",
        "classifier": ("head", "aux_head"),
        "license": "apache-2.0",
        **kwargs,
    }


default_cfgs = generate_default_cfgs({name: _pretrained_cfg() for name in CONFIGS})


def _create(variant: str, pretrained: bool, **kwargs: Any) -> nn.Module:
    """Build a named model; keywords that name a field of `DualViTConfig` change the config."""
    shape = {
        field.name: kwargs.pop(field.name) for field in fields(DualViTConfig) if kwargs.get(field.name) is not None
    }
    config = replace(CONFIGS[variant], **shape)
    device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)

    def build(**model_args: Any) -> DualViT:
        return DualViT(config, **model_args).to(device=device, dtype=dtype)

    out_indices = kwargs.pop("out_indices", (0, 1, 2, 3))
    if isinstance(out_indices, list | tuple) and max(out_indices) == len(config.dims) and min(out_indices) > 0:
        # Transformers' detectors ask for maps 1 to 4 of five, strides 2 to 32, as timm's ResNets have them.
        shifted = [index - 1 for index in out_indices]
        _logger.info("out_indices %s count from stride 2; %s has strides 4 to 32: %s", out_indices, variant, shifted)
        out_indices = shifted
    model: nn.Module = build_model_with_cfg(
        build,
        variant,
        pretrained,
        feature_cfg={"out_indices": out_indices, "feature_cls": "getter"},
        **kwargs,
    )
    return model


def _entrypoint(variant: str, doc: str) -> Callable[..., nn.Module]:
    def entrypoint(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return _create(variant, pretrained, **kwargs)

    entrypoint.__name__ = variant
    entrypoint.__module__ = __name__
    entrypoint.__doc__ = doc
    return register_model(entrypoint)


__all__ = ["CONFIGS", "DualViT", "DualViTConfig"]

dualvit_n = _entrypoint("dualvit_n", "Dual-ViT nano, for real-time detectors (ours).")
dualvit_t = _entrypoint("dualvit_t", "Dual-ViT tiny, for real-time detectors (ours).")
dualvit_s = _entrypoint("dualvit_s", "Dual-ViT small, 25.1 M parameters (the paper's).")
dualvit_b = _entrypoint("dualvit_b", "Dual-ViT base, 42.6 M parameters (the paper's).")
dualvit_l = _entrypoint("dualvit_l", "Dual-ViT large, 73.0 M parameters (the paper's).")
