"""Classes of pixels as pictures: an overlay in colours, a legend with the classes' shares, and the files of both."""

import base64
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from dualvit.files import write_json
from dualvit.pictures.captions import captioned
from dualvit.pictures.palette import Colour, colours

OPACITY = 0.5
LEGEND = 8  # classes at most
SMALL = 256  # pixels of the longer side of a map of classes that is kept among others
BACKGROUND = "background"


def class_colours(names: tuple[str, ...]) -> list[Colour | None]:
    """Return a colour for each class; the class "background" has none, and its pixels stay clear."""
    chosen = iter(colours(len(names)))
    return [None if name == BACKGROUND else next(chosen) for name in names]


def overlay(image: Tensor, classes: Tensor, names: tuple[str, ...]) -> Tensor:
    """Return an image with its classes in colours, each edged with the full colour.

    Args:
        image: uint8 (3, H, W).
        classes: int64 (H, W), indices into names.
        names: Of the classes.
    """
    chosen = class_colours(names)
    palette = torch.tensor([colour or (0, 0, 0) for colour in chosen])[classes].permute(2, 0, 1)  # (3, H, W)
    edge = torch.zeros_like(classes, dtype=torch.bool)
    edge[1:] |= classes[1:] != classes[:-1]
    edge[:, 1:] |= classes[:, 1:] != classes[:, :-1]
    opacity = torch.where(edge, 1.0, OPACITY) * torch.tensor([colour is not None for colour in chosen])[classes]
    return (image * (1 - opacity) + palette * opacity).round().to(torch.uint8)


def small_map(classes: Tensor) -> str:
    """Return the class of each pixel as a small PNG in base64, for a file that holds many.

    Args:
        classes: int64 (H, W).

    Example:
        >>> len(small_map(torch.zeros(1000, 500, dtype=torch.int64))) < 300
        True
    """
    kind = np.uint8 if int(classes.max()) < 256 else np.uint16
    image = Image.fromarray(classes.numpy().astype(kind))
    factor = min(1.0, SMALL / max(image.size))
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    buffer = io.BytesIO()
    image.resize(size, Image.Resampling.NEAREST).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def write_prediction(out: Path, stem: str, image: Tensor, classes: Tensor, names: tuple[str, ...]) -> dict[str, float]:
    """Write STEM.mask.png, STEM.overlay.png and STEM.json.

    Args:
        out: The folder.
        stem: The files' name.
        image: uint8 (3, H, W).
        classes: int64 (H, W), indices into names.
        names: Of the classes.

    Returns:
        The share of the pixels of each class that occurs, the largest first.
    """
    counts = torch.bincount(classes.flatten(), minlength=len(names))
    order = [int(index) for index in counts.argsort(descending=True, stable=True) if counts[index]]
    shares = {names[index]: float(counts[index] / counts.sum()) for index in order}
    kind = np.uint8 if len(names) <= 256 else np.uint16
    Image.fromarray(classes.numpy().astype(kind)).save(out / f"{stem}.mask.png")
    swatches = [class_colours(names)[index] for index in order[:LEGEND]]
    picture = to_pil_image(overlay(image, classes, names))
    captioned(picture, list(shares.items())[:LEGEND], swatches).save(out / f"{stem}.overlay.png")
    write_json(out / f"{stem}.json", {"classes": list(names), "shares": shares})
    return shares
