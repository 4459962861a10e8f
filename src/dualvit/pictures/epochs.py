"""Losses and scores over the epochs of a training."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

from dualvit.pictures.curves import line_colour, scaled, styled
from dualvit.pictures.palette import INK, SOFT, legible, render

MARKED = 30  # epochs up to which each has a dot


@dataclass(frozen=True)
class Line:
    """A value over epochs.

    Attributes:
        label: In the legend.
        epochs, values: As many each; a NaN is a gap.
    """

    label: str
    epochs: Sequence[float]
    values: Sequence[float]


def over_epochs(lines: Sequence[Line], best: float | None = None) -> bytes:
    """Return lines over epochs as SVG.

    Args:
        lines: In the order of the legend.
        best: The epoch that is marked; None marks none.

    Example:
        >>> over_epochs([Line("loss", [1, 2], [0.9, 0.5])])[:5]
        b'<?xml'
    """
    with styled(4.7, 3.0) as figure:
        axes = figure.subplots()
        for index, line in enumerate(lines):
            dots = "o" if len(line.epochs) <= MARKED else None
            axes.plot(
                line.epochs, line.values, marker=dots, markersize=3.5, linewidth=1.7, color=line_colour(index),
                label=legible(line.label),
            )  # fmt: skip
        scaled(axes)
        if best is not None:
            axes.axvline(best, color=INK, linewidth=0.9, linestyle=(0, (3, 3)), zorder=1, label="best epoch")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        epochs = [epoch for line in lines for epoch in line.epochs]
        if epochs and min(epochs) == max(epochs):
            axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
        axes.set_xlabel("epoch")
        figure.legend(
            loc="outside upper left", ncols=3, frameon=False, fontsize=9, handlelength=1.6, columnspacing=1.2,
            labelcolor=SOFT,
        )  # fmt: skip
        return render(figure, "svg")["svg"]
