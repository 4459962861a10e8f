"""Bootstrap intervals over pictures cover the truth about as often as they say."""

import numpy as np
import pytest

from dualvit.explain import intervals
from dualvit.explain.intervals import interval


def test_the_interval_covers_the_true_mean(monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 400)
    rng, hits, rounds = np.random.default_rng(0), 0, 60
    for _ in range(rounds):
        pictures = rng.normal(0.3, 0.2, 40)
        values = [(str(p), mean + rng.normal(0, 0.1)) for p, mean in enumerate(pictures) for _ in range(2)]
        found = interval(values)
        hits += found.low <= 0.3 <= found.high
    assert 0.85 <= hits / rounds <= 1.0


def test_boxes_of_one_picture_do_not_count_as_many():
    rng = np.random.default_rng(0)
    pictures = rng.normal(0, 1, 20)
    once = interval((str(p), value) for p, value in enumerate(pictures))
    often = interval((str(p), value) for p, value in enumerate(pictures) for _ in range(25))
    assert often.high - often.low == pytest.approx(once.high - once.low, rel=0.1)
    assert (often.boxes, often.pictures) == (500, 20)


def test_borders():
    alone = interval([("a", 0.5), ("a", 0.7)])
    assert (alone.mean, alone.low, alone.high) == (pytest.approx(0.6), None, None)
    assert str(alone) == "0.600"
    same = interval([("a", 0.5), ("b", 0.5)])
    assert (same.low, same.high) == (0.5, 0.5)
    assert same.clear
    two = interval([("a", 0.0), ("b", 1.0)])
    assert 0 <= two.low <= 0.5 <= two.high <= 1
    with pytest.raises(ValueError, match="at least one"):
        interval([])


def test_a_seed_repeats():
    values = [(str(number), number % 7 / 7) for number in range(30)]
    assert interval(values, seed=1) == interval(values, seed=1)
