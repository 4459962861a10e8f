"""D-RISE: what a score keeps when random parts of the picture are dark (Petsiuk et al., 2021, arXiv 2006.03204)."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dualvit.errors import InputError
from dualvit.explain.subject import Found, Subject, View, own_scores

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Masks:
    """Random masks, as section 3.2 of the paper has them.

    Attributes:
        count: How many; each is a forward pass. The paper has 5000.
        grid: Cells per side of the coarse mask that is enlarged.
        share: Probability that a cell stays visible.
        seed: Decides all of them.
        batch: How many at once; it changes the memory, and nothing else.
    """

    count: int = 1000
    grid: int = 16
    share: float = 0.5
    seed: int = 0
    batch: int = 32

    def __post_init__(self) -> None:
        for name in ("count", "grid", "batch"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} of D-RISE's masks is {getattr(self, name)}, below 1; give 1 or more")
        if not 0 < self.share < 1:
            raise InputError(f"share of D-RISE's masks is {self.share}, not between 0 and 1; try 0.5")

    def batches(self, height: int, width: int) -> Iterator[Tensor]:
        """Yield the masks, (B, 1, height, width) between 0 and 1; the same ones whatever the batch.

        Example:
            >>> sum(len(masks) for masks in Masks(count=70).batches(64, 96))
            70
        """
        generator = torch.Generator().manual_seed(self.seed)
        for first in range(0, self.count, self.batch):
            some = min(self.batch, self.count - first)
            yield torch.stack([self._mask(height, width, generator) for _ in range(some)])

    def _mask(self, height: int, width: int, generator: torch.Generator) -> Tensor:
        """A coarse mask, enlarged by one cell more than needed, of which a random part is cut out: (1, H, W)."""
        rows, columns = math.ceil(height / self.grid), math.ceil(width / self.grid)
        coarse = (torch.rand(1, 1, self.grid, self.grid, generator=generator) < self.share).float()
        size = ((self.grid + 1) * rows, (self.grid + 1) * columns)
        fine = F.interpolate(coarse, size, mode="bilinear", align_corners=False)[0].clamp(max=1)  # of rounding
        top = int(torch.randint(0, rows + 1, (), generator=generator))
        left = int(torch.randint(0, columns + 1, (), generator=generator))
        return fine[:, top : top + height, left : left + width]


@torch.no_grad()
def drise(
    subject: Subject, view: View, found: Found, masks: Masks | None = None, progress: Progress | None = None
) -> Tensor:
    """Return how much the score of an object rises when a spot of the images is visible: (H, W), in units of the score.

    The map of the paper is the mean of the masks, weighted by the scores under them (equation 5). This one is the
    covariance of masks and scores over the variance of a cell: the same map but for a factor and a constant, with
    less noise, and 0 means no influence. A score is `own_scores`; what a mask covers becomes 0. The memory depends on
    the batch, and not on the number of masks.

    Args:
        subject: What is explained.
        view: The picture as it sees it.
        found: The object or class.
        masks: Their settings.
        progress: Called with (done, total) after each batch.
    """
    masks = masks or Masks()
    height, width = view.images.shape[2:]
    weighted, visible = torch.zeros(height, width), torch.zeros(height, width)
    total, done = 0.0, 0
    for some in masks.batches(height, width):
        scores = own_scores(subject, view.images * some, found).float()
        weighted += torch.tensordot(scores, some[:, 0], 1)
        visible += some[:, 0].sum(0)
        total += float(scores.sum())
        done += len(some)
        if progress is not None:
            progress(done, masks.count)
    covariance = weighted / done - (total / done) * (visible / done)
    return covariance / (masks.share * (1 - masks.share))
