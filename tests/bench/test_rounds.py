"""Rounds: every step once in each, orders that change, an end by the clock, and ratios that a busy moment leaves."""

import pytest

from dualvit.bench import rounds
from dualvit.bench.results import Ratio
from dualvit.bench.rounds import Rounds, in_turn


@pytest.fixture
def clock(monkeypatch):
    """A clock that steps alone move."""
    now = [0.0]
    monkeypatch.setattr(rounds.time, "perf_counter", lambda: now[0])
    return now


def steps(clock, seconds, calls):
    def step(name, takes):
        def run():
            calls.append(name)
            clock[0] += takes * (10 if clock[0] > 100 else 1)  # the machine becomes ten times as slow

        return run

    return {name: step(name, takes) for name, takes in seconds.items()}


def test_every_step_once_a_round_and_groups_stay_together(clock):
    calls = []
    groups = [steps(clock, {"a": 1.0, "b": 2.0, "c": 4.0}, calls), steps(clock, {"d": 0.5}, calls)]
    found = in_turn(groups, rounds=8, seconds=1e9, warmup=2)
    each = [calls[index : index + 4] for index in range(0, len(calls), 4)]
    assert len(each) == 10
    assert all(sorted(one[:3]) == ["a", "b", "c"] and one[3] == "d" for one in each)
    assert len({one[0] for one in each}) == 3  # none is always the first
    assert {name: len(times) for name, times in found.times.items()} == dict.fromkeys("abcd", 8)
    assert found.begun == pytest.approx([7.5 * index for index in range(8)])


def test_ratios_leave_a_slow_moment_as_it_is(clock):
    found = in_turn([steps(clock, {"a": 1.0, "b": 2.0}, [])], rounds=60, seconds=1e9)
    assert max(found.times["a"]) == 10 * min(found.times["a"])
    ratio = found.ratio("b", "a")
    assert (ratio.median, ratio.low, ratio.high, ratio.rounds) == (2.0, 2.0, 2.0, 60)
    first, last = found.ends("b", 60.0)
    assert (first.median, last.median) == (2000, 20000)
    assert first.repeats == sum(begin <= 60 for begin in found.begun)


def test_no_round_begins_after_its_time_but_five_are_done(clock):
    assert len(in_turn([steps(clock, {"a": 1.0}, [])], None, seconds=20, warmup=3).times["a"]) == 18
    assert len(in_turn([steps(clock, {"a": 1.0}, [])], None, seconds=0).times["a"]) == 5


def test_ends_of_a_short_run_do_not_overlap():
    found = Rounds({"a": [1.0, 1.0, 3.0, 3.0]}, [0.0, 1.0, 2.0, 5.0])
    first, last = found.ends("a", 60)
    assert (first.median, first.repeats, last.median, last.repeats) == (1000, 3, 3000, 2)


def test_a_ratio_is_of_rounds_and_not_of_medians():
    assert Ratio.of([1.0, 2.0, 30.0], [1.0, 1.0, 10.0]).median == 2.0
    with pytest.raises(ValueError):
        Ratio.of([1.0, 2.0], [1.0])
