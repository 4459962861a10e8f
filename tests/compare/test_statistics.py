"""Statistics in numbers that can be looked up."""

import random

import pytest

from dualvit.compare.statistics import against, mean_and_spread, mean_ranks, paired, pareto, sentence, visible
from dualvit.errors import InputError


def test_spread_is_the_sample_standard_deviation():
    assert mean_and_spread([1.0, 2.0, 3.0]) == (2.0, 1.0)
    assert mean_and_spread([5.0]) == (5.0, None)


def test_t_interval_over_pairs():
    """t(0.975, 2) is 4.302653; differences 1, 2, 3 have standard deviation 1."""
    difference = paired({0: 2.0, 1: 4.0, 2: 6.0}, {0: 1.0, 1: 2.0, 2: 3.0, 7: 100.0})
    assert difference.seeds == 3
    assert difference.mean == 2.0
    assert (difference.low, difference.high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))
    assert not difference.clear
    assert paired({0: 1.0}, {1: 1.0}) is None


def test_pairs_beat_means():
    """Seeds that move both models alike do not blur their difference."""
    model, reference = {0: 0.50, 1: 0.70, 2: 0.901}, {0: 0.48, 1: 0.68, 2: 0.88}
    assert paired(model, reference).clear


def test_agreement_to_the_picture_is_no_certainty():
    same = {0: 0.50, 1: 0.52}, {0: 0.48, 1: 0.50}
    assert paired(*same).clear
    coarse = paired(*same, grain=0.01)
    assert not coarse.clear
    assert coarse.high - coarse.mean == pytest.approx(12.7062 * 0.01 / 2**0.5, rel=1e-4)


def test_sentences():
    assert "one seed, which cannot tell" in sentence("a", "b", paired({0: 0.5}, {0: 0.4}))
    clear = sentence("a", "b", paired({0: 0.50, 1: 0.51, 2: 0.52}, {0: 0.40, 1: 0.412, 2: 0.42}))
    assert clear.startswith("a is 9.9 points above b (95 % interval +9.6 to +10.2, 3 seeds): larger than")
    open_ = sentence("a", "b", paired({0: 0.4, 1: 0.6}, {0: 0.5, 1: 0.6}))
    assert open_.startswith("a is 5.0 points below b")
    assert open_.endswith("the seeds do not tell them apart.")
    assert sentence("a", "b", paired({0: 0.4, 1: 0.6}, {0: 0.4, 1: 0.6})).startswith("a is as good as b")


def test_holms_intervals():
    """Two comparisons: the clearer one is held against 0.025, t(0.9875, 2) = 6.2053, the other against 0.05."""
    values = {
        "r": {0: 0.0, 1: 0.0, 2: 0.0}, "a": {0: 0.09, 1: 0.10, 2: 0.11}, "b": {0: 0.0, 1: 0.02, 2: 0.04},
    }  # fmt: skip
    found = against(values, "r", fixed=True)
    assert found["a"].high - found["a"].mean == pytest.approx(6.2053 * 0.01 / 3**0.5, rel=1e-4)
    assert found["b"].high - found["b"].mean == pytest.approx(4.302653 * 0.02 / 3**0.5, rel=1e-4)
    assert found["a"].clear and not found["b"].clear
    assert {one.comparisons for one in found.values()} == {2}


def test_after_the_first_that_fails_none_is_clear():
    """b alone would pass at 0.05; but the clearer a fails at 0.025, and b cannot pass where a did not."""
    a, b = ({seed: mean + step for seed, step in enumerate((-0.01, 0.0, 0.01))} for mean in (0.0355, 0.0350))
    zero = dict.fromkeys(range(3), 0.0)
    assert paired(a, zero).clear and paired(b, zero).clear
    assert not any(one.clear for one in against({"r": zero, "a": a, "b": b}, "r", fixed=True).values())


def test_a_reference_that_was_chosen_by_its_score_counts_all_pairs():
    values = {label: {0: value, 1: value + 0.01} for label, value in zip("abcd", (0.1, 0.2, 0.3, 0.4), strict=True)}
    assert {one.comparisons for one in against(values, "d", fixed=False).values()} == {6}
    assert {one.comparisons for one in against(values, "d", fixed=True).values()} == {3}


def test_equal_models_have_no_winner():
    """Of 200 reports on four equal models, at most one in 20 names a winner, within what chance allows."""
    draw, false = random.Random(0), 0
    for _ in range(200):
        values = {label: {seed: draw.gauss(0.5, 0.01) for seed in range(3)} for label in "abcd"}
        best = max(values, key=lambda label: sum(values[label].values()))
        false += any(one.clear for one in against(values, best, fixed=False).values())
    assert false <= 16  # 10 are expected at most; 17 or more have a probability of 0.03


def test_the_smallest_difference_that_is_seen():
    """By simulation: a true difference of that size is clear in four of five trials."""
    draw, seen = random.Random(1), 0
    size = visible([paired({0: 0.0, 1: 0.01, 2: 0.02, 3: 0.03}, dict.fromkeys(range(4), 0.0))])
    spread = 0.01 * (5 / 3) ** 0.5
    for _ in range(300):
        seen += paired({seed: draw.gauss(size, spread) for seed in range(4)}, dict.fromkeys(range(4), 0.0)).clear
    assert 0.74 < seen / 300 < 0.86
    assert visible([paired({0: 1.0}, {0: 2.0})]) is None


def test_pareto():
    points = {"dear": (9, 0.9), "cheap": (1, 0.5), "beaten": (2, 0.5), "middle": (3, 0.7), "worse": (10, 0.8)}
    assert pareto(points) == ["cheap", "middle", "dear"]


def test_mean_ranks_by_hand():
    """Places 1, 2, 3 and 2, 1, 3: the means are 1.5, 1.5 and 3; the third is last in every draw."""
    first = {"a": {0: 0.9, 1: 0.8}, "b": {0: 0.6, 1: 0.7}, "c": {0: 0.1, 1: 0.2}}
    second = {"a": {0: 0.6, 1: 0.5}, "b": {0: 0.8, 1: 0.9}, "c": {0: 0.1, 1: 0.1}}
    ranks = mean_ranks({"first": first, "second": second})
    assert [ranks[label].mean for label in "abc"] == [1.5, 1.5, 3.0]
    assert (ranks["c"].low, ranks["c"].high) == (3.0, 3.0)
    assert (ranks["a"].low, ranks["a"].high) == (1.0, 2.0)  # one set drawn twice, a quarter of the draws each
    assert mean_ranks({"first": {"a": {0: 0.5}, "b": {0: 0.5}}})["b"].mean == 1.5  # equals share their places


def test_more_sets_narrow_the_interval():
    """Two models that win in turn: a mean rank of 1.5, whose interval is 1.96 / sqrt(sets) wide, and 1 at most."""

    def width(count):
        sets = {str(one): {"a": {0: one % 2}, "b": {0: (one + 1) % 2}} for one in range(count)}
        rank = mean_ranks(sets)["a"]
        assert rank.mean == 1.5
        return rank.high - rank.low

    assert width(4) == 1.0
    assert width(100) == pytest.approx(0.196, abs=0.015)


def test_seeds_count():
    """On one set with seeds that disagree, the interval is of the seeds."""
    rank = mean_ranks({"one": {"a": {0: 0.9, 1: 0.1}, "b": {0: 0.4, 1: 0.4}}})["a"]
    assert (rank.mean, rank.low, rank.high) == (1.0, 1.0, 2.0)


def test_what_cannot_be_ranked_is_one_line():
    with pytest.raises(InputError, match=r"^trees has no row 'b'; rank models that all sets have$"):
        mean_ranks({"cells": {"a": {0: 1.0}, "b": {0: 2.0}}, "trees": {"a": {0: 1.0}}})
    with pytest.raises(InputError, match=r"^the rows of cells share no seed; run them with the same seeds$"):
        mean_ranks({"cells": {"a": {0: 1.0}, "b": {1: 2.0}}})
