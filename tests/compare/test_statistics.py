"""Statistics in numbers that can be looked up."""

import pytest

from dualvit.compare.statistics import mean_and_spread, paired, pareto, sentence


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


def test_pareto():
    points = {"dear": (9, 0.9), "cheap": (1, 0.5), "beaten": (2, 0.5), "middle": (3, 0.7), "worse": (10, 0.8)}
    assert pareto(points) == ["cheap", "middle", "dear"]
