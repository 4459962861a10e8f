"""The checkpoint layout published with the paper, and its names in this package.

One rename table serves every loader: `DualViT` runs `adopt_published` before each
`load_state_dict`, so `timm.create_model(checkpoint_path=...)`, `pretrained_cfg_overlay` and plain
PyTorch all accept published files. Values and shapes are never touched.
"""

import re
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

PUBLISHED_MARK = "patch_embed1.conv.0.weight"  # only the published layout has it

_RENAMES: tuple[tuple[str, str], ...] = (
    # the semantic seed lies at the top level there
    (r"^q$", "seed.queries"),
    (r"^q_embed\.0\.", "seed.query_norm."),
    (r"^q_embed\.1\.", "seed.query_proj."),
    (r"^kv\.", "seed.kv."),
    (r"^proxy_ln\.", "seed.norm."),
    (r"^se\.", "seed.gate."),
    # between the stages, counted from one there
    (r"^patch_embed1\.", "stem."),
    (r"^patch_embed(\d)\.", "stages.{}.downsample."),
    (r"^proxy_embed(\d)\.proj_proxy\.0\.", "stages.{}.downsample.semantic_proj."),
    (r"^proxy_embed(\d)\.proj_proxy\.1\.", "stages.{}.downsample.semantic_norm."),
    (r"^norm_proxy(\d)\.", "stages.{}.semantic_norm."),
    (r"^norm4\.", "norm."),
    (r"^norm(\d)\.", "stages.{}.norm."),
    (r"^block(\d)\.", "stages.{}.blocks."),
    (r"^post_network\.0\.", "class_block."),
    # inside a block: the semantic pathway first, its names are the longer ones
    (r"\.attn\.qkv_proxy\.0\.", ".semantic_update.norm1."),
    (r"\.attn\.qkv_proxy\.1\.", ".semantic_update.self_attention.qkv."),
    (r"\.attn\.gamma([123])$", r".semantic_update.scale\1.gamma"),
    (r"\.attn\.q_proxy_ln\.", ".semantic_update.norm2."),
    (r"\.attn\.q_proxy\.", ".semantic_update.cross_attention.q."),
    (r"\.attn\.kv_proxy\.", ".semantic_update.cross_attention.kv."),
    (r"\.attn\.p_ln\.", ".semantic_update.norm3."),
    (r"\.attn\.mlp_proxy\.0\.", ".semantic_update.ffn.fc1."),
    (r"\.attn\.mlp_proxy\.2\.", ".semantic_update.ffn.fc2."),
    (r"\.attn\.proxy_ln\.", ".semantic_norm."),
    (r"\.attn\.", ".attention."),
    (r"\.gamma([12])$", r".scale\1.gamma"),
    (r"\.mlp\.dwconv\.dwconv\.", ".ffn.conv."),
    (r"\.mlp\.fc_proxy\.0\.", ".semantic_ffn.fc1."),
    (r"\.mlp\.fc_proxy\.2\.", ".semantic_ffn.fc2."),
    (r"\.mlp\.", ".ffn."),
)


def native_name(published: str) -> str:
    """Translate one published parameter name to this package's.

    Example:
        >>> native_name("block1.0.attn.kv_proxy.weight")
        'stages.0.blocks.0.semantic_update.cross_attention.kv.weight'
    """
    name = published
    for pattern, replacement in _RENAMES:
        if "{}" in replacement:  # a stage number, counted from one there
            name = re.sub(pattern, lambda m, r=replacement: r.format(int(m[1]) - 1), name)  # type: ignore[misc]
        else:
            name = re.sub(pattern, replacement, name)
    return name


def is_published(names: Iterable[str]) -> bool:
    """Whether these are names of the published layout."""
    return PUBLISHED_MARK in set(names)


def to_native(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with this package's names, whichever of the two layouts it came in."""
    if not is_published(state_dict):
        return dict(state_dict)
    return {native_name(name): value for name, value in state_dict.items()}


def adopt_published(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: object) -> None:
    """Load-state-dict pre-hook: rename published entries in place and check their shapes.

    Entries of the token-labelling head are left out where the model was built without it
    (`token_label=False`).

    Raises:
        ValueError: the tensors are those of another model size.
    """
    if prefix + PUBLISHED_MARK in state_dict:
        for key in [key for key in state_dict if key.startswith(prefix)]:
            state_dict[prefix + native_name(key[len(prefix) :])] = state_dict.pop(key)
    if not getattr(module, "token_label", True):
        for leaf in ("weight", "bias"):
            state_dict.pop(f"{prefix}aux_head.{leaf}", None)
    for name, own in module.state_dict().items():
        given = state_dict.get(prefix + name)
        if isinstance(given, Tensor) and given.shape != own.shape:
            raise ValueError(
                f"checkpoint of another model: {name} is {tuple(given.shape)} there and {tuple(own.shape)} here; "
                "build the model that the checkpoint was made with (`dualvit convert` names it)"
            )
