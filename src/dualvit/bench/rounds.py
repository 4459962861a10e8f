"""Timing in rounds: every step once in each, so that a busy moment or a hot machine meets all of them."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from dualvit.bench.results import Latency, Ratio

LEAST = 5  # rounds, whatever they take
Step = Callable[[], object]


@dataclass(frozen=True)
class Rounds:
    """What was timed.

    Attributes:
        times: Seconds of each step, round by round.
        begun: Seconds from the first round to the start of each.
    """

    times: dict[str, list[float]]
    begun: list[float] = field(default_factory=list)

    def ratio(self, step: str, reference: str) -> Ratio:
        """Return how many times as long a step takes as the reference, taken round by round."""
        return Ratio.of(self.times[step], self.times[reference])

    def ends(self, step: str, seconds: float) -> tuple[Latency, Latency]:
        """Return the latencies of the first and of the last so many seconds; at most each half, at least two rounds."""
        times, whole = self.times[step], self.begun[-1]
        seconds = min(seconds, whole / 2)
        first = sum(begin <= seconds for begin in self.begun)
        last = sum(begin >= whole - seconds for begin in self.begun)
        return Latency.of(times[: max(2, first)]), Latency.of(times[-max(2, last) :])


def in_turn(
    groups: Sequence[Mapping[str, Step]], rounds: int | None = 50, seconds: float = 60.0, warmup: int = LEAST,
    progress: Callable[[int], None] = lambda done: None,
) -> Rounds:  # fmt: skip
    """Time steps in rounds, the groups one after the other in each, the steps of a group in an order that changes.

    What is compared belongs into one group: its steps lie next to each other in time. The order changes because the
    first of a group meets what another library left behind.

    Args:
        groups: Steps by name; a name stands in one group alone.
        rounds: That count; None for as many as the seconds allow.
        seconds: No new round begins after this time, unless fewer than five are done.
        warmup: Rounds before, which do not count.
        progress: Called after each round with how many are done.
    """
    times: dict[str, list[float]] = {name: [] for group in groups for name in group}
    begun: list[float] = []
    order = random.Random(0)
    start, index = time.perf_counter(), -warmup
    while rounds is None or index < rounds:
        if index == 0:
            first = time.perf_counter()
        if index >= LEAST and time.perf_counter() - start > seconds:
            break
        if index >= 0:
            begun.append(time.perf_counter() - first)
        for group in groups:
            for name in order.sample(list(group), len(group)):
                before = time.perf_counter()
                group[name]()
                if index >= 0:
                    times[name].append(time.perf_counter() - before)
        index += 1
        progress(index)
    return Rounds(times, begun)
