"""Dual-ViT: a vision transformer with a semantic and a pixel pathway, for timm and YOLO.

Importing this package registers its models with timm. It imports torch and timm alone.
"""

from dualvit.models import create_model, dual_vit, pvt, pyramid, region_vit
from dualvit.models.dual_vit import DualViT, DualViTConfig

__version__ = "0.1.0"
__all__ = ["DualViT", "DualViTConfig", "__version__", "create_model", "list_models"]


def list_models() -> list[str]:
    """The names that this package adds to timm, family by family.

    Example:
        >>> list_models()[:5]
        ['dualvit_n', 'dualvit_t', 'dualvit_s', 'dualvit_b', 'dualvit_l']
    """
    return [name for family in (dual_vit, pyramid, region_vit, pvt) for name in family.CONFIGS]
