"""An explanation as one picture: what was found, the regions of the semantics, and a map per object."""

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur, pil_to_tensor, rgb_to_grayscale

from dualvit.explain.attention import Attention
from dualvit.explain.regions import shares
from dualvit.explain.subject import Found, View
from dualvit.pictures.boxes import write_names
from dualvit.pictures.captions import contact_sheet
from dualvit.pictures.heat import heat
from dualvit.pictures.masks import overlay
from dualvit.pictures.palette import INK, PAPER, Colour, colours, fitting, font

WIDTH, TALL = 360, 720  # pixels of a picture on the sheet at most
SOFTNESS = 48  # the longer side over the standard deviation that a map is smoothed by before it is drawn
COLUMNS = 3
OPACITY = 0.6  # of a map over a picture


def region_picture(picture: Image.Image, view: View, attentions: Sequence[Attention], stage: int) -> Image.Image:
    """Return a grey picture with the regions that the semantics of a stage carve out, each in a colour of its own."""
    on_picture = torch.stack([view.on_picture(one) for one in shares(attentions, stage)])
    labels = on_picture.argmax(0)
    names = tuple(str(index) for index in range(len(on_picture)))
    grey = rgb_to_grayscale(pil_to_tensor(picture), 3)
    return Image.fromarray(overlay(grey, labels, names).permute(1, 2, 0).numpy())


def map_picture(
    picture: Image.Image, view: View, values: Tensor, found: Found, scale: bool = True, opacity: float = OPACITY,
    letter: int | None = None,
) -> Image.Image:  # fmt: skip
    """Return a picture with a map laid over it, smoothed, and the box that it explains."""
    sigma = max(values.shape) / SOFTNESS
    size = min(2 * round(3 * sigma) + 1, 2 * min(values.shape) - 1)
    smooth = gaussian_blur(values[None, None], [size, size], [sigma, sigma])[0, 0] if size > 1 else values
    shown = heat(pil_to_tensor(picture), view.on_picture(smooth), opacity, scale, letter=letter)
    if found.box is not None:
        frame(shown, view.box_on_picture(found.box), PAPER)
    return shown


def frame(picture: Image.Image, box: Sequence[float], colour: Colour | str) -> None:
    """Draw a box into a picture, in a colour with a dark edge that is seen on any ground."""
    width = max(2, max(picture.size) // 160)
    ImageDraw.Draw(picture).rectangle(list(box), outline=INK, width=width + 2)
    ImageDraw.Draw(picture).rectangle(list(box), outline=colour, width=width)


def boxes_picture(picture: Image.Image, view: View, found: Sequence[Found], classes: Sequence[str]) -> Image.Image:
    """Return a picture with all boxes, numbered as the maps are."""
    shown, shades = picture.copy(), colours(max(len(classes), 1))
    boxed = [(one, view.box_on_picture(one.box)) for one in found if one.box is not None]
    for one, box in boxed:
        frame(shown, box, shades[one.label])
    names = [f"{number} {one.name} {one.score:.2f}" for number, (one, _) in enumerate(boxed)]
    write_names(shown, [box for _, box in boxed], names, [shades[one.label] for one, _ in boxed])
    return shown


def sheet(parts: Sequence[tuple[str, Image.Image]], columns: int = COLUMNS, width: int = WIDTH) -> Image.Image:
    """Return pictures side by side, each of a width and with a line of words above it.

    Example:
        >>> sheet([("the picture", Image.new("RGB", (40, 30)))]).size
        (360, 300)
    """
    smalls = [_fitted(picture, width) for _, picture in parts]
    height = max(small.height for small in smalls)
    letters, cells = font(15), []
    for (words, _), small in zip(parts, smalls, strict=True):
        cell = Image.new("RGB", (width, height + 30), PAPER)
        ImageDraw.Draw(cell).text((2, 8), fitting(words, letters, width - 4), fill=INK, font=letters)
        cell.paste(small, (0, 30))
        cells.append(cell)
    return contact_sheet(cells, min(columns, len(cells)), 12)


def _fitted(picture: Image.Image, width: int) -> Image.Image:
    """A picture as wide as its place on the sheet, or as tall as that may be."""
    factor = min(width / picture.width, TALL / picture.height)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.LANCZOS)
