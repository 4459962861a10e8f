"""The randomisation check: a map of a trained network must change when the weights do (Adebayo et al., 2018)."""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from dualvit.errors import InputError, MissingExtraError, line_of
from dualvit.explain.curves import inside_of
from dualvit.explain.intervals import Interval, interval
from dualvit.explain.methods import Method
from dualvit.explain.subject import Found, Subject, View

Case = tuple[str, View, Found]  # a picture's name, how it is seen, and an object in it


@dataclass(frozen=True)
class Randomised:
    """How alike a method's maps are, before and after weights were drawn anew.

    Attributes:
        method: Its name.
        shares: Of the layers whose weights are new, from the head down.
        spearman, pearson: Correlation of the maps at each share; a faithful method's falls.
        failure: Why there are no more of them; None if all is well.
    """

    method: str
    shares: tuple[float, ...]
    spearman: tuple[Interval, ...]
    pearson: tuple[Interval, ...]
    failure: str | None = None

    @property
    def falls(self) -> bool:
        """Whether maps of new weights throughout have less than half of their order in common with the old ones."""
        return bool(self.spearman) and (self.spearman[-1].high or self.spearman[-1].mean) < 0.5

    def plain(self) -> dict[str, Any]:
        """Return all of it as JSON holds it."""
        return asdict(self) | {"falls": self.falls}


def randomised(subject: Subject, cases: Sequence[Case], method: Method, levels: int = 5, seed: int = 0) -> Randomised:
    """Draw weights anew, from the head down and each time those before as well, and compare a method's maps.

    Args:
        subject: The network; it is left as it is.
        cases: Objects in pictures.
        method: What explains.
        levels: In how many steps all layers become new.
        seed: Of the weights.

    Raises:
        ValueError: no cases, or no levels.
    """
    if not cases or levels < 1:
        raise InputError(f"{len(cases)} objects and {levels} levels; give one or more of each")
    found: list[tuple[float, list[tuple[str, float, float]]]] = []
    failure = None
    try:
        before = [method.map(subject, view, one) for _, view, one in cases]
        for share, other in networks(subject, levels, seed):
            rows = []
            for (picture, view, one), old in zip(cases, before, strict=True):
                new = method.map(other, view, relocated(other, view, one))
                inside = inside_of(view)
                rows.append((picture, *correlations(old[inside], new[inside])))
            found.append((share, rows))
    except Exception as error:  # whatever a method raises on a network that it does not fit
        failure = line_of(error)
    return Randomised(
        method.name,
        tuple(share for share, _ in found),
        tuple(interval((row[0], row[1]) for row in rows) for _, rows in found),
        tuple(interval((row[0], row[2]) for row in rows) for _, rows in found),
        failure,
    )


def networks(subject: Subject, levels: int, seed: int) -> Iterator[tuple[float, Subject]]:
    """Yield the subject with more and more new weights, each with the share of layers that have them.

    Layers are modules with parameters of their own, in the order in which the network names them. Each tensor is drawn
    from a normal distribution with its own mean and deviation, so that the network keeps its scale.
    """
    other: Any = copy.copy(subject)
    other.network = copy.deepcopy(subject.network)
    layers = [module for module in other.network.modules() if any(True for _ in module.parameters(recurse=False))]
    generator, done = torch.Generator().manual_seed(seed), 0
    for level in range(1, levels + 1):
        until = round(len(layers) * level / levels)
        for module in layers[::-1][done:until]:
            _draw(module, generator)
        done = until
        yield level / levels, other


@torch.no_grad()
def _draw(module: nn.Module, generator: torch.Generator) -> None:
    for parameter in module.parameters(recurse=False):
        noise = torch.randn(parameter.shape, generator=generator).to(parameter)
        deviation = parameter.std() if parameter.numel() > 1 else parameter.abs()
        parameter.copy_(parameter.mean() + deviation * noise)


@torch.no_grad()
def relocated(subject: Subject, view: View, found: Found) -> Found:
    """Return an object as a network with other weights answers it: its box with the largest IoU times score.

    Raises:
        ValueError: there is no box at all.
    """
    answers = subject.answers(subject.network(view.images))[0]
    if answers.boxes is None:
        return found
    if not len(answers.boxes):
        raise InputError(f"with new weights, there is no box to ask for {found.name}")
    overlaps = box_iou(answers.boxes, answers.boxes.new_tensor([found.box]))[:, 0]
    return replace(found, index=int((overlaps * answers.scores[:, found.label]).argmax()))


def correlations(one: Tensor, two: Tensor) -> tuple[float, float]:
    """Return Spearman's and Pearson's correlation of two maps; 0 if one of them is the same everywhere.

    Example:
        >>> correlations(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 4.0, 9.0]))[0] > 0.999
        True
    """
    try:
        from scipy.stats import spearmanr  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        raise MissingExtraError("the randomisation check needs SciPy; install dualvit[explain]") from None
    first, second = one.double().flatten().numpy(), two.double().flatten().numpy()
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0, 0.0
    pair = float(spearmanr(first, second).statistic), float(np.corrcoef(first, second)[0, 1])
    return pair[0] if math.isfinite(pair[0]) else 0.0, pair[1] if math.isfinite(pair[1]) else 0.0
