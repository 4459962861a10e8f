"""What a map is worth on one object: the score while pixels go or come in its order, and where its evidence lies."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from dualvit.errors import InputError
from dualvit.explain.subject import Found, Subject, View, own_scores

NEAR = 1.5  # the sides of the frame that counts as near, over those of the box
BLUR = 0.1  # standard deviation of the blur, as a share of the shorter side
Box = Sequence[float]


@dataclass(frozen=True)
class Removal:
    """How pixels are taken away.

    Attributes:
        steps: The share of pixels rises from 0 to 1 in so many.
        baseline: What stands where a pixel is away: the "blurred" picture, or "grey", the mean of each channel.
        batch: Images per pass.
        seed: Of the order among pixels of equal value.
    """

    steps: int = 32
    baseline: Literal["blurred", "grey"] = "blurred"
    batch: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 2 or self.batch < 1:
            raise InputError(f"steps are {self.steps} and batch {self.batch}; give 2 steps and a batch of 1 or more")
        if self.baseline not in ("blurred", "grey"):
            raise InputError(f"baseline is {self.baseline!r}; give blurred or grey")

    @property
    def passes(self) -> int:
        """Forward passes of both curves."""
        return 2 * self.steps

    def picture(self, view: View) -> Tensor:
        """Return the images with no pixel of the picture left, (1, 3, H, W); what surrounds it stays."""
        images, inside = view.images, inside_of(view)
        if self.baseline == "grey":
            empty = images[:, :, inside].mean(2)[..., None, None].expand_as(images)
        else:
            sigma = BLUR * min(images.shape[2:])
            empty = gaussian_blur(images, [min(2 * math.ceil(2 * sigma) + 1, _odd(min(images.shape[2:])))] * 2, [sigma])
        return torch.where(inside, empty, images)


@dataclass(frozen=True)
class Curves:
    """The score of an object over the share of pixels, at 0, 1 / steps, ... 1.

    Attributes:
        deletion: While pixels go, those of most evidence first.
        insertion: While they come, in the same order.
    """

    deletion: tuple[float, ...]
    insertion: tuple[float, ...]

    @property
    def areas(self) -> tuple[float, float]:
        """Area under both curves, 0 to 1; the score of the whole picture is 1, and a higher one counts as it.

        A low deletion and a high insertion are good.
        """
        whole = self.deletion[0]
        deletion, insertion = (
            float(torch.trapezoid((torch.tensor(curve) / whole).clamp(0, 1), dx=1 / (len(curve) - 1)))
            for curve in (self.deletion, self.insertion)
        )
        return deletion, insertion

    @property
    def left(self) -> float:
        """The share of the score that is left if no pixel is."""
        return min(self.deletion[-1] / self.deletion[0], 1.0)


@dataclass(frozen=True)
class Evidence:
    """Shares of the evidence for an object, which sum to 1: in its box, near it and far from it.

    Attributes:
        inside: Within the box.
        near: Around it, within a frame of 1.5 times its sides.
        far: Anywhere else.
    """

    inside: float
    near: float
    far: float


def _odd(side: int) -> int:
    return side - 1 + side % 2


def inside_of(view: View) -> Tensor:
    """Return which pixels of the images show the picture, (H, W)."""
    height, width = view.images.shape[2:]
    left, top, right, bottom = view.content
    inside = torch.zeros(height, width, dtype=torch.bool)
    inside[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)] = True
    return inside


def ranks(values: Tensor, inside: Tensor, seed: int = 0) -> Tensor:
    """Return the share of the picture's pixels that come before each one, (H, W); 1 and more outside of the picture.

    Pixels of equal value come in a random order, so that a map gains nothing by where they lie.

    Example:
        >>> ranks(torch.tensor([[0.0, 3.0], [2.0, 1.0]]), torch.ones(2, 2, dtype=torch.bool)).tolist()
        [[0.75, 0.0], [0.25, 0.5]]
    """
    own = values[inside]
    shuffled = torch.randperm(len(own), generator=torch.Generator().manual_seed(seed))
    order = shuffled[own[shuffled].argsort(descending=True, stable=True)]
    places = torch.empty(len(own))
    places[order] = torch.arange(len(own)) / len(own)
    whole = torch.full(values.shape, 2.0)
    whole[inside] = places
    return whole


def curves(subject: Subject, view: View, found: Found, values: Tensor, removal: Removal | None = None) -> Curves:
    """Take pixels away, and bring them back, in the order of a map (RISE: Petsiuk et al., 2018, arXiv 1806.07421).

    Args:
        subject: What is explained.
        view: The picture as it sees it.
        found: The object or class, whose `own_scores` are followed.
        values: The map, (H, W) of the images.
        removal: How.

    Raises:
        ValueError: the object has no score in its own picture.
    """
    removal = removal or Removal()
    images, empty, inside = view.images, removal.picture(view), inside_of(view)
    places = ranks(values, inside, removal.seed)
    shares = torch.arange(1, removal.steps) / removal.steps
    gone = [places < share for share in shares]
    less = [torch.where(mask, empty, images) for mask in gone]
    more = [torch.where(mask, images, empty) for mask in gone]
    rows = torch.cat([images, empty, *less, *more])  # both ends belong to both curves
    scores = torch.cat([own_scores(subject, some, found) for some in rows.split(removal.batch)]).double()
    whole, none, middle = float(scores[0]), float(scores[1]), scores[2:].tolist()
    if whole <= 0:
        raise InputError(f"{found.name} has no score in its own picture; give an object that was found")
    half = len(gone)
    return Curves((whole, *middle[:half], none), (none, *middle[half:], whole))


def evidence(values: Tensor, box: Box) -> Evidence | None:
    """Return where the evidence for an object lies; None if the map has none.

    Args:
        values: The map, (H, W); what is below 0 is no evidence for it.
        box: x1 y1 x2 y2 in pixels of the map.

    Example:
        >>> evidence(torch.ones(10, 10), (0, 0, 10, 5))
        Evidence(inside=0.5, near=0.1, far=0.4)
    """
    own = values.double().clamp(min=0)
    total = float(own.sum())
    if total <= 0:
        return None
    x1, y1, x2, y2 = box
    wide, high = (NEAR - 1) / 2 * (x2 - x1), (NEAR - 1) / 2 * (y2 - y1)
    inside = float(own[_window(own, box)].sum()) / total
    frame = float(own[_window(own, (x1 - wide, y1 - high, x2 + wide, y2 + high))].sum()) / total
    return Evidence(inside, round(frame - inside, 12), round(1 - frame, 12))


def _window(values: Tensor, box: Box) -> tuple[slice, slice]:
    height, width = values.shape
    x1, y1, x2, y2 = (round(side) for side in box)
    return slice(min(max(y1, 0), height), max(y2, 0)), slice(min(max(x1, 0), width), max(x2, 0))
