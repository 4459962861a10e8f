"""A trained classifier from a recipe's checkpoint, or from a timm name and a file of weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor, nn

from dualvit.errors import InputError
from dualvit.recipes.build import build_network
from dualvit.recipes.classify.task import Classify
from dualvit.recipes.classify.transforms import eval_transform, normalisation
from dualvit.recipes.config import Network
from dualvit.recipes.run import load


@dataclass(frozen=True)
class Source:
    """A network, ready to be asked.

    Attributes:
        name: Of the checkpoint, or timm's.
        network: In evaluation mode.
        classes: That a checkpoint knows; None for a timm model.
        transform: From an RGB picture to what the network takes.
    """

    name: str
    network: nn.Module
    classes: tuple[str, ...] | None
    transform: Callable[[Image.Image], Tensor]


def open_source(
    model: str, weights: Path | None, classes: Sequence[str] | None, size: int | None, device: str
) -> Source:
    """Open a model.

    Args:
        model: A checkpoint of `dualvit recipe fit`, or any name that timm knows.
        weights: Of a timm model.
        classes: Of the data set; a timm model's head must have as many. None leaves the head out.
        size: Sides of the square that it sees; None takes the checkpoint's, or 224.
        device: cpu, cuda or cuda:1.

    Raises:
        ValueError: no weights, or weights that do not fit.
    """
    path = Path(model)
    if path.suffix == ".ckpt" or path.is_file():
        if weights is not None:
            raise InputError(f"{model} has weights of its own; leave --weights out")
        task = load(path)
        if not isinstance(task, Classify):
            raise InputError(f"{model} is a checkpoint of {task.recipe.task}; give one of a classifier")
        data = task.recipe.data
        transform = eval_transform(size or data.image_size, data.crop_pct, *normalisation(task.network))
        return Source(model, task.network.to(device).eval(), task.classes, transform)
    if weights is None:
        raise InputError(f"model {model} has no weights here, and none are downloaded; give --weights, or a checkpoint")
    network = build_network(Network(model, weights=str(weights)), num_classes=len(classes) if classes else 0)
    crop_pct = float(network.pretrained_cfg.get("crop_pct", 0.875))  # type: ignore[union-attr, operator]
    transform = eval_transform(size or 224, crop_pct, *normalisation(network))
    return Source(model, network.to(device).eval(), None, transform)
