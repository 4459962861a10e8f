"""Number formats in which a model can run, and how far its outputs then are from float32."""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dualvit.errors import StateError


@dataclass(frozen=True)
class Precision:
    """A number format.

    Attributes:
        matmul: What the matrix product runs in that stands for the machine's rate.
        weights: What weights and images are cast to, or None.
        autocast: What autocast works in, or None.
        trains: Whether a training step can run in it.
    """

    matmul: torch.dtype
    weights: torch.dtype | None = None
    autocast: torch.dtype | None = None
    trains: bool = True


DTYPES = {
    "float32": Precision(torch.float32),
    "bfloat16": Precision(torch.bfloat16, weights=torch.bfloat16),
    "float16": Precision(torch.float16, weights=torch.float16, trains=False),
    "bf16-autocast": Precision(torch.bfloat16, autocast=torch.bfloat16),
    "int8": Precision(torch.float32, trains=False),  # Linear weights and, as they come, their inputs
}


def prepare(
    network: nn.Module, image: Tensor, dtype: str
) -> tuple[nn.Module, Tensor, Callable[[], AbstractContextManager[Any]]]:
    """A model and an image in a number format, and the context in which to run them.

    Args:
        network: It may be changed.
        image: (B, C, H, W).
        dtype: A key of `DTYPES`.
    """
    precision = DTYPES[dtype]
    if dtype == "int8":
        return int8_linears(network), image, nullcontext
    if precision.weights is not None:
        return network.to(precision.weights), image.to(precision.weights), nullcontext
    if precision.autocast is not None:
        kind, device = precision.autocast, image.device.type
        return network, image, lambda: torch.autocast(device, dtype=kind)
    return network, image, nullcontext


def int8_linears(network: nn.Module) -> nn.Module:
    """Linears with 8-bit weights, whose inputs are scaled to 8 bits as they come: for CPUs.

    Raises:
        RuntimeError: the model is on another device.
    """
    if next(network.parameters()).device.type != "cpu":
        raise StateError("int8 runs on the CPU alone; leave it out on a GPU")
    from torch.ao.quantization import quantize_dynamic

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised: nn.Module = quantize_dynamic(network, {nn.Linear}, dtype=torch.qint8)
    return quantised


def relative_error(out: Any, exact: Any) -> float:
    """The norm of the difference over the norm of the exact outputs; the worst of several outputs.

    Example:
        >>> relative_error(torch.tensor([3.0, 4.5]), torch.tensor([3.0, 4.0]))
        0.1
    """
    if isinstance(exact, Tensor):
        return float((out.double() - exact.double()).norm() / exact.double().norm().clamp(min=1e-30))
    values = exact.values() if isinstance(exact, dict) else exact
    pairs = zip(out.values() if isinstance(out, dict) else out, values, strict=True)
    return max((relative_error(a, b) for a, b in pairs if isinstance(b, Tensor | list | tuple | dict)), default=0.0)
