"""Pictures with the boxes, masks and names of objects drawn into them."""

from collections.abc import Mapping, Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import draw_bounding_boxes

from dualvit.pictures.masks import BACKGROUND, overlay
from dualvit.pictures.palette import Colour, colours, fitting, font, ink_on

LONG = 800  # pixels; smaller pictures are enlarged towards it, so that names can be read


def draw(image: Tensor, objects: Mapping[str, Tensor], classes: Sequence[str], long: int | None = None) -> Image.Image:
    """Draw the objects of a picture: masks where there are some, else boxes with names.

    Args:
        image: uint8 (3, H, W).
        objects: boxes (N, 4), labels (N,); scores (N,), or none of what is given and not found; masks (N, 1, H, W) of
            probabilities, or none. The best first.
        classes: Names of the labels.
        long: Pixels of the longer side; smaller pictures are enlarged towards it. LONG if left out.
    """
    factor = max(1, (long or LONG) // max(image.shape[1:]))
    size = [factor * side for side in image.shape[1:]]
    canvas = F.interpolate(image[None].float(), size, mode="bicubic").clamp(0, 255).byte()[0]
    labels, boxes = objects["labels"].tolist(), objects["boxes"] * factor
    if not labels:
        return to_pil_image(canvas)
    if "masks" in objects:
        masks = F.interpolate(objects["masks"].float(), size, mode="bilinear")[:, 0] > 0.5
        places = torch.where(masks.any(0), masks.int().argmax(0) + 1, 0)  # where objects overlap, the best one's
        return to_pil_image(overlay(canvas, places, (BACKGROUND, *map(str, range(len(labels))))))
    shades = [colours(len(classes))[label] for label in labels]
    picture = to_pil_image(draw_bounding_boxes(canvas, boxes, colors=shades, width=2 + max(size) // 600))
    scores = [f" {score:.2f}" for score in objects["scores"].tolist()] if "scores" in objects else [""] * len(labels)
    names = [f"{classes[label]}{score}" for label, score in zip(labels, scores, strict=True)]
    write_names(picture, boxes.tolist(), names, shades)
    return picture


def draw_outline(picture: Image.Image, points: Sequence[tuple[float, float]], shade: Colour) -> None:
    """Draw the sides of a polygon into a picture, and a dot at each of its points."""
    pen, width = ImageDraw.Draw(picture), max(1, max(picture.size) // 200)
    pen.line([*points, points[0]], fill=shade, width=width)
    for x, y in points:
        pen.ellipse((x - 2 * width, y - 2 * width, x + 2 * width, y + 2 * width), fill=shade)


def write_names(
    picture: Image.Image,
    boxes: Sequence[Sequence[float]],
    names: Sequence[str],
    shades: Sequence[Colour],
    letter: int | None = None,
) -> None:
    """Write each name above its box, or into or below it where another name stands already.

    Args:
        picture: Is drawn into.
        boxes: x1 y1 x2 y2 of each.
        names: What is written.
        shades: The colours behind the names.
        letter: The height of the letters in pixels; a 64th of the picture's longer side, at least 12, if left out.
    """
    pen, letters = ImageDraw.Draw(picture), font(letter or max(12, max(picture.size) // 64))
    taken: list[tuple[float, float, float, float]] = []
    for (x, y, _, bottom), name, shade in zip(boxes, names, shades, strict=True):
        name = fitting(name, letters, picture.width / 2)
        width, height = round(letters.getlength(name)) + 6, round(letters.size) + 5
        x = min(max(x, 0), max(picture.width - width, 0))
        tops = [top for top in (y - height, bottom, y, bottom - height) if 0 <= top <= picture.height - height] or [0]
        places = [(x, top, x + width, top + height) for top in tops]
        place = next((place for place in places if not any(_overlap(place, other) for other in taken)), places[0])
        taken.append(place)
        pen.rectangle(place, fill=shade)
        pen.text((place[0] + 3, place[1] + height / 2), name, fill=ink_on(shade), font=letters, anchor="lm")


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
