"""What a few seeds can say: spread, paired differences of many models, what they cannot see, and who is beaten."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from dualvit.errors import InputError

LEVEL = 0.05  # of a false winner, over all comparisons of a report
POWER = 0.8  # with which the smallest visible difference is seen


@dataclass(frozen=True)
class Difference:
    """A model minus the reference, seed by seed.

    Attributes:
        mean: The mean difference.
        low: Lower end of the 95 % t interval; None with fewer than two seeds.
        high: Upper end.
        seeds: Pairs.
        deviation: Sample standard deviation of the differences; None with one.
        p: Probability of a mean so far from zero by chance; None with one.
        comparisons: Among how many this one stands; more than one make the interval wider, by Holm's method.
    """

    mean: float
    low: float | None
    high: float | None
    seeds: int
    deviation: float | None = None
    p: float | None = None
    comparisons: int = 1

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


def paired(
    model: Mapping[int, float], reference: Mapping[int, float], grain: float = 0.0, level: float = LEVEL
) -> Difference | None:
    """The difference of two models over the seeds that both have, with a t interval; None without such a seed.

    Args:
        model: For each seed, the value of a model.
        reference: The same of another one.
        grain: The smallest step of a value, such as one picture's share. The standard deviation counts as no
            smaller: two seeds that happen to agree to the picture would otherwise pass for certainty.
        level: The share of intervals that may miss.

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

    free, error = len(seeds) - 1, deviation / math.sqrt(len(seeds))
    reach = float(t.isf(level / 2, free)) * error
    p = float(2 * t.sf(abs(mean) / error, free)) if error else float(mean == 0)
    return Difference(mean, mean - reach, mean + reach, len(seeds), deviation, p)


def against(
    values: Mapping[str, Mapping[int, float]], reference: str, fixed: bool, grain: float = 0.0
) -> dict[str, Difference]:
    """Return the difference of each model to the reference, with intervals that hold for all of them at once.

    Holm's method: the k-th smallest of m probabilities is held against the level over m + 1 - k, and counts only if
    all smaller ones do. If the reference was chosen by its score, it was compared with all models, and these with
    each other: m are all pairs.

    Args:
        values: For each model, its score for each seed.
        reference: A model.
        fixed: Whether the reference was named beforehand.
        grain: See `paired`.

    Example:
        >>> found = against({"a": {0: 0.5, 1: 0.52}, "b": {0: 0.4, 1: 0.45}, "c": {0: 0.5, 1: 0.5}}, "a", fixed=True)
        >>> list(found), found["b"].comparisons
        (['b', 'c'], 2)
    """
    others = [label for label in values if label != reference]
    pairs = [(label, reference) for label in others]
    if not fixed:
        pairs += list(combinations(others, 2))
    raw = {pair: one for pair in pairs if (one := paired(values[pair[0]], values[pair[1]], grain))}
    factors = _holm({pair: one.p for pair, one in raw.items() if one.p is not None})
    found = {}
    for label in others:
        pair = label, reference
        if pair in factors:
            one = paired(values[label], values[reference], grain, LEVEL / factors[pair])
            assert one is not None
            found[label] = replace(one, comparisons=len(factors))
        elif pair in raw:
            found[label] = raw[pair]
    return found


def _holm(probabilities: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    """By what each probability is multiplied, so that it is one among all; at least 1."""
    factors, largest, count = {}, 0.0, len(probabilities)
    for index, (pair, p) in enumerate(sorted(probabilities.items(), key=lambda item: item[1])):
        largest = max(largest, (count - index) * p)
        factors[pair] = max(largest / p, 1.0) if p else float(count - index)
    return factors


def visible(differences: Iterable[Difference]) -> float | None:
    """Return the smallest true difference that these comparisons would see four times of five.

    It follows from the spread of the differences, taken together, from the seeds and from the number of comparisons;
    the first step of Holm's method counts. None if no model has two seeds.
    """
    known = [one for one in differences if one.deviation is not None]
    if not known:
        return None
    from scipy.optimize import brentq  # type: ignore[import-untyped]
    from scipy.stats import nct, t

    deviation = math.sqrt(statistics.fmean(one.deviation**2 for one in known if one.deviation is not None))
    seeds, comparisons = min(one.seeds for one in known), max(one.comparisons for one in known)
    limit = float(t.isf(LEVEL / comparisons / 2, seeds - 1))
    shift = brentq(lambda value: nct.sf(limit, seeds - 1, value) - POWER, 0, 20 * limit + 20)
    return float(shift) * deviation / math.sqrt(seeds)


@dataclass(frozen=True)
class Rank:
    """The mean place of a model over data sets: 1 is the best one's, and equals share theirs.

    Attributes:
        mean: Over the sets, by the mean over seeds in each.
        low: Lower end of the 95 % interval.
        high: Upper end.
    """

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return the mean with the interval, such as 1.50 (1.00 to 2.00)."""
        return f"{self.mean:.2f} ({self.low:.2f} to {self.high:.2f})"


def mean_ranks(
    sets: Mapping[str, Mapping[str, Mapping[int, float]]], draws: int = 10_000, seed: int = 0
) -> dict[str, Rank]:
    """Rank models on each data set, and return each one's mean rank over the sets.

    The interval is that of a bootstrap that draws the sets anew, and in each of them the seeds. A handful of sets
    spans little of what sets there are, so with fewer than about ten the interval is rather too narrow.

    Args:
        sets: For each data set and each model, its score for each seed; more is better. All sets have all models.
        draws: Of the bootstrap.
        seed: Of the draws.

    Raises:
        ValueError: a set lacks a model, or models of a set share no seed.

    Example:
        >>> ranks = mean_ranks({"a": {"x": {0: 0.5}, "y": {0: 0.4}}, "b": {"x": {0: 0.6}, "y": {0: 0.2}}})
        >>> str(ranks["x"]), str(ranks["y"])
        ('1.00 (1.00 to 1.00)', '2.00 (2.00 to 2.00)')
    """
    import numpy as np
    from scipy.stats import rankdata

    labels = list(dict.fromkeys(label for scores in sets.values() for label in scores))
    rng, whole, drawn = np.random.default_rng(seed), [], []
    for name, scores in sets.items():
        if lacking := [label for label in labels if label not in scores]:
            raise InputError(f"{name} has no row {lacking[0]!r}; rank models that all sets have")
        seeds = sorted(set.intersection(*(set(scores[label]) for label in labels)))
        if not seeds:
            raise InputError(f"the rows of {name} share no seed; run them with the same seeds")
        values = np.array([[scores[label][one] for one in seeds] for label in labels])
        chosen = rng.integers(len(seeds), size=(draws, len(seeds)))
        whole.append(rankdata(-values.mean(1)))
        drawn.append(rankdata(-values[:, chosen].mean(2), axis=0))  # models x draws
    places = np.stack(drawn)  # sets x models x draws
    chosen = rng.integers(len(sets), size=(draws, len(sets)))
    means = places[chosen, :, np.arange(draws)[:, None]].mean(1)  # draws x models
    low, high = np.quantile(means, (LEVEL / 2, 1 - LEVEL / 2), axis=0)
    mean = np.mean(whole, axis=0)
    return {label: Rank(float(mean[i]), float(low[i]), float(high[i])) for i, label in enumerate(labels)}


def sentence(label: str, reference: str, difference: Difference) -> str:
    """The difference in words, and how sure it is; values are shares, and the words speak of points in 100."""
    points = 100 * difference.mean
    head = f"{label} is {abs(points):.1f} points {'above' if points > 0 else 'below'} {reference}"
    if abs(points) < 0.05:
        head = f"{label} is as good as {reference} to 0.1 points"
    if difference.low is None or difference.high is None:
        return f"{head} with one seed, which cannot tell a real difference from chance."
    interval = f"95 % interval {100 * difference.low:+.1f} to {100 * difference.high:+.1f}, {difference.seeds} seeds"
    if difference.comparisons > 1:
        interval += f", {difference.comparisons} comparisons"
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
