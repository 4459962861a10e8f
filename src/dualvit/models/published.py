"""The checkpoint layouts published with the papers, and their names in this package.

One rename table serves every loader: a model runs `Layout.adopt` before each `load_state_dict`, so
`timm.create_model(checkpoint_path=...)`, `pretrained_cfg_overlay` and plain PyTorch all accept
published files. Values are never touched.
"""

import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from dualvit.errors import InputError

PUBLISHED_MARK = "patch_embed1.conv.0.weight"  # only Dual-ViT's published layout has it

_RENAMES = (
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


@dataclass(frozen=True)
class Layout:
    """A published checkpoint layout.

    Attributes:
        mark: A name that this layout alone has.
        renames: Patterns and replacements, applied in turn; {} is the pattern's number less one, as
            stages and blocks are counted from one there.
        twins: Pattern of entries that are stored twice under two names, and are left out.
    """

    mark: str
    renames: tuple[tuple[str, str], ...]
    twins: str | None = None

    def native_name(self, published: str) -> str:
        """Translate one published parameter name to this package's."""
        name = published
        for pattern, replacement in self.renames:
            if "{}" in replacement:
                name = re.sub(pattern, lambda m, r=replacement: r.format(int(m[1]) - 1), name)  # type: ignore[misc]
            else:
                name = re.sub(pattern, replacement, name)
        return name

    def to_native(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """The entries of a published state dict under this package's names."""
        kept = {name: v for name, v in state_dict.items() if not (self.twins and re.search(self.twins, name))}
        return {self.native_name(name): _flat(value) for name, value in kept.items()}

    def adopt(self, module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: object) -> None:
        """Load-state-dict pre-hook: rename published entries in place and check their shapes.

        Entries of the token-labelling head are left out where the model was built without it
        (`token_label=False`).

        Raises:
            ValueError: the tensors are those of another model size.
        """
        if prefix + self.mark in state_dict:
            keys = [key for key in state_dict if key.startswith(prefix)]
            published = {key[len(prefix) :]: state_dict.pop(key) for key in keys}
            state_dict.update({prefix + name: value for name, value in self.to_native(published).items()})
        if not getattr(module, "token_label", True):
            for leaf in ("weight", "bias"):
                state_dict.pop(f"{prefix}aux_head.{leaf}", None)
        for name, own in module.state_dict().items():
            value = state_dict.get(prefix + name)
            if isinstance(value, Tensor) and value.shape != own.shape:
                raise InputError(
                    f"checkpoint of another model: {name} is {tuple(value.shape)} there and {tuple(own.shape)} here; "
                    "build the model that the checkpoint was made with (`dualvit convert` names it)"
                )


def _flat(value: Any) -> Any:
    """RegionViT keeps the weights of some norms as (1, C, 1, 1)."""
    if isinstance(value, Tensor) and value.ndim == 4 and value.shape[:1] == value.shape[2:3] == value.shape[3:] == (1,):
        return value.flatten()
    return value


DUAL_VIT = Layout(PUBLISHED_MARK, _RENAMES)


def native_name(published: str) -> str:
    """Translate one name of Dual-ViT's published layout to this package's.

    Example:
        >>> native_name("block1.0.attn.kv_proxy.weight")
        'stages.0.blocks.0.semantic_update.cross_attention.kv.weight'
    """
    return DUAL_VIT.native_name(published)
