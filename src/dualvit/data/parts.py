"""Which of the training samples validate, if a part of them does."""

from collections.abc import Sequence
from typing import TypeVar

from dualvit.errors import InputError

Sample = TypeVar("Sample")


def held_out(samples: Sequence[Sample], every: int, split: str) -> tuple[Sample, ...]:
    """Return the part of the training samples that `split` has if each `every`-th of them validates.

    Raises:
        ValueError: there are fewer than `every`.

    Example:
        >>> held_out("abcde", 2, "train"), held_out("abcde", 2, "val")
        (('a', 'c', 'e'), ('b', 'd'))
    """
    if len(samples) < every:
        remedy = f"at most {len(samples)}" if len(samples) > 1 else "more pictures"
        raise InputError(
            f"one of {every} pictures to train on is held out (hold_out; sweep.every of a comparison), and there "
            f"{'is' if len(samples) == 1 else 'are'} {len(samples)}; give {remedy}"
        )
    validates = split == "val"
    return tuple(sample for index, sample in enumerate(samples, 1) if (index % every == 0) == validates)
