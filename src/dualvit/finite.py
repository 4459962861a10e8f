"""Where a NaN or an infinite value comes from."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dualvit.errors import DualViTError


class NonFiniteLossError(DualViTError, FloatingPointError):
    """The loss became NaN or infinite; the message names the first module that produced it."""


def is_finite(*values: Any) -> bool:
    """Whether all tensors in these values, lists and mappings are finite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in _tensors(values) if tensor.is_floating_point())


def first_non_finite(model: nn.Module, forward: Callable[[], Any]) -> str:
    """Name the module in which a non-finite value first appears.

    Args:
        model: Whose modules are watched.
        forward: Runs the model once more on what gave the non-finite loss.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        >>> _ = nn.init.constant_(model[0].bias, float("nan"))
        >>> first_non_finite(model, lambda: model(torch.ones(1, 2)))
        '0 (Linear)'
    """
    sources: list[str] = []

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            if not sources and not is_finite(output):
                sources.append(f"{name} ({type(module).__name__})")

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name]
    try:
        with torch.no_grad():
            forward()
    finally:
        for handle in handles:
            handle.remove()
    if sources:
        return sources[0]
    bad_weights = [name for name, p in model.named_parameters() if not is_finite(p)]
    return f"parameter {bad_weights[0]}" if bad_weights else "the loss itself (all module outputs are finite)"


def non_finite_sample(batch: Any) -> int | None:
    """The position of the first sample of a batch that holds NaN or infinity; None where all are finite.

    Args:
        batch: Tensors whose first axis counts samples, lists with an item for each sample, or mappings and tuples of
            these.

    Example:
        >>> non_finite_sample((torch.tensor([[1.0], [float("nan")]]), torch.tensor([0, 1])))
        1
    """
    if isinstance(batch, Tensor):
        rows = (~torch.isfinite(batch)).flatten(1).any(1) if batch.ndim > 1 else ~torch.isfinite(batch)
        return int(rows.nonzero()[0]) if rows.any() else None
    if isinstance(batch, list):
        return next((index for index, sample in enumerate(batch) if not is_finite(sample)), None)
    parts = batch.values() if isinstance(batch, dict) else batch if isinstance(batch, tuple) else ()
    return next((index for part in parts if (index := non_finite_sample(part)) is not None), None)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for item in value for t in _tensors(item)] if isinstance(value, list | tuple) else []
