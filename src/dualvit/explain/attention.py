"""Who reads where: the attention of each block of Dual-ViT, recomputed from what its modules are given.

Hooks see the tokens that an attention is given, and nothing else: the model computes what it always computes, by
whatever kernel, and its outputs stay the same bit for bit. Queries and keys are then made once more, from the same
tokens and weights.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dualvit.errors import InputError
from dualvit.models.dual_vit import CrossAttention, DualBlock, DualViT, MergeBlock

PIXELS, SEMANTICS = "pixels", "semantics"


@dataclass(frozen=True)
class Attention:
    """One attention of a block: who asks, and whom.

    Attributes:
        stage, block: Where it stands, counted from 0.
        readers, sources: `pixels` or `semantics`.
        queries: (B, heads, Nq, d).
        keys: (B, heads, Nk, d), those of the other pathway included if a merge block has all in one sequence.
        first, count: Which of the keys are the sources.
        size: Rows and columns of the stage's map.
        grid: Rows and columns of the pixels as sources, if they are cells of `key_grid`.
    """

    stage: int
    block: int
    readers: str
    sources: str
    queries: Tensor
    keys: Tensor
    first: int
    count: int
    size: tuple[int, int]
    grid: tuple[int, int] | None = None

    def weights(self) -> Tensor:
        """Return what share of its attention each reader gives to each source: (B, heads, readers, sources).

        They sum to 1 over the sources of dual blocks; in merge blocks over the sources of both pathways together.
        """
        scores = self.queries @ self.keys.transpose(-1, -2) * self.queries.shape[-1] ** -0.5
        shares = scores.softmax(-1)
        return shares[..., self.first : self.first + self.count]

    def maps(self) -> Tensor:
        """Return the weights with the pixels as maps: semantics x (h, w), (B, heads, M, h, w), whoever reads whom."""
        weights = self.weights()
        if self.readers == PIXELS:
            weights = weights.transpose(-1, -2)
        return weights.unflatten(-1, self.grid if self.grid and self.sources == PIXELS else self.size)


def network_of(model: nn.Module) -> DualViT:
    """Return the Dual-ViT within a model: a classifier, a detector, or the network itself.

    Raises:
        ValueError: there is none, so that there are no semantics to look at.
    """
    if (network := _network_in(model)) is None:
        raise InputError(
            f"{type(model).__name__} has no semantics of Dual-ViT; relevance, layercam, eigencam and drise explain it"
        )
    return network


def has_semantics(model: nn.Module) -> bool:
    """Return whether a model holds a Dual-ViT, so that there are semantics to look at."""
    return _network_in(model) is not None


def _network_in(model: nn.Module) -> DualViT | None:
    for module in model.modules():
        if isinstance(module, DualViT) and module.seed is not None and any(map(_is_dual, module.modules())):
            return module
    return None


def _is_dual(module: nn.Module) -> bool:
    return isinstance(module, DualBlock | MergeBlock)


@torch.no_grad()
def attention_of(model: nn.Module, images: Tensor) -> list[Attention]:
    """Return every attention between pixels and semantics, in the order of the blocks.

    Args:
        model: Holds a Dual-ViT, and is in evaluation mode.
        images: (B, 3, H, W).

    Raises:
        ValueError: the model has no semantics, or is in training mode.

    Example:
        >>> import dualvit
        >>> model = dualvit.create_model("dualvit_n").eval()
        >>> found = attention_of(model, torch.rand(1, 3, 64, 64))
        >>> [(one.stage, one.readers, tuple(one.weights().shape)) for one in found[:2]]
        [(0, 'semantics', (1, 1, 16, 256)), (0, 'pixels', (1, 1, 256, 16))]
    """
    with recorded(model) as found:
        model(images)
    return found


@contextmanager
def recorded(model: nn.Module) -> Iterator[list[Attention]]:
    """Note the attentions of the forward passes within; the hooks are gone afterwards."""
    if model.training:
        raise InputError("attention is looked at in evaluation mode, and the model is in training mode; call eval()")
    network = network_of(model)
    found: list[Attention] = []
    handles: list[Any] = []
    try:
        for stage, blocks in enumerate(getattr(one, "blocks", ()) for one in network.stages):
            for index, block in enumerate(blocks):
                if isinstance(block, DualBlock | MergeBlock):
                    handles += _watch(block, (stage, index), found)
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _watch(block: Any, place: tuple[int, int], found: list[Attention]) -> list[Any]:
    sizes: dict[str, Any] = {}

    def begin(module: nn.Module, values: tuple[Tensor, ...]) -> None:
        sizes["map"], sizes["semantics"] = tuple(values[0].shape[1:3]), values[1].shape[1]

    def watched(note: Callable[[Any, Tensor, Tensor], None]) -> Callable[..., None]:
        def hook(module: Any, values: tuple[Tensor, ...]) -> None:
            queries, keys = queries_and_keys(module, values[0], values[1])
            note(module, queries, keys)

        return hook

    def dual(readers: str, sources: str) -> Callable[[Any, Tensor, Tensor], None]:
        def note(module: Any, queries: Tensor, keys: Tensor) -> None:
            found.append(Attention(*place, readers, sources, queries, keys, 0, keys.shape[2], sizes["map"]))

        return note

    def merged(module: Any, queries: Tensor, keys: Tensor) -> None:
        pixels = sizes["map"][0] * sizes["map"][1]
        cells = keys.shape[2] - sizes["semantics"]
        grid = block.key_grid if cells != pixels else None
        of_pixels, of_semantics = queries[:, :, :pixels], queries[:, :, pixels:]
        found.append(Attention(*place, SEMANTICS, PIXELS, of_semantics, keys, 0, cells, sizes["map"], grid))
        found.append(Attention(*place, PIXELS, SEMANTICS, of_pixels, keys, cells, sizes["semantics"], sizes["map"]))

    handles = [block.register_forward_pre_hook(begin)]
    if isinstance(block, MergeBlock):
        return [*handles, block.attention.register_forward_pre_hook(watched(merged))]
    consulting = block.semantic_update.cross_attention
    handles.append(consulting.register_forward_pre_hook(watched(dual(SEMANTICS, PIXELS))))
    return [*handles, block.attention.register_forward_pre_hook(watched(dual(PIXELS, SEMANTICS)))]


def queries_and_keys(attention: CrossAttention, tokens: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    """Return the queries and keys of an attention, (B, heads, N, d) each, past the hooks of its layers."""
    queries, keys = _plain(attention.q, tokens), _plain(attention.kv, source).chunk(2, dim=-1)[0]
    by_head = [one.unflatten(2, (attention.num_heads, -1)).transpose(1, 2) for one in (queries, keys)]
    return by_head[0], by_head[1]


def _plain(layer: nn.Module, tokens: Tensor) -> Tensor:
    out: Tensor = type(layer).forward(layer, tokens)
    return out
