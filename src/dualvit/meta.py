"""Networks without values, for their names and shapes: built on the meta device, and not initialised."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# What initialisations do in place. On the meta device PyTorch works out the shapes of some of it in Python, which
# takes several times as long as building the network.
IN_PLACE = {"add_", "clamp_", "erfinv_", "fill_", "mul_", "normal_", "uniform_", "zero_"}


class _Uninitialised(TorchFunctionMode):
    """Leaves out what changes values and nothing else."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in IN_PLACE or (name.endswith("_") and getattr(func, "__module__", "") == "torch.nn.init"):
            tensor = args[0] if args else kwargs.get("tensor")
            if isinstance(tensor, Tensor) and tensor.is_meta:
                return tensor
        return func(*args, **kwargs)


@contextmanager
def on_meta() -> Iterator[None]:
    """Create tensors on the meta device, and initialise none of them.

    Example:
        >>> import timm
        >>> with on_meta():
        ...     network = timm.create_model("dualvit_l")
        >>> sum(p.numel() for p in network.parameters())
        72966544
    """
    with torch.device("meta"), _Uninitialised():
        yield
