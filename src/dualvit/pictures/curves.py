"""Curves: accuracy against cost, each model labelled where it stands, with the Pareto front; time over image size."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from dualvit.names import shortened
from dualvit.pictures.palette import ACCENT, INK, LINE, PAPER, SERIES, SOFT, STYLE, legible, render

OFFSETS = [  # of a label from its point, in points; above and to the left is free of the front, below and to
    # the right too for what is not on it
    (-8, 9), (9, -9), (0, 12), (0, -13), (9, 9), (-9, -9), (10, 0), (-10, 0), (-8, 22), (8, -22), (8, 22), (-8, -22),
]  # fmt: skip
DASHES: Any = ("-", "--", "-.", ":", (0, (1, 1)))
MARKERS = "osD^v"


@dataclass(frozen=True)
class Curve:
    """Milliseconds of a picture at each image size.

    Attributes:
        label: In the legend.
        sizes: Sides of the images in pixels, ascending.
        times: One for each size.
        model: Which model it is, counted from 0: the colour.
        precision: Which precision, counted from 0: dashes and markers.
    """

    label: str
    sizes: tuple[int, ...]
    times: tuple[float, ...]
    model: int
    precision: int


@contextmanager
def styled(width: float, height: float) -> Iterator[Figure]:
    """Yield a figure of this size in inches, in the palette's style."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield Figure(figsize=(width, height), layout="constrained")


def time_over_size(curves: Sequence[Curve], what: str, title: str) -> dict[str, bytes]:
    """Return the picture of times over image sizes, as `svg` and `png`.

    Args:
        curves: In the order of the legend.
        what: Was timed, such as "inference".
        title: Above the picture.
    """
    with styled(8.2, 5.2) as figure:
        axes = figure.subplots()
        for curve in curves:
            kind = curve.precision % len(DASHES)
            axes.plot(
                curve.sizes, curve.times, marker=MARKERS[kind], markersize=5, linewidth=1.7, linestyle=DASHES[kind],
                color=line_colour(curve.model), label=legible(curve.label),
            )  # fmt: skip
        sizes = sorted({size for curve in curves for size in curve.sizes})
        scaled(axes)
        _logarithmic(axes, "y")
        axes.set_xscale("log")
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("side of the image, pixels")
        axes.set_ylabel(f"{what}, milliseconds per image")
        axes.legend(frameon=False, fontsize=9, loc="upper left", handlelength=3)
        axes.set_title(legible(title), loc="left", fontsize=9, color=SOFT)
        return render(figure)


def line_colour(model: int) -> str:
    """Return the palette's colour of a line; yellow cannot be seen on white."""
    lines = (*SERIES[:-1], INK)
    return lines[model % len(lines)]


def accuracy_against_cost(summary: dict[str, Any]) -> dict[str, bytes]:
    """Return a comparison's picture as `svg` and `png`: accuracy against multiply-adds, and against latency."""
    with styled(11, 4.8) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        rows = summary["rows"]
        name = {"top1": "top-1 accuracy"}.get(summary["metric"], summary["metric"])
        left.set_ylabel(f"{name}, %")
        unit, word = (1e9, "billions") if max(r["macs"] for r in rows) >= 1e9 else (1e6, "millions")
        size = summary["config"]["image_size"]
        _panel(
            left, rows, "macs", [r["macs"] / unit for r in rows], f"multiply-adds of a {size}x{size} picture, {word}"
        )
        _panel(right, rows, "latency", [r["latency"]["median"] for r in rows], "latency of one picture, milliseconds")
        right.tick_params(left=False)
        more = "; bars: standard deviation over seeds" if any(r["spread"] for r in rows) else ""
        left.set_title(f"coloured: Pareto front, nothing cheaper is better{more}", loc="left", fontsize=9, color=SOFT)
        return render(figure)


def _panel(axes: Axes, rows: Sequence[dict[str, Any]], cost: str, costs: Sequence[float], title: str) -> None:
    """One cost: points with their spread, the front as steps, and labels."""
    accuracy = [100 * row["accuracy"] for row in rows]
    front = {index for index, row in enumerate(rows) if row[f"pareto_{cost}"]}
    _scale(axes, costs, accuracy)
    axes.set_xlabel(title)
    corners = sorted((costs[index], accuracy[index]) for index in front)
    edge = axes.get_xlim()[1]
    axes.step(
        [x for x, _ in corners] + [edge], [y for _, y in corners] + [corners[-1][1]],
        where="post", color=ACCENT, linewidth=1.4, alpha=0.55, zorder=1,
    )  # fmt: skip
    for index, row in enumerate(rows):
        colour = ACCENT if index in front else SOFT
        spread = None if row["spread"] is None else 100 * row["spread"]
        axes.errorbar(
            costs[index], accuracy[index], yerr=spread, fmt="o", markersize=7, color=colour, ecolor=colour,
            elinewidth=1.1, markeredgecolor=PAPER, markeredgewidth=1, zorder=3,
        )  # fmt: skip
    _label(axes, rows, costs, accuracy, front)


def _scale(axes: Axes, costs: Sequence[float], accuracy: Sequence[float]) -> None:
    scaled(axes)
    low, high = min(costs), max(costs)
    if high > 4 * low:
        _logarithmic(axes, "x")
        reach = (high / low) ** 0.18
        axes.set_xlim(low / reach, high * reach)
    else:
        reach = 0.22 * (high - low or high)
        axes.set_xlim(max(0, low - reach), high + reach)
    axes.margins(y=0.2)
    if max(accuracy) == min(accuracy):
        axes.set_ylim(accuracy[0] - 1, accuracy[0] + 1)


def scaled(axes: Axes) -> None:
    """Give axes two spines and a pale grid behind everything."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=LINE, linewidth=0.7)
    axes.set_axisbelow(True)


def _logarithmic(axes: Axes, side: str) -> None:
    """A logarithmic axis with plain numbers at 1, 2, 5."""
    axes.set(**{f"{side}scale": "log"})
    axis = getattr(axes, f"{side}axis")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _label(
    axes: Axes, rows: Sequence[dict[str, Any]], costs: Sequence[float], accuracy: Sequence[float], front: set[int]
) -> None:
    """Put each label where it covers the fewest points and other labels."""
    figure = axes.figure
    figure.draw_without_rendering()  # type: ignore[union-attr]
    points = axes.transData.transform(list(zip(costs, accuracy, strict=True)))
    frame = axes.get_window_extent()
    taken: list[Any] = []
    # What a label should leave free: points, the ends of their spread, and the front, as many places along it.
    crowd = [tuple(point) for point in points]
    for row, x, y in zip(rows, costs, accuracy, strict=True):
        reach = 100 * (row["spread"] or 0)
        crowd += [tuple(p) for p in axes.transData.transform([(x, y - reach), (x, y + reach)])]
    steps = axes.transData.transform(axes.lines[0].get_path().vertices)
    line = [a + (b - a) * i / 40 for a, b in pairwise(steps) for i in range(41)]
    for index in sorted(range(len(rows)), key=lambda i: -accuracy[i]):
        best: Any = None
        label = shortened(legible(rows[index]["label"]))
        for x, y in OFFSETS if index in front else OFFSETS[1:] + OFFSETS[:1]:
            text = axes.annotate(
                label, (costs[index], accuracy[index]), (x, y), textcoords="offset points",
                ha="center" if x == 0 else "left" if x > 0 else "right", va="center",
                color=ACCENT if index in front else INK, fontsize=9.5, zorder=4,
                path_effects=[withStroke(linewidth=3, foreground=PAPER)],
            )  # fmt: skip
            box = text.get_window_extent()
            clash = 2.0 * sum(box.overlaps(other) for other in taken) + 2.0 * sum(_near(box, *p) for p in crowd)
            clash += any(_near(box, *place) for place in line)
            clash += 4 * (not (frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1))
            if best is None or clash < best[0]:
                if best is not None:
                    best[1].remove()
                best = (clash, text, box)
            else:
                text.remove()
        taken.append(best[2])


def _near(box: Any, x: float, y: float) -> bool:
    return bool(box.x0 - 3 < x < box.x1 + 3 and box.y0 - 3 < y < box.y1 + 3)
