"""How a picture becomes a network's input, as an exported file's metadata says, and the way back for boxes and maps."""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import pil_to_tensor, resize

from dualvit.data.images import LONGEST, UnreadableError, middle
from dualvit.deploy.metadata import Metadata
from dualvit.errors import InputError, MissingExtraError

GREY = 114  # around a picture in a letterbox, as Ultralytics trains with it


@dataclass(frozen=True)
class Seen:
    """A picture as a network sees it.

    Attributes:
        image: (3, H, W), scaled and normalised as the network takes it.
        content: Left, top, right and bottom of the picture within the image, in its pixels.
        size: Width and height of the picture itself.
    """

    image: Tensor
    content: tuple[int, int, int, int]
    size: tuple[int, int]

    def boxes(self, boxes: Tensor) -> Tensor:
        """Bring boxes (N, 4) in pixels of the image to pixels of the picture, within its edges."""
        left, top, right, bottom = self.content
        width, height = self.size
        corner, scale = boxes.new_tensor([left, top] * 2), boxes.new_tensor([right - left, bottom - top] * 2)
        most = boxes.new_tensor([width, height] * 2)
        return ((boxes - corner) / scale * most).clamp(min=0).minimum(most)

    def map(self, values: Tensor) -> Tensor:
        """Bring a map (H, W) over the image to the picture: (height, width), bilinear."""
        left, top, right, bottom = self.content
        width, height = self.size
        inside = values[top:bottom, left:right]
        if tuple(inside.shape) == (height, width):
            return inside
        return F.interpolate(inside[None, None].float(), (height, width), mode="bilinear", align_corners=False)[0, 0]


See = Callable[[Image.Image], Seen]


def seeing(about: Metadata) -> See:
    """Return the function that turns an RGB picture into the network's input.

    Raises:
        ModuleNotFoundError: a letterbox needs OpenCV, which is not installed.
    """
    makers: dict[str, Callable[[Metadata], See]] = {
        "crop": _cropped, "letterbox": _letterboxed, "shortest": _shortest, "tiles": _shortest,
    }  # fmt: skip
    return makers[about.resize](about)


def _cropped(about: Metadata) -> See:
    """The centre, as timm's transform of validation cuts it out."""
    if about.image_size[0] != about.image_size[1]:
        raise InputError(f"{about.name} takes {about.image_size} pixels, and a centre is a square; export it anew")
    transform: Any = create_transform(
        about.image_size[0], crop_pct=about.crop_pct, interpolation=about.interpolation, mean=about.mean, std=about.std
    )
    side = about.image_size[0]
    return lambda picture: Seen(transform(middle(picture)), (0, 0, side, side), picture.size)


def _letterboxed(about: Metadata) -> See:
    """The whole picture, as Ultralytics' predictor resizes it; in whole strides if the sides are free."""
    if importlib.util.find_spec("cv2") is None:
        raise MissingExtraError(f"{about.name} needs OpenCV to resize pictures; install dualvit[serve]")
    cv2 = importlib.import_module("cv2")

    def see(picture: Image.Image) -> Seen:
        width, height = picture.size
        most = about.image_size
        factor = min(most[0] / height, most[1] / width)
        columns, rows = max(round(width * factor), 1), max(round(height * factor), 1)
        spare = [most[1] - columns, most[0] - rows]
        if about.dynamic:
            spare = [value % about.stride for value in spare]
        left, top = (round(value / 2 - 0.1) for value in spare)
        pixels = np.asarray(picture)
        if (columns, rows) != picture.size:
            pixels = cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_LINEAR)
        canvas = np.full((rows + spare[1], columns + spare[0], 3), GREY, np.uint8)
        canvas[top : top + rows, left : left + columns] = pixels
        image = torch.from_numpy(canvas).permute(2, 0, 1).float() / 255  # (3, H, W)
        return Seen(_normalised(image, about), (left, top, left + columns, top + rows), picture.size)

    return see


def _shortest(about: Metadata) -> See:
    """The whole picture, the shorter side as long as asked; of a detector, the longer one has a limit."""
    mode = InterpolationMode(about.interpolation)

    def see(picture: Image.Image) -> Seen:
        require_short(picture)
        width, height = picture.size
        if about.resize == "tiles":
            image = resize(pil_to_tensor(picture), [about.image_size[0]], mode, antialias=True)
        else:
            factor = min(about.image_size[0] / min(picture.size), about.image_size[1] / max(picture.size))
            size = [max(int(height * factor), 1), max(int(width * factor), 1)]
            image = resize(pil_to_tensor(picture), size, mode, antialias=False)
        rows, columns = image.shape[1:]
        return Seen(_normalised(image.float() / 255, about), (0, 0, columns, rows), picture.size)

    return see


def whole(picture: Image.Image) -> Seen:
    """Return a picture at its own size, with values between 0 and 1, for networks that resize by themselves."""
    require_short(picture)
    return Seen(pil_to_tensor(picture).float() / 255, (0, 0, *picture.size), picture.size)


def require_short(picture: Image.Image) -> None:
    """Stop at a picture that is longer than `LONGEST` times its shorter side, which would be enlarged whole.

    Raises:
        UnreadableError: it is.
    """
    if max(picture.size) > LONGEST * min(picture.size):
        raise UnreadableError(
            f"the picture has {picture.width}x{picture.height} pixels, and one side may have {LONGEST} times the "
            "pixels of the other at most; cut it into pieces"
        )


def _normalised(image: Tensor, about: Metadata) -> Tensor:
    if about.mean == (0.0, 0.0, 0.0) and about.std == (1.0, 1.0, 1.0):
        return image
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (about.mean, about.std))
    return (image - mean) / std
