"""Put the fast classes in place, and fold batch norms, layer scales and biases where they cost nothing."""

import math
from collections.abc import Callable
from functools import singledispatch
from typing import Any

import torch
from timm.layers import LayerScale
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights, fuse_linear_bn_weights

from dualvit.errors import InputError
from dualvit.fast.attention import FastCrossAttention, FewKeys, FewTokens, few_pay
from dualvit.fast.exact import ExactSeed
from dualvit.fast.packed import pack, serves, unwatched
from dualvit.fast.sliced import FoldedConvFFN, SlicedConvFFN
from dualvit.models.dual_vit import (
    ConvFFN,
    CrossAttention,
    DualBlock,
    MergeBlock,
    SemanticSeed,
    SemanticUpdate,
    Stem,
    split,
)
from dualvit.models.dual_vit_small import NormedConv, NormedConvFFN, NormedLinear, SmallDualBlock
from dualvit.models.mixers.block import MixerBlock
from dualvit.models.mixers.regional import RegionalBlock


def accelerate(model: nn.Module) -> nn.Module:
    """Put the fast classes in place of the plain ones, in any model that holds blocks of ours; returns the model.

    Weights, their names and the outputs stay, the latter to rounding; the model trains and saves as before.
    """
    for module in model.modules():
        if type(module) is ConvFFN:
            module.__class__ = SlicedConvFFN
        elif type(module) is CrossAttention:
            module.__class__ = FastCrossAttention
        elif type(module) is SemanticSeed:
            module.__class__ = ExactSeed
    for owner in model.modules():
        seed = getattr(owner, "seed", None)
        if isinstance(seed, SemanticSeed) and seed.grid is not None:  # the number of semantics is known
            for block in owner.modules():
                if isinstance(block, DualBlock):
                    _take_few(block, math.prod(seed.grid))
    return model


def _take_few(block: DualBlock, semantics: int) -> None:
    attention, update = block.attention, block.semantic_update.cross_attention
    if few_pay(attention.q.in_features, attention.num_heads, semantics):
        if type(attention) is FastCrossAttention:
            attention.__class__ = FewKeys
        if type(update) is FastCrossAttention:
            update.__class__ = FewTokens


def fuse(model: nn.Module) -> nn.Module:
    """Fold batch norms, layer scales and biases into the layers before them, in place, for inference alone.

    It takes a network, a feature extractor or a detector, and returns it. Outputs stay the same to rounding. The
    weights' names do not, so a fused model is neither trained nor saved.

    Raises:
        ValueError: the model is in training mode, in which batch norms have no fixed values.

    Example:
        >>> import copy, dualvit
        >>> model = dualvit.create_model("dualvit_n").eval()
        >>> image = torch.randn(1, 3, 64, 64)
        >>> torch.allclose(model(image), dualvit.fuse(copy.deepcopy(model))(image), atol=1e-5)
        True
    """
    if model.training:
        raise InputError("fuse() is for inference and the model is in training mode; call eval() first")
    accelerate(model)
    for module in reversed(list(model.modules())):  # what a module holds is folded before it
        if fold.dispatch(type(module)) is not fold.dispatch(object):
            fold(module)
            for part in module.modules():
                pack(part)
    model.fused = True  # type: ignore[assignment]
    return model


def is_fused(model: nn.Module) -> bool:
    """Return whether the model or a part of it went through `fuse`."""
    return any(getattr(module, "fused", False) is True for module in model.modules())


class FusedDualBlock(DualBlock):
    """A dual block whose layer scales are folded: the last product of each pathway adds the residual itself."""

    def forward(self, pixels: Tensor, semantics: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.norm1(pixels).flatten(1, 2)  # (B, H W, C)
        semantics = self.semantic_update(semantics, tokens)
        attention: Any = self.attention
        pixels = attention(tokens, self.semantic_norm(semantics), pixels.flatten(1, 2)).view(pixels.shape)
        return add_ffn(self, pixels), semantics


class FoldedDualBlock(FusedDualBlock, SmallDualBlock):
    """A dual block without norms on its pixels, which a runtime gets as (B, C, H, W), as its convolutions read them.

    Between two blocks the one's last permutation and the other's first one cancel.
    """

    def forward(self, pixels: Tensor, semantics: Tensor) -> tuple[Tensor, Tensor]:
        ffn: Any = self.ffn
        if serves(pixels) or not unwatched((ffn.fc1, ffn.fc2)):
            return super().forward(pixels, semantics)
        maps = pixels.permute(0, 3, 1, 2)  # (B, C, H, W)
        tokens = maps.permute(0, 2, 3, 1).flatten(1, 2)  # (B, H W, C)
        semantics = self.semantic_update(semantics, tokens)
        update = self.attention(tokens, self.semantic_norm(semantics)).view(pixels.shape)
        maps = maps + update.permute(0, 3, 1, 2)
        return (maps + ffn.convolve(maps)).permute(0, 2, 3, 1), semantics


class FusedMergeBlock(MergeBlock):
    """A merge block whose layer scales are folded: the last products add the residual themselves."""

    def forward(self, pixels: Tensor, semantics: Tensor) -> tuple[Tensor, Tensor]:
        tokens = torch.cat([pixels.flatten(1, 2), semantics], dim=1)  # (B, H W + M, C)
        normed = self.norm1(tokens)
        attention: Any = self.attention
        pixels, semantics = split(attention(normed, self.keys(normed, pixels), tokens), pixels)
        if self.semantic_ffn is not None:
            semantics = semantics + self.semantic_ffn(self.norm2(semantics))
        return add_ffn(self, pixels), semantics


def add_ffn(block: Any, pixels: Tensor) -> Tensor:
    """Return pixels plus their feed-forward network, which adds them itself."""
    out: Tensor = block.ffn(block.norm2(pixels), pixels)
    return out


@singledispatch
def fold(module: nn.Module) -> None:
    """Fold what a module holds, in place; a class without a rule of its own holds nothing to fold."""


@fold.register
def _(stem: Stem) -> None:
    layers: list[nn.Module] = []
    for layer in stem.conv:
        if isinstance(layer, nn.BatchNorm2d) and layers and isinstance(layers[-1], nn.Conv2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
        else:
            layers.append(layer)
    stem.conv = nn.Sequential(*layers)


@fold.register
def _(linear: NormedLinear) -> None:
    take_norm(linear, fuse_linear_bn_weights, nn.Linear)


@fold.register
def _(conv: NormedConv) -> None:
    take_norm(conv, fuse_conv_bn_weights, nn.Conv2d)


def take_norm(product: Any, folded: Callable[..., tuple[nn.Parameter, nn.Parameter]], kind: type[nn.Module]) -> None:
    """Turn a product with a batch norm behind it into the plain product, of a kind, with the same values."""
    norm = product.norm
    product.weight, product.bias = folded(
        product.weight, product.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    del product.norm
    product.__class__ = kind


@fold.register
def _(ffn: NormedConvFFN) -> None:
    folded: Any = ffn
    folded.fc1, folded.fc2 = as_linear(ffn.fc1), as_linear(ffn.fc2)
    del folded.act
    folded.__class__ = FoldedConvFFN


def as_linear(conv: Any) -> nn.Linear:
    """Return the Linear that a 1x1 convolution is."""
    linear = nn.Linear(conv.in_channels, conv.out_channels, device="meta")
    linear.weight, linear.bias = nn.Parameter(conv.weight.flatten(1)), conv.bias
    return linear


@fold.register
def _(attention: CrossAttention) -> None:
    if isinstance(attention.proj, nn.Linear) and (value := take_value_bias(attention.kv)) is not None:
        with torch.no_grad():
            attention.proj.bias.add_(attention.proj.weight @ value)


@fold.register
def _(update: SemanticUpdate) -> None:
    update.scale1 = fold_scale(update.scale1, update.self_attention.qkv)
    update.scale2 = fold_scale(update.scale2, update.cross_attention.kv)
    if (value := take_value_bias(update.cross_attention.kv)) is not None:  # it waits for the few tokens
        update.scale2 = Shift(value)
    update.scale3 = fold_scale(update.scale3, update.ffn.fc2)


@fold.register
def _(block: DualBlock) -> None:
    block.scale1 = fold_scale(block.scale1, block.attention.proj)
    block.scale2 = fold_scale(block.scale2, block.ffn.fc2)
    block.__class__ = FusedDualBlock


@fold.register
def _(block: SmallDualBlock) -> None:
    block.__class__ = FoldedDualBlock  # the last norm of each branch is its scale


@fold.register
def _(block: MergeBlock) -> None:
    block.scale1 = fold_scale(block.scale1, block.attention.proj)
    beside = [] if block.semantic_ffn is None else [block.semantic_ffn.fc2]
    block.scale2 = fold_scale(block.scale2, block.ffn.fc2, *beside)
    block.__class__ = FusedMergeBlock


@fold.register(MixerBlock)
@fold.register(RegionalBlock)
def _(block: Any) -> None:
    block.scale2 = fold_scale(block.scale2, block.ffn.fc2)  # before the first scale is any mixer


@torch.no_grad()
def fold_scale(scale: nn.Module, *linears: Any) -> nn.Module:
    """Multiply a layer scale into the Linears whose outputs it scales; return the module that takes its place.

    A Linear with more outputs than the scale has channels is keys and values in one, and the values, last, are scaled.
    """
    if not isinstance(scale, LayerScale):
        return scale
    for linear in linears:
        linear.weight[-len(scale.gamma) :] *= scale.gamma.unsqueeze(1)
        linear.bias[-len(scale.gamma) :] *= scale.gamma
    return nn.Identity()


class Shift(nn.Module):
    """Add a constant to each channel."""

    value: Tensor

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value)

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.value


@torch.no_grad()
def take_value_bias(kv: Any) -> Tensor | None:
    """Strip the bias off a Linear of keys and values; return the values' half, or None if there is none.

    A key's bias adds the same to all of a query's scores, which softmax ignores; a value's adds itself to the
    output, since the weights sum to 1. On the CPU a bias costs a pass over the whole output.
    """
    if kv.bias is None:
        return None
    value: Tensor = kv.bias.detach()[len(kv.bias) // 2 :].clone()
    kv.bias = None
    return value
