"""A map over a picture: how much each pixel counts, in colours whose steps look equally large."""

from functools import cache

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.v2.functional import rgb_to_grayscale, to_pil_image

from dualvit.errors import InputError
from dualvit.pictures.palette import INK, PAPER, SOFT, font

OPACITY = 0.5
COLOURS = "inferno"  # of matplotlib: even in lightness, and readers with any kind of colour blindness see its order


def heat(
    image: Tensor, values: Tensor, opacity: float = OPACITY, scale: bool = False, top: float | None = None,
    letter: int | None = None,
) -> Image.Image:  # fmt: skip
    """Lay a map over a picture, which is grey below it, so that all colour is the map's.

    Args:
        image: uint8 (3, H, W).
        values: (H, W), of any unit; what is below 0 counts as 0.
        opacity: Of the map, 0 to 1.
        scale: Draw a bar below the picture that says which colour is which value.
        top: The value of the brightest colour, so that two maps can share a scale; the largest value if left out.
        letter: The height of the bar and of its letters in pixels; a 48th of the width, at least 11, if left out.

    Raises:
        ValueError: the sizes differ, the opacity is outside of 0 to 1, or a value is not finite.

    Example:
        >>> picture = torch.full((3, 40, 60), 128, dtype=torch.uint8)
        >>> heat(picture, torch.rand(40, 60)).size
        (60, 40)
    """
    if image.shape[1:] != values.shape:
        raise InputError(f"the map has the shape {tuple(values.shape)}, and the picture {tuple(image.shape[1:])}")
    if not 0 <= opacity <= 1:
        raise InputError(f"opacity is {opacity}; give a number from 0 to 1")
    if not bool(torch.isfinite(values).all()):
        raise InputError("the map holds NaN or infinite values")
    positive = values.detach().float().clamp(min=0)
    most = float(positive.max()) if top is None else top
    steps = (positive / most * 255).round().clamp(max=255).long() if most > 0 else torch.zeros_like(values).long()
    warm = _colours()[steps].permute(2, 0, 1)  # (3, H, W)
    grey = rgb_to_grayscale(image, 3).float()
    picture = to_pil_image((grey * (1 - opacity) + warm * opacity).round().to(torch.uint8))
    return with_scale(picture, max(most, 0.0), letter) if scale else picture


def with_scale(picture: Image.Image, most: float, letter: int | None = None) -> Image.Image:
    """Return a picture of `heat` with a bar below it, from 0 to the value of the brightest colour."""
    size = letter or max(11, picture.width // 48)
    pen, gap = font(size), size // 2
    canvas = Image.new("RGB", (picture.width, picture.height + size + 2 * gap), PAPER)
    canvas.paste(picture)
    draw, middle = ImageDraw.Draw(canvas), picture.height + gap + size // 2
    ends = ("0", f"{most:.3g}")
    left, right = (round(pen.getlength(text)) + 2 * gap for text in ends)
    draw.text((gap, middle), ends[0], fill=SOFT, font=pen, anchor="lm")
    draw.text((picture.width - gap, middle), ends[1], fill=INK, font=pen, anchor="rm")
    length = picture.width - left - right
    if length > 0:
        ramp = _colours()[torch.linspace(0, 255, length).round().long()].byte()  # (length, 3)
        bar = to_pil_image(ramp.T[:, None].expand(3, size, length).contiguous())
        canvas.paste(bar, (left, picture.height + gap))
    return canvas


@cache
def _colours() -> Tensor:
    """The colours of the values 0 to 255, (256, 3), 0..255."""
    import matplotlib

    return torch.tensor(matplotlib.colormaps[COLOURS](range(256)))[:, :3].float() * 255
