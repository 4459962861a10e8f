"""What every network here is to timm: features, heads, intermediates, layer groups, entry points.

A family fills in `begin` (an image to the pixels and the semantics beside them), `stages`, and `finish` (the last
stage's output to the features that the heads read).
"""

import functools
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.fx
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import calculate_drop_path_rates, trunc_normal_
from timm.models import build_model_with_cfg, register_model, register_notrace_function
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from dualvit.errors import InputError

_logger = logging.getLogger(__name__)

STRIDE = 32  # of the last stage; also the shortest side of an image
EVEN = (STRIDE, 112)  # sides that the stages halve as they are; 112 is whole 28x28 cells, and whole pixels to stride 16


@torch.fx.wrap
@register_notrace_function  # torch.fx cannot follow a decision that hangs on a shape
def pad_image(image: Tensor, multiples: tuple[int, ...] = EVEN) -> Tensor:
    """Return the image (B, C, H, W) with zeros below and to the right, up to the next multiple of 32 or of 112.

    An image of such sides is returned as it is. The zeros, the mean colour, are pixels to the network: its semantics
    and its attention see them, as in a Swin whose windows are filled up.

    Raises:
        ValueError: no batch of images, or a side below 32.
    """
    if image.ndim != 4:
        raise InputError(f"image batch has {image.ndim} dimensions; give (batch, channels, height, width)")
    height, width = image.shape[2:]
    if known(height, width) and min(height, width) < STRIDE:
        raise InputError(f"image size {height}x{width}: sides must be at least {STRIDE} pixels; enlarge it")
    bottom, right = missing(height, multiples), missing(width, multiples)
    return image if known(bottom, right) and bottom == right == 0 else F.pad(image, (0, right, 0, bottom))


def known(*sizes: int) -> bool:
    """Return whether these sizes are numbers, by which one may decide; an export with dynamic shapes has symbols."""
    return all(type(size) is int for size in sizes)


def missing(side: int, multiples: tuple[int, ...]) -> int:
    """Return how many pixels a side lacks to the next multiple of any of these numbers.

    Example:
        >>> missing(67, (32, 112)), missing(112, (32, 112)), missing(100, (32, 112))
        (29, 0, 12)
    """
    smaller: Any = torch.minimum if isinstance(side, Tensor) else torch.sym_min  # while it is traced, or else
    # Without a negative dividend: NCNN's converter takes its remainder as C does, and would cut where torch fills up.
    return functools.reduce(smaller, ((multiple - side % multiple) % multiple for multiple in multiples))


@torch.fx.wrap
@register_notrace_function
def crop(pixels: Tensor, rows: int, columns: int) -> Tensor:
    """Return the upper left part of the map (B, H, W, C), a view."""
    if known(rows, columns):
        return pixels[:, :rows, :columns]
    return F.pad(pixels, (0, 0, 0, columns - pixels.shape[2], 0, rows - pixels.shape[1]))  # exports of any size have it


class Backbone(nn.Module):
    """A pyramid of stages with timm's model interface.

    Args:
        dims: Channels of the stages, at strides 4, 8, 16, 32.
        in_chans: Channels of the image.
        linear_std: Standard deviation of a new Linear's weights; None for 1 / sqrt(inputs).
        drop_rate: Dropout before the heads.
    """

    output_fmt = "NHWC"
    feature_dim = -1
    pools: tuple[str, ...] = ("token", "avg", "")

    stages: nn.ModuleList
    norm: nn.Module
    head: nn.Module
    aux_head: nn.Module | None

    def __init__(self, dims: tuple[int, ...], in_chans: int, linear_std: float | None, drop_rate: float) -> None:
        super().__init__()
        self.in_chans = in_chans
        self.linear_std = linear_std
        self.token_label = False
        self.multiples: tuple[int, ...] = EVEN
        self.num_features = self.head_hidden_size = dims[-1]
        self.feature_info = [
            {"num_chs": dim, "reduction": 4 * 2**i, "module": f"stages.{i}"} for i, dim in enumerate(dims)
        ]
        self.head_drop = nn.Dropout(drop_rate)

    def forward(self, image: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(image))

    def forward_features(self, image: Tensor) -> Tensor:
        """Return all that the heads read as one tensor (B, rows, columns, C).

        In a family with a class token (DualViT, Pyramid, PVT), row 0 is not a row of the image: it holds the class
        token, once per column, and rows 1 to H/32 are the pixel map. RegionViT returns its regional tokens.
        """
        pixels, semantics = self.begin(self.padded(image))
        for stage in self.stages:
            pixels, semantics = stage(pixels, semantics)
        return self.finish(pixels, semantics)

    def padded(self, image: Tensor) -> Tensor:
        """Return the image as the stages halve it, see `pad_image`."""
        return pad_image(image, self.multiples)

    def begin(self, image: Tensor) -> tuple[Tensor, Any]:
        """Return the two values that flow through the stages: pixels (B, H/4, W/4, C), and semantics or None."""
        raise NotImplementedError

    def finish(self, pixels: Tensor, semantics: Any) -> Tensor:
        """Return the features that the heads read, from the last stage's output."""
        raise NotImplementedError

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool the output of `forward_features` and classify it; `pre_logits` stops before the heads."""
        if self.global_pool == "":
            pooled = features
        else:
            pooled = features[:, 0, 0] if self.global_pool == "token" else features[:, 1:].mean((1, 2))  # (B, C4)
        if pre_logits:
            return pooled
        logits = self.head(self.head_drop(pooled))  # (B, num_classes)
        if self.aux_head is not None and self.global_pool != "":  # token labelling: an answer per pixel
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
        """The pixel map after each stage, at strides 4, 8, 16, 32: ceil(H / stride) x ceil(W / stride) pixels.

        Args:
            x: Images, (B, in_chans, H, W).
            indices: Stages to return; an int for that many of the last ones, None for all.
            norm: Accepted for timm; the maps are those that the family hands to detectors.
            stop_early: Run no stage beyond the last one asked for.
            output_fmt: "NCHW" (a channels-last view) or "NHWC".
            intermediates_only: Return the list of maps alone, without `forward_features`' output.
        """
        if output_fmt not in ("NCHW", "NHWC"):
            raise InputError(f"output_fmt {output_fmt!r} is unknown; use 'NCHW' or 'NHWC'")
        take, last = feature_take_indices(len(self.stages), indices)
        maps: list[Tensor] = []
        pixels, semantics = self.begin(self.padded(x))
        for index, stage in enumerate(self.stages[: last + 1] if stop_early else self.stages):
            before = pixels
            pixels, semantics = stage(pixels, semantics)
            if index in take:
                stride = 4 * 2**index
                rows, columns = (x.shape[2] + stride - 1) // stride, (x.shape[3] + stride - 1) // stride
                out = crop(self.feature_map(index, before, pixels), rows, columns)  # without what was padded
                maps.append(out.permute(0, 3, 1, 2) if output_fmt == "NCHW" else out)
        return maps if intermediates_only else (self.finish(pixels, semantics), maps)

    @classmethod
    def check_options(cls, config: Any, options: Iterable[str]) -> None:
        """Raise ValueError if one of the config's fields that the user gave has no effect."""

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
            self.prune_semantics()
            self.reset_classifier(0, "")
        return list(take)

    def prune_semantics(self) -> None:
        """Drop the modules that nothing reads once the head is gone."""

    def get_classifier(self) -> nn.Module | tuple[nn.Module, ...]:
        """The classifier: `head`, or `(head, aux_head)` with the token-labelling head."""
        return self.head if self.aux_head is None else (self.head, self.aux_head)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the heads by new ones for `num_classes`, 0 for none; optionally change the pooling."""
        if global_pool is not None:
            if global_pool not in self.pools:
                known = " or ".join(map(repr, self.pools))
                raise InputError(f"global_pool {global_pool!r} is unknown; use {known}")
            self.global_pool = global_pool
        reference = self.norm.weight if isinstance(self.norm, nn.LayerNorm) else next(self.parameters())
        self.num_classes = num_classes

        def new_head() -> nn.Module:
            head = nn.Linear(self.num_features, num_classes, device=reference.device, dtype=reference.dtype)
            self._init_module(head)
            return head.train(self.training)

        self.head = new_head() if num_classes > 0 else nn.Identity().train(self.training)
        self.aux_head = new_head() if num_classes > 0 and self.token_label else None

    def init_weights(self) -> None:
        """Initialise every module as the family's paper does."""
        self.apply(self._init_module)

    def _init_module(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            trunc_normal_(module.weight, std=self.linear_std or module.in_features**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def no_weight_decay(self) -> set[str]:
        """Names that weight decay must not shrink: the queries, the class token, every layer scale."""
        return {name for name, _ in self.named_parameters() if name.endswith((".queries", ".gamma", "cls_token"))}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's layer groups, by stage (`coarse`) or by block, for layer-wise lr decay."""
        by_block = [
            (r"^stages\.(\d+)\.downsample", (0,)),
            (r"^stages\.(\d+)\.blocks\.(\d+)", None),
            (r"^stages\.(\d+)\.(?:semantic_)?norm", (99998,)),
            (r"^(?:class_block|norm)", (99999,)),
        ]
        return {"stem": r"^(?:stem|seed|cls_token)", "blocks": r"^stages\.(\d+)" if coarse else by_block}

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
                raise InputError(f"there is no stage {index} to recompute; give 0 to {len(self.stages) - 1}")
        for index, stage in enumerate(self.stages.children()):
            stage.grad_checkpointing = enable and (stages is None or index in stages)  # type: ignore[assignment]


def recomputing(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return what a block runs in, first and once more in the backward pass, where its batch norms keep their means."""
    return nullcontext(), _same_statistics([m for m in block.modules() if isinstance(m, nn.BatchNorm2d)])


@contextmanager
def _same_statistics(norms: list[nn.BatchNorm2d]) -> Iterator[None]:
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


@dataclass(frozen=True)
class BlockShape:
    """Where a block stands and how large it is; `number` counts over all stages, and both it and `stage` from 0."""

    stage: int
    number: int
    dim: int
    num_heads: int
    hidden: int
    drop_path: float
    layer_scale: float | None


def block_shapes(config: Any, head_dim: int, ffn_ratios: Sequence[Sequence[int]]) -> Iterator[list[BlockShape]]:
    """Yield the shapes of each stage's blocks, from a family's `dims`, `depths` and `drop_path_rate`.

    Args:
        config: Of the family; without `layer_scale`, its blocks have none.
        head_dim: Channels of an attention head.
        ffn_ratios: For each stage, hidden width over C; its blocks take the values in turn.

    Raises:
        ValueError: channels that heads of `head_dim` do not divide.
    """
    rates = calculate_drop_path_rates(config.drop_path_rate, list(config.depths), stagewise=True)
    number, scale = itertools.count(), getattr(config, "layer_scale", None)
    for stage, (dim, ratios) in enumerate(zip(config.dims, ffn_ratios, strict=True)):
        if dim % head_dim:
            raise InputError(f"stage {stage + 1} has {dim} channels; give a multiple of {head_dim}")
        yield [
            BlockShape(stage, next(number), dim, dim // head_dim, dim * ratio, rate, scale)
            for rate, ratio in zip(rates[stage], itertools.cycle(ratios), strict=False)
        ]


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
    options = {field.name: kwargs.pop(field.name) for field in fields(config) if kwargs.get(field.name) is not None}
    config = replace(config, **options)
    model_class.check_options(config, options)
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
        pretrained_filter_fn=_with_new_head,
        **kwargs,
    )
    return model


def _with_new_head(weights: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Complete weights of a backbone alone by the model's own new ones behind the last stage; others must be there."""
    own = {key: value for key, value in model.state_dict().items() if not key.startswith(("stem.", "seed.", "stages."))}
    return own | weights


def entrypoints(module: str, model_class: type[Backbone], configs: Mapping[str, Any]) -> list[Callable[..., nn.Module]]:
    """Register each config's name with timm as a function of the named module, and return these functions."""
    return [register_model(_entrypoint(module, model_class, name, config)) for name, config in configs.items()]


def _entrypoint(module: str, model_class: type[Backbone], name: str, config: Any) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return _create(model_class, config, name, pretrained, **kwargs)

    create.__name__, create.__module__ = name, module
    create.__doc__ = f"Build {name}: {model_class.__name__} of dims {config.dims} and depths {config.depths}."
    return create
