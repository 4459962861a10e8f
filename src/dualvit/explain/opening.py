"""The door of what is explained: timm's names, and checkpoints of YOLO and recipes, imported here alone."""

import sys
from pathlib import Path
from typing import Any

from torch import nn

from dualvit.errors import InputError, MissingFileError
from dualvit.explain.subject import Classifier, Subject
from dualvit.models import create_model
from dualvit.weights import load_backbone


def open_subject(model: Any, weights: Path | str | None = None, image_size: int | None = None) -> Subject:
    """Open what is explained.

    Args:
        model: A checkpoint of a recipe (.ckpt), one of YOLO (.pt or .safetensors), or a timm name. In Python also a
            YOLO that is open, or a classifier as a module.
        weights: Of a timm name, a file of weights.
        image_size: Of YOLO the longer side, of a timm name both sides; what it was trained at if left out.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: it cannot be used, or a timm name comes without weights.

    Example:
        >>> import dualvit
        >>> subject = open_subject(dualvit.create_model("dualvit_n", num_classes=3), image_size=64)
        >>> subject.detects, subject.classes
        (False, ('0', '1', '2'))
    """
    if not isinstance(model, str | Path):
        return _opened(model, image_size)
    suffix = Path(model).suffix
    if suffix in (".ckpt", ".pt", ".safetensors", ".yaml") and not Path(model).is_file():
        raise MissingFileError(f"no model at {model}; give a checkpoint of a recipe or of YOLO, or a timm name")
    if suffix == ".ckpt":
        from dualvit.recipes.explained import open_recipe

        return open_recipe(Path(model))
    if suffix in (".pt", ".safetensors"):
        from dualvit.yolo.explained import open_yolo

        return open_yolo(Path(model), image_size)
    if weights is None:
        raise InputError(f"{model} is a timm name, and without weights it knows nothing; give --weights FILE")
    network = create_model(str(model))
    load_backbone(network, str(weights), network)
    return Classifier(network, (), image_size or 224)


def _opened(model: Any, image_size: int | None) -> Subject:
    """What is explained of a model that is open: of YOLO's its module is imported already."""
    if "dualvit.yolo" in sys.modules:
        from dualvit.yolo.explained import subject_of
        from dualvit.yolo.model import YOLO

        if isinstance(model, YOLO):
            return subject_of(model, image_size)
    if not isinstance(model, nn.Module):
        raise InputError(f"{type(model).__name__} cannot be explained; give a file, a timm name, a YOLO or a module")
    return Classifier(model, (), image_size or 224)
