"""The screen's estimates: what is left, and what is shown where rows are few."""

from types import SimpleNamespace

import pytest

pytest.importorskip("pydantic", reason="needs dualvit[recipes] or dualvit[yolo]")

from dualvit.compare.results import Progress
from dualvit.compare.screen import clock, points, remaining, time_left, visible


def cell(label, state, share=0.0, seconds=0.0):
    progress = Progress([], share, seconds)
    return SimpleNamespace(entry=SimpleNamespace(label=label), state=state, progress=lambda: progress)


def test_what_is_left():
    assert time_left(Progress([], 0.25, 10.0)) == pytest.approx(30)
    assert time_left(Progress()) is None
    cells = [cell("a", "done", 1.0, 20.0), cell("a", "waiting"), cell("b", "running", 0.5, 30.0), cell("b", "failed")]
    assert remaining(cells, 2) == pytest.approx((20 + 30) / 2)
    assert remaining([cell("a", "waiting")], 1) is None


def test_few_rows_show_what_runs():
    cells = [cell(str(i), "done") for i in range(8)] + [cell("x", "running"), cell("y", "waiting")]
    assert [one.entry.label for one in visible(cells, 4)] == ["6", "7", "x", "y"]
    assert visible(cells, 10) == cells


def test_words():
    assert (clock(0), clock(75), clock(3675)) == ("", "1:15", "1:01:15")
    assert (points(0.912), points(None)) == ("91.2", "none")
