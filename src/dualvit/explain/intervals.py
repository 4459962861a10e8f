"""Means over boxes with bootstrap intervals over pictures: boxes of one picture are no independent samples."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dualvit.errors import InputError, MissingExtraError

LEVEL = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean over boxes.

    Attributes:
        mean: Each box counts once.
        low, high: The 95 % bootstrap interval over pictures; None with one picture.
        boxes, pictures: How many there are.
    """

    mean: float
    low: float | None
    high: float | None
    boxes: int
    pictures: int

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def interval(values: Iterable[tuple[str, float]], seed: int = 0) -> Interval:
    """Return the mean of the boxes' values and its interval; whole pictures are drawn again.

    The interval is bias-corrected and accelerated; where that is not defined, it is that of the percentiles.

    Args:
        values: Of each box its picture, and its value.
        seed: Of the resampling.

    Raises:
        ValueError: no values.
        ModuleNotFoundError: SciPy is not installed.

    Example:
        >>> interval([("a", 1.0), ("a", 2.0), ("b", 3.0)]).mean
        2.0
    """
    values = list(values)
    names: dict[str, int] = {}
    rows = np.array([names.setdefault(picture, len(names)) for picture, _ in values])
    if not len(rows):
        raise InputError("an interval needs at least one value")
    numbers = np.array([value for _, value in values], float)
    sums, counts = np.bincount(rows, numbers), np.bincount(rows).astype(float)
    mean = float(sums.sum() / counts.sum())
    if len(sums) < 2:
        return Interval(mean, None, None, len(values), 1)
    if np.allclose(numbers, numbers[0], rtol=0, atol=1e-12):
        return Interval(mean, mean, mean, len(values), len(sums))
    low, high = _bounds(sums, counts, seed)
    return Interval(mean, low, high, len(values), len(sums))


def _bounds(sums: Any, counts: Any, seed: int) -> tuple[float, float]:
    try:
        from scipy.stats import bootstrap  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        raise MissingExtraError("bootstrap intervals need SciPy; install dualvit[explain]") from None

    def mean(sums: Any, counts: Any, axis: int = -1) -> Any:
        return sums.sum(axis) / counts.sum(axis)

    low = high = float("nan")
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a degenerate distribution, which is looked at here
            found = bootstrap(
                (sums, counts), mean, paired=True, vectorized=True, n_resamples=RESAMPLES, method=method,
                confidence_level=LEVEL, random_state=np.random.default_rng(seed),
            ).confidence_interval  # fmt: skip
        low, high = float(found.low), float(found.high)
        if np.isfinite([low, high]).all():
            break
    return low, high
