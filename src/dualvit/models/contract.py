"""What every network here is to timm: features, heads, intermediates, layer groups, entry points.

A family fills in the parts: `forward_seed` (image to pixels and what travels beside them), `stages`,
and `collect` (the last stage's output to what the head reads).
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import calculate_drop_path_rates, trunc_normal_
from timm.models import build_model_with_cfg, register_model, register_notrace_function
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from dualvit.nn.fuse import fuse

_logger = logging.getLogger(__name__)

STRIDE = 32  # of the last stage; image sides are multiples of it
WINDOWS = 112  # or of this: whole 28x28 windows, and whole pixels down to stride 16


@register_notrace_function
def check_image(image: Tensor, stride: int = STRIDE, windows: int = WINDOWS) -> Tensor:
    """Return `image` if it is (B, C, H, W) with sides that the network divides evenly; else raise ValueError.

    These are multiples of 32, the last stage's stride, and of 112, whole 28x28 windows.
    """
    if image.ndim != 4:
        raise ValueError(f"image batch has {image.ndim} dimensions; give (batch, channels, height, width)")
    for side in image.shape[2:]:
        if side == 0 or (side % stride != 0 and side % windows != 0):
            size = f"{image.shape[2]}x{image.shape[3]}"
            either = f" (or {windows})" if windows != stride else ""
            raise ValueError(f"image size {size}: sides must be multiples of {stride}{either}; resize or pad them")
    return image


class Backbone(nn.Module):
    """A pyramid of stages with timm's model interface.

    `forward_features` returns one NHWC tensor that holds all that the head needs. Where the family
    has a class token, row 0 is that token, the same in each column, and the rows after it are the
    pixel map.

    Args:
        dims: Channels of the stages, at strides 4, 8, 16, 32.
        in_chans: Channels of the image.
        linear_std: Standard deviation of a new Linear's weights; None for 1 / sqrt(inputs).
        drop_rate: Dropout before the heads.
    """

    output_fmt = "NHWC"
    feature_dim = -1
    pools: tuple[str, ...] = ("token", "avg", "")

    if TYPE_CHECKING:  # TorchScript cannot read these
        stages: nn.ModuleList
        norm: nn.Module

    def __init__(self, dims: tuple[int, ...], in_chans: int, linear_std: float | None, drop_rate: float) -> None:
        super().__init__()
        self.in_chans = in_chans
        self.linear_std = linear_std
        self.windows = WINDOWS
        self.token_label = False
        self.num_features = self.head_hidden_size = dims[-1]
        self.feature_info = [
            {"num_chs": dim, "reduction": 4 * 2**i, "module": f"stages.{i}"} for i, dim in enumerate(dims)
        ]
        self.head_drop = nn.Dropout(drop_rate)

    def forward(self, image: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(image))

    def forward_features(self, image: Tensor) -> Tensor:
        """Run all stages, and gather what the heads need in one (B, rows, columns, C) tensor."""
        pixels, context = self.forward_seed(check_image(image, windows=self.windows))
        for stage in self.stages:
            pixels, context = stage(pixels, context)
        return self.collect(pixels, context)

    def forward_seed(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """The two values that flow through the stages: pixels (B, H/4, W/4, C), and what is beside them."""
        raise NotImplementedError

    def collect(self, pixels: Tensor, context: Tensor | None) -> Tensor:
        """What the heads read, of the last stage's output."""
        raise NotImplementedError

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

    def feature_map(self, index: int, before: Tensor, after: Tensor) -> Tensor:
        """The pixel map to hand out for a stage, of the pixels before and after it."""
        return after

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The pixel map after each stage, at strides 4, 8, 16, 32.

        Args:
            x: Images, (B, in_chans, H, W).
            indices: Stages to return; an int for that many of the last ones, None for all.
            norm: Accepted for timm; the maps are those that the family hands to detectors.
            stop_early: Run no stage beyond the last one asked for.
            output_fmt: "NCHW" (a channels-last view) or "NHWC".
            intermediates_only: Return the list of maps alone, without `forward_features`' output.
        """
        if output_fmt not in ["NCHW", "NHWC"]:  # a list, and no !r, nor a break below, for TorchScript
            raise ValueError(f"output_fmt '{output_fmt}' is unknown; use 'NCHW' or 'NHWC'")
        take, last = feature_take_indices(len(self.stages), indices)
        maps: list[Tensor] = []
        pixels, context = self.forward_seed(check_image(x, windows=self.windows))
        for index, stage in enumerate(self.stages):
            if index <= last or not stop_early:
                before = pixels
                pixels, context = stage(pixels, context)
                if index in take:
                    out = self.feature_map(index, before, pixels)
                    maps.append(out.permute(0, 3, 1, 2) if output_fmt == "NCHW" else out)
        if intermediates_only:
            return maps
        return self.collect(pixels, context), maps

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what the pixel maps of `indices` do not need, and return the indices that are left.

        The norms of returned maps stay (`prune_norm` is accepted for timm and has no effect).
        """
        take, last = feature_take_indices(len(self.stages), indices)
        self.stages = self.stages[: last + 1]
        if last < len(self.feature_info) - 1:
            self.norm = nn.Identity()
        if prune_head:
            self.prune_context()
            self.reset_classifier(0, "")
        return list(take)

    @torch.jit.ignore
    def prune_context(self) -> None:
        """Drop what nothing reads once the head is gone."""

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module | tuple[nn.Module, ...]:
        """The classifier: `head`, or `(head, aux_head)` with the token-labelling head."""
        return self.head if self.aux_head is None else (self.head, self.aux_head)

    @torch.jit.ignore
    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the heads by new ones for `num_classes`, 0 for none; optionally change the pooling."""
        if global_pool is not None:
            if global_pool not in self.pools:
                known = " or ".join(map(repr, self.pools))
                raise ValueError(f"global_pool {global_pool!r} is unknown; use {known}")
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
        """Initialise every module as the family's paper does."""
        self.apply(self._init_module)

    @torch.jit.ignore
    def _init_module(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            trunc_normal_(module.weight, std=self.linear_std or module.in_features**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """Names that weight decay must not shrink: the queries, the class token, every layer scale."""
        return {name for name, _ in self.named_parameters() if name.endswith((".queries", ".gamma", "cls_token"))}

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's layer groups, by stage (`coarse`) or by block, for layer-wise lr decay."""
        by_block = [
            (r"^stages\.(\d+)\.downsample", (0,)),
            (r"^stages\.(\d+)\.blocks\.(\d+)", None),
            (r"^stages\.(\d+)\.(?:semantic_)?norm", (99998,)),
            (r"^(?:class_block|norm)", (99999,)),
        ]
        return {"stem": r"^(?:stem|seed|cls_token)", "blocks": r"^stages\.(\d+)" if coarse else by_block}

    @torch.jit.ignore
    def fuse(self) -> "Backbone":
        """Fold batch norms and layer scales into the layers before them, in place, for inference; returns self.

        Outputs stay the same to rounding. The weights' names do not, so a fused model is neither trained nor saved.

        Raises:
            ValueError: the model is in training mode.

        Example:
            >>> import torch, dualvit
            >>> model = dualvit.create_model("dualvit_n").eval()
            >>> image = torch.randn(1, 3, 64, 64)
            >>> torch.allclose(model(image), model.fuse()(image), atol=1e-5)
            True
        """
        fuse(self)
        return self

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True, stages: Sequence[int] | None = None) -> None:
        """Recompute each block in the backward pass instead of keeping its activations.

        Args:
            enable: Whether.
            stages: Which stages, from 0; the others keep theirs. None for all. The first two hold most of the memory.

        Raises:
            ValueError: there is no such stage.
        """
        for index in stages or ():
            if not 0 <= index < len(self.stages):
                raise ValueError(f"there is no stage {index} to recompute; give 0 to {len(self.stages) - 1}")
        for index, stage in enumerate(self.stages.children()):
            stage.grad_checkpointing = enable and (stages is None or index in stages)  # type: ignore[assignment]


def stage_plans(config: Any, head_dim: int) -> list[tuple[int, list[float]]]:
    """For each stage of a family's config its channels, and the drop path of each of its blocks.

    Raises:
        ValueError: channels that heads of `head_dim` do not divide.
    """
    rates = calculate_drop_path_rates(config.drop_path_rate, list(config.depths), stagewise=True)
    for index, dim in enumerate(config.dims):
        if dim % head_dim:
            raise ValueError(f"stage {index + 1} has {dim} channels; give a multiple of {head_dim}")
    return list(zip(config.dims, rates, strict=True))


def pretrained_cfg(**kwargs: Any) -> dict[str, Any]:
    """timm's default config of a model without published weights on the Hub."""
    return {
        "url": "",
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": (8, 7),  # the class row and the 7x7 map, as forward_features returns them
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "classifier": "head",
        "license": "apache-2.0",
        **kwargs,
    }


def _create(model_class: type[Backbone], config: Any, variant: str, pretrained: bool, **kwargs: Any) -> nn.Module:
    """Build a named model; keywords that name a field of its config change the config."""
    shape = {field.name: kwargs.pop(field.name) for field in fields(config) if kwargs.get(field.name) is not None}
    config = replace(config, **shape)
    device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)

    def build(**model_args: Any) -> Backbone:
        return model_class(config, **model_args).to(device=device, dtype=dtype)

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


def entrypoint(
    module: str, model_class: type[Backbone], variant: str, config: Any, doc: str
) -> Callable[..., nn.Module]:
    """Register `variant` with timm as a function of the named module, and return that function."""

    def create(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return _create(model_class, config, variant, pretrained, **kwargs)

    create.__name__ = variant
    create.__module__ = module
    create.__doc__ = doc
    return register_model(create)
