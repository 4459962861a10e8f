"""Dual-ViT: a vision transformer with a semantic and a pixel pathway, for timm and YOLO.

Importing this package registers its models with timm. It imports torch and timm alone.
"""

from dualvit.models import create_model
from dualvit.models.dual_vit import CONFIGS, DualViT, DualViTConfig

__version__ = "0.1.0"
__all__ = ["DualViT", "DualViTConfig", "__version__", "create_model", "list_models"]


def list_models() -> list[str]:
    """The names that this package adds to timm.

    Example:
        >>> list_models()
        ['dualvit_n', 'dualvit_t', 'dualvit_s', 'dualvit_b', 'dualvit_l']
    """
    return list(CONFIGS)
