"""Batch norm that meets a single value per channel: a batch of one picture, whose map is one pixel."""

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle


def take_lone_values(network: nn.Module) -> list[RemovableHandle]:
    """Let batch norm take a single value per channel while training, by the moments that it has learnt so far.

    A single value has no variance, so PyTorch refuses it. All other values are normed as ever.

    Returns:
        What ends it: `remove()` each.

    Example:
        >>> import torch
        >>> norm = nn.BatchNorm2d(2)
        >>> handles = take_lone_values(norm)
        >>> norm(torch.ones(1, 2, 1, 1)).flatten().tolist(), norm.training
        ([0.9999949932098389, 0.9999949932098389], True)
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    return [
        *(norm.register_forward_pre_hook(_as_in_evaluation) for norm in norms),
        *(norm.register_forward_hook(_as_before) for norm in norms),
    ]


def _as_in_evaluation(norm: Any, inputs: tuple[Any, ...]) -> None:
    if norm.training and inputs[0].numel() == inputs[0].shape[1]:
        norm.training, norm.lone = False, True


def _as_before(norm: Any, inputs: tuple[Any, ...], output: Any) -> None:
    if norm.__dict__.pop("lone", False):
        norm.training = True
