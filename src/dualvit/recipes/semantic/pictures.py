"""What a segmenter saw, as files: class indices, an overlay in colours with a legend, and the classes' shares."""

import colorsys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dualvit.files import write_json

OPACITY = 0.45
LEGEND = 8  # classes at most
GOLDEN = 0.618034  # steps around the colour circle that keep all hues apart, however many there are


def colours(classes: int) -> Tensor:
    """A colour for each class, uint8 (classes, 3); neighbours differ in hue.

    Example:
        >>> colours(2).tolist()
        [[230, 85, 57], [57, 80, 230]]
    """
    rows = [
        colorsys.hsv_to_rgb((0.027 + GOLDEN * index) % 1, 0.75, 0.9 - 0.25 * (index % 3 > 1))
        for index in range(classes)
    ]
    return torch.tensor([[round(255 * value) for value in row] for row in rows], dtype=torch.uint8)


def overlay(image: Tensor, classes: Tensor, names: tuple[str, ...]) -> Tensor:
    """An image uint8 (3, H, W) with its classes int64 (H, W) in colours on it; a class "background" stays clear."""
    palette = colours(len(names))[classes].permute(2, 0, 1).float()
    opacity = torch.tensor([0.0 if name == "background" else OPACITY for name in names])[classes]
    return (image * (1 - opacity) + palette * opacity).round().to(torch.uint8)


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
    order = counts.argsort(descending=True, stable=True)
    shares = {names[i]: float(counts[i] / counts.sum()) for i in order.tolist() if counts[i]}
    kind = np.uint8 if len(names) <= 256 else np.uint16
    Image.fromarray(classes.numpy().astype(kind)).save(out / f"{stem}.mask.png")
    picture = Image.fromarray(overlay(image, classes, names).permute(1, 2, 0).numpy())
    _legend(picture, [int(i) for i in order if counts[i]][:LEGEND], names).save(out / f"{stem}.overlay.png")
    write_json(out / f"{stem}.json", {"classes": list(names), "shares": shares})
    return shares


def _legend(picture: Image.Image, present: list[int], names: tuple[str, ...]) -> Image.Image:
    """The picture with a strip below it that names the colours."""
    row = 18
    strip = Image.new("RGB", (picture.width, picture.height + row * len(present) + 4), "white")
    strip.paste(picture)
    draw, font, palette = ImageDraw.Draw(strip), ImageFont.load_default(12), colours(len(names)).tolist()
    for line, index in enumerate(present):
        top = picture.height + 4 + line * row
        clear = names[index] == "background"
        draw.rectangle((4, top, 16, top + 12), fill=None if clear else tuple(palette[index]), outline="grey")
        draw.text((22, top), names[index], fill="black", font=font)
    return strip
