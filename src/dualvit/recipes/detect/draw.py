"""Pictures with boxes, masks and names drawn into them."""

import colorsys
from collections.abc import Mapping, Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

LONG = 800  # pixels; smaller pictures are enlarged towards it, so that names can be read


def draw(image: Tensor, found: Mapping[str, Tensor], classes: Sequence[str]) -> Image.Image:
    """Draw what a detector found.

    Args:
        image: uint8 (3, H, W).
        found: boxes (N, 4), labels (N,), scores (N,); masks (N, 1, H, W) of probabilities, or none.
        classes: Names, which stand on the boxes where there are several.
    """
    factor = max(1, LONG // max(image.shape[1:]))
    size = [factor * side for side in image.shape[1:]]
    canvas = torch.nn.functional.interpolate(image[None].float(), size, mode="bicubic").clamp(0, 255).byte()[0]
    labels = found["labels"].tolist()
    if not labels:
        return to_pil_image(canvas)
    if "masks" in found:
        masks = torch.nn.functional.interpolate(found["masks"].float(), size, mode="bilinear")[:, 0] > 0.5
        masks &= masks.cumsum(0) == 1  # where they overlap, the best: it comes first
        shades = [colour(index, len(labels)) for index in range(len(labels))]  # neighbours must differ
        return to_pil_image(draw_segmentation_masks(canvas, masks, alpha=0.45, colors=shades))
    colours = [colour(label, len(classes)) for label in labels]
    boxes = found["boxes"] * factor
    picture = to_pil_image(draw_bounding_boxes(canvas, boxes, colors=colours, width=2 + max(size) // 600))
    _write_names(picture, boxes, [classes[label] for label in labels], found["scores"].tolist(), colours)
    return picture


def _write_names(
    picture: Image.Image, boxes: Tensor, names: list[str], scores: list[float], colours: list[tuple[int, int, int]]
) -> None:
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(max(11, max(picture.size) // 60))
    for (x, y, *_), name, score, colour in zip(boxes.tolist(), names, scores, colours, strict=True):
        words = f"{name} {score:.2f}"
        left, top, right, bottom = pen.textbbox((0, 0), words, font=font)
        width, height = right - left + 6, bottom - top + 4
        x = min(max(x, 0), picture.width - width)
        y = y - height if y >= height else y
        pen.rectangle((x, y, x + width, y + height), fill=colour)
        pen.text((x + 3 - left, y + 2 - top), words, fill="black", font=font)


def colour(index: int, count: int) -> tuple[int, int, int]:
    """One of `count` well separated colours."""
    red, green, blue = colorsys.hsv_to_rgb((index * 0.381966) % 1 if count > 6 else index / count, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)
