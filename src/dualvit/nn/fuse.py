"""Exact simplifications for inference: batch norms, layer scales and biases go where they cost nothing.

The Linears of what was folded are then packed for oneDNN, see `dualvit.nn.onednn`.
"""

from typing import Any

import torch
from timm.layers import LayerScale
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dualvit.nn.onednn import pack


def fuse(model: nn.Module) -> nn.Module:
    """Fold what can be folded in every part that has a `fold`; in place, for inference alone.

    Raises:
        ValueError: the model is in training mode, where batch norms have no fixed values.
    """
    if model.training:
        raise ValueError("fuse() is for inference and the model is in training mode; call eval() first")
    for module in list(model.modules()):
        if callable(fold := getattr(module, "fold", None)):
            fold()
            for part in module.modules():
                pack(part)
    model.folded = True  # type: ignore[assignment]
    return model


def is_fused(model: nn.Module) -> bool:
    """Whether the model or a part of it went through `fuse`."""
    return any(getattr(module, "folded", False) for module in model.modules())


@torch.no_grad()
def fold_scale(scale: nn.Module, *linears: Any) -> nn.Module:
    """Multiply a layer scale into the Linears whose outputs it scales; returns what takes its place.

    A Linear with more outputs than the scale has channels is keys and values in one, and the values, last, are scaled.
    """
    if isinstance(scale, LayerScale):
        for linear in linears:
            if linear is not None:
                linear.weight[-len(scale.gamma) :] *= scale.gamma.unsqueeze(1)
                linear.bias[-len(scale.gamma) :] *= scale.gamma
        return nn.Identity()
    return scale


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
    """Strip the bias off a Linear of keys and values; returns the values' half, or None where there is none.

    A key's bias adds the same to all of a query's scores, which softmax ignores; a value's adds itself to the
    output, since the weights sum to 1. On the CPU a bias costs a pass over the whole output.
    """
    if kv.bias is None:
        return None
    value: Tensor = kv.bias.detach()[len(kv.bias) // 2 :].clone()
    kv.bias = None
    return value


def fold_batch_norms(layers: nn.Sequential) -> nn.Sequential:
    """Fold each BatchNorm into the convolution before it."""
    folded: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d) and folded and isinstance(folded[-1], nn.Conv2d):
            folded[-1] = fuse_conv_bn_eval(folded[-1], layer)
        else:
            folded.append(layer)
    return nn.Sequential(*folded)
