"""The door of what is explained: timm's names, and checkpoints of YOLO and recipes, imported here alone."""

from pathlib import Path

from dualvit.errors import InputError, MissingFileError
from dualvit.explain.subject import Classifier, Subject
from dualvit.models import create_model
from dualvit.weights import load_backbone


def open_subject(model: str | Path, weights: Path | None = None, image_size: int | None = None) -> Subject:
    """Open what is explained.

    Args:
        model: A checkpoint of a recipe (.ckpt), one of YOLO (.pt or .safetensors), or a timm name.
        weights: Of a timm name, a file of weights.
        image_size: Of YOLO the longer side, of a timm name both sides; what it was trained at if left out.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: it cannot be used, or a timm name comes without weights.
    """
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
