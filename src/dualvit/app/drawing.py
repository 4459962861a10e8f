"""The picture of what a model finds, as the page shows it."""

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import draw_bounding_boxes

from dualvit.app.seen import Seen
from dualvit.pictures.boxes import write_names
from dualvit.pictures.masks import BACKGROUND, overlay
from dualvit.pictures.palette import INK, PAPER, Colour, colours

NAMED = 12  # boxes; of more, only the chosen one has its name in the picture
LETTER = 30  # a letter is this part of the longer side, so that it can be read on a phone


def draw_found(image: Tensor, seen: Seen) -> Image.Image:
    """Draw masks, boxes and names; the chosen box is thick, with a light and a dark line around it.

    Args:
        image: uint8 (3, H, W), as shown.
        seen: What the model said of it.
    """
    boxes = seen.boxes()
    if not boxes:
        return to_pil_image(image)
    classes = seen.subject.classes
    covered = seen.covered()
    if covered is not None:
        labels = torch.tensor([0, *(1 + found.label for found in seen.found)])
        image = overlay(image, labels[covered], (BACKGROUND, *classes))
    shades = [colours(len(classes))[found.label] for found in seen.found]
    long = max(image.shape[1:])
    picture = to_pil_image(draw_bounding_boxes(image, torch.tensor(boxes), colors=shades, width=max(2, long // 300)))
    if seen.chosen is not None:
        _frame(picture, boxes[seen.chosen], shades[seen.chosen])
    named = range(len(boxes)) if len(boxes) <= NAMED else [] if seen.chosen is None else [seen.chosen]
    names = [f"{seen.found[index].name} {seen.found[index].score:.2f}" for index in named]
    write_names(picture, [boxes[i] for i in named], names, [shades[i] for i in named], letter(picture))
    return picture


def letter(picture: Image.Image) -> int:
    """Return the height of letters in a picture, in pixels."""
    return max(8, max(picture.size) // LETTER)


def _frame(picture: Image.Image, box: tuple[float, float, float, float], shade: Colour) -> None:
    """Draw a box that is seen on any ground."""
    unit = max(1, max(picture.size) // 400)
    pen, corners = ImageDraw.Draw(picture), np.array(box).round()
    outward = np.array([-1, -1, 1, 1])
    for step, width, colour in ((0, 2, shade), (1, 1, PAPER), (2, 1, INK)):
        left, top, right, bottom = (corners + outward * step * unit).tolist()
        pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=width * unit)
