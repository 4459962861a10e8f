"""oneDNN's kernels on a CPU: Linears on weights laid out for its products, and a depthwise convolution activated.

PyTorch's Linear asks MKL, which lays the weights out again in every call and adds the bias, or the residual, in a
pass of its own. oneDNN takes weights in its own order and adds both within the product: on two cores with AVX-512 a
product of Linear's usual shapes gains a tenth to a fifth.

This file alone calls operators that PyTorch keeps to itself, and `serves` alone says whether they may be called.
"""

import copyreg
from collections.abc import Iterable
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

ROWS = 512  # rows of input that weights are laid out for; that order serves from 16 rows to 25,000
ALL = slice(None)
OPERATORS = ("_linear_pointwise", "_convolution_pointwise", "_reorder_linear_weight", "_is_mkldnn_bf16_supported")


def unwatched(layers: Iterable[nn.Module]) -> bool:
    """Return whether weights may be used past their layers: each is a layer as PyTorch has it, or packed, unhooked."""
    kinds = (nn.Linear, PackedLinear, nn.Conv2d)
    return all(type(layer) in kinds and not layer._forward_hooks and not layer._forward_pre_hooks for layer in layers)


def serves(tokens: Tensor) -> bool:
    """Return whether oneDNN's kernels may be called by name on this input.

    They may in eager inference on a CPU, in float32, or in bfloat16 if the CPU has instructions for it: a compiler, a
    tracer, autograd, autocast and dispatch modes know PyTorch's own operators alone.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or is_in_torch_dispatch_mode():
        return False
    if type(tokens) is not Tensor or tokens.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not all(hasattr(torch.ops.mkldnn, name) for name in OPERATORS):
        return False
    if tokens.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return tokens.dtype == torch.float32


class PackedLinear(nn.Linear):
    """A Linear that also keeps its weights in oneDNN's order.

    They are packed when they are first used, and again once the plain ones have changed. If oneDNN's kernels do
    not serve, it is a plain Linear. A copy and a pickle are plain Linears, so that whatever counts, quantises or
    stores a model need not know of packing; `dualvit.fuse` packs the copy's again.

    Example:
        >>> linear, tokens = nn.Linear(8, 4), torch.randn(2, 5, 8)
        >>> plain = linear(tokens)
        >>> with torch.inference_mode():
        ...     torch.allclose(pack(linear)(tokens), plain, atol=1e-6)
        True
    """

    # Never changed in place, for other threads may be reading.
    _packs: MappingProxyType[tuple[int | None, ...], Tensor] = MappingProxyType({})
    _packed_from = (0, 0)  # address and version of the plain weights

    def forward(self, tokens: Tensor) -> Tensor:
        return product(self, tokens) if served(self, tokens) else F.linear(tokens, self.weight, self.bias)

    def packed(self, outputs: slice, inputs: slice) -> Tensor:
        """Return a part of the weights in oneDNN's order."""
        source = (self.weight.data_ptr(), self.weight._version)
        if source != self._packed_from:
            self._packs, self._packed_from = MappingProxyType({}), source
        part = (outputs.start, outputs.stop, inputs.start, inputs.stop)
        pack = self._packs.get(part)
        if pack is None:
            plain = self.weight.detach()[outputs, inputs].contiguous()
            pack = torch.ops.mkldnn._reorder_linear_weight(plain, ROWS)
            room = self.weight.numel() - plain.numel()  # other parts stay as long as they are parts of one weight
            kept = dict(self._packs) if sum(pack.numel() for pack in self._packs.values()) <= room else {}
            self._packs = MappingProxyType(kept | {part: pack})
        return pack

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._packs = MappingProxyType({})  # a tensor of another type may come to lie at the same address
        return super()._apply(fn, recurse)

    def __reduce_ex__(self, protocol: Any) -> Any:
        state = {name: value for name, value in self.__dict__.items() if name not in ("_packs", "_packed_from")}
        # Not copyreg.__newobj__, which pickle allows for the object's own class alone; stubs leave this one out.
        return copyreg._reconstructor, (nn.Linear, object, None), state  # type: ignore[attr-defined]


def served(linear: nn.Module, tokens: Tensor) -> bool:
    """Return whether a layer is a packed Linear that oneDNN may compute on this input."""
    return isinstance(linear, PackedLinear) and serves(tokens) and linear.weight.dtype == tokens.dtype


def pack(linear: nn.Module) -> Any:
    """Turn a Linear into one that packs, in place: its parameters and hooks stay. A layer of another class stays."""
    if type(linear) is nn.Linear:
        linear.__class__ = PackedLinear
    return linear


def add(residual: Tensor | None, linear: nn.Module, tokens: Tensor) -> Tensor:
    """Return residual + linear(tokens), within the product if the Linear is packed; None adds nothing."""
    if residual is None:
        return linear(tokens)
    if served(linear, tokens) and unwatched([linear]):
        return product(linear, tokens, residual)  # type: ignore[arg-type]
    return residual + linear(tokens)


def product(
    linear: nn.Linear, tokens: Tensor, residual: Tensor | None = None, outputs: slice = ALL, inputs: slice = ALL,
    biased: bool = True,
) -> Tensor:  # fmt: skip
    """Return a Linear, or the part of it between some inputs and outputs, plus a residual.

    Args:
        linear: C to C'.
        tokens: (..., inputs).
        residual: (..., outputs), or None.
        outputs, inputs: Which channels.
        biased: Whether the bias is added.

    Returns:
        (..., outputs).
    """
    if isinstance(linear, PackedLinear) and not linear.weight.is_inference():  # which does not count its changes
        weight = linear.packed(outputs, inputs)
    else:
        weight = linear.weight[outputs, inputs].contiguous()
    bias = linear.bias[outputs] if biased and linear.bias is not None else None
    if residual is None:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(tokens, weight, bias, "none", [], "")
        return out
    return torch.ops.mkldnn._linear_pointwise.binary(tokens, residual, weight, bias, "add")


def depthwise(wide: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
    """Return an activation of a depthwise 3x3 convolution, in one pass over the map: a quarter faster than in two.

    Args:
        wide: (B, C, H, W), channels last.
        weight: (C, 1, 3, 3).
        bias: (C,).
        activation: As oneDNN calls it: gelu, or swish for SiLU.
    """
    ones = [1, 1]  # padding, stride and dilation
    return torch.ops.mkldnn._convolution_pointwise(
        wide, weight, bias, ones, ones, ones, wide.shape[1], activation, [], "none"
    )
