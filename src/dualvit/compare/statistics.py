"""What a few seeds can say: spread, paired differences, and which models no other one beats."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """A model minus the reference, seed by seed.

    Attributes:
        mean: The mean difference.
        low: Lower end of the 95 % t interval; None with fewer than two seeds.
        high: Upper end.
        seeds: Pairs.
    """

    mean: float
    low: float | None
    high: float | None
    seeds: int

    def __str__(self) -> str:
        """Return points in 100 with the interval, such as +1.2 (-0.3 to +2.7)."""
        mean = f"{100 * self.mean:+.1f}"
        if self.low is None or self.high is None:
            return mean
        return f"{mean} ({100 * self.low:+.1f} to {100 * self.high:+.1f})"

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation, which a single value does not have.

    Example:
        >>> mean_and_spread([1.0, 3.0])
        (2.0, 1.4142135623730951)
    """
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def paired(model: Mapping[int, float], reference: Mapping[int, float], grain: float = 0.0) -> Difference | None:
    """The difference of two models over the seeds that both have, with a t interval; None without such a seed.

    Args:
        model: For each seed, the value of a model.
        reference: The same of another one.
        grain: The smallest step of a value, such as one picture's share. The standard deviation counts as no
            smaller: two seeds that happen to agree to the picture would otherwise pass for certainty.

    Example:
        >>> paired({0: 3.0, 1: 4.0}, {0: 1.0, 1: 2.0, 2: 9.0}).mean
        2.0
    """
    seeds = sorted(set(model) & set(reference))
    if not seeds:
        return None
    differences = [model[seed] - reference[seed] for seed in seeds]
    mean, deviation = mean_and_spread(differences)
    if deviation is None:
        return Difference(mean, None, None, 1)
    deviation = max(deviation, grain)
    from scipy.stats import t  # type: ignore[import-untyped]

    reach = float(t.ppf((1 + CONFIDENCE) / 2, len(seeds) - 1)) * deviation / math.sqrt(len(seeds))
    return Difference(mean, mean - reach, mean + reach, len(seeds))


def sentence(label: str, reference: str, difference: Difference) -> str:
    """The difference in words, and how sure it is; values are shares, and the words speak of points in 100."""
    points = 100 * difference.mean
    head = f"{label} is {abs(points):.1f} points {'above' if points > 0 else 'below'} {reference}"
    if abs(points) < 0.05:
        head = f"{label} is as good as {reference} to 0.1 points"
    if difference.low is None or difference.high is None:
        return f"{head} with one seed, which cannot tell a real difference from chance."
    interval = f"95 % interval {100 * difference.low:+.1f} to {100 * difference.high:+.1f}, {difference.seeds} seeds"
    if difference.clear:
        return f"{head} ({interval}): larger than the seeds' chance explains."
    return f"{head} ({interval}): the seeds do not tell them apart."


def pareto(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The labels that no other one beats in cost and accuracy at once, from cheap to dear.

    Args:
        points: For each label its cost (less is better) and its accuracy (more is better).

    Example:
        >>> pareto({"a": (1, 0.5), "b": (2, 0.4), "c": (3, 0.9)})
        ['a', 'c']
    """
    front: list[str] = []
    for label in sorted(points, key=lambda label: (points[label][0], -points[label][1])):
        if not front or points[label][1] > points[front[-1]][1]:
            front.append(label)
    return front
