"""Dual-ViT: a vision transformer with a semantic and a pixel pathway, for timm and YOLO.

Importing this package registers its models with timm, and keeps onnxruntime from sending what it does to a server.
It imports torch and timm alone.
"""

from typing import TYPE_CHECKING, Any

from dualvit.errors import DualViTError
from dualvit.fast import fuse
from dualvit.models import create_model, dual_vit, dual_vit_small, pvt, pyramid, region_vit
from dualvit.models.dual_vit import DualViT, DualViTConfig
from dualvit.telemetry import refuse_telemetry

if TYPE_CHECKING:
    from dualvit.yolo import YOLO

refuse_telemetry()

__version__ = "0.1.0"
__all__ = ["YOLO", "DualViT", "DualViTConfig", "DualViTError", "__version__", "create_model", "fuse", "list_models"]


def list_models() -> list[str]:
    """Return the names that this package adds to timm, family by family.

    Example:
        >>> list_models()[:5]
        ['dualvit_n', 'dualvit_t', 'dualvit_s', 'dualvit_b', 'dualvit_l']
    """
    return [name for family in (dual_vit_small, dual_vit, pyramid, region_vit, pvt) for name in family.CONFIGS]


def __getattr__(name: str) -> Any:
    """Import `YOLO` once it is asked for: it needs the extra `yolo`, and brings AGPL-3.0 code."""
    if name != "YOLO":
        raise AttributeError(f"module 'dualvit' has no attribute {name!r}")
    from dualvit.yolo import YOLO

    return YOLO
