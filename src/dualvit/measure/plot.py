"""Accuracy against cost, each model labelled where it stands, with the Pareto front."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from dualvit.measure.statistics import pareto

INK, SOFT, LINE, FRONT = "#1c2430", "#5d6878", "#dfe4ea", "#c2410c"
OFFSETS = [(9, 0), (-9, 0), (0, 11), (0, -11), (8, 10), (-8, 10), (8, -10), (-8, -10), (0, 22), (0, -22)]  # points
STYLE = {
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 10, "svg.fonttype": "path",
    "axes.edgecolor": LINE, "axes.labelcolor": SOFT, "text.color": INK, "xtick.color": SOFT, "ytick.color": SOFT,
    "svg.hashsalt": "dualvit",
}  # fmt: skip


def draw(summary: dict[str, Any]) -> dict[str, bytes]:
    """The picture as `svg` and `png`: accuracy against multiply-adds, and against latency."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 4.6), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        rows = summary["rows"]
        name = {"top1": "top-1 accuracy"}.get(summary["metric"], summary["metric"])
        left.set_ylabel(f"{name}, %")
        _panel(left, rows, [r["macs"] / 1e9 for r in rows], f"multiply-adds at {summary['config']['image_size']} px, G")
        _panel(right, rows, [r["latency"]["median"] for r in rows], "latency of one picture, ms")
        files = {}
        for suffix, options in (("svg", {"metadata": {"Date": None}}), ("png", {"dpi": 160})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix, **options)  # type: ignore[arg-type]
            files[suffix] = buffer.getvalue()
    return files


def _panel(axes: Axes, rows: Sequence[dict[str, Any]], costs: Sequence[float], title: str) -> None:
    """One cost: points with their spread, the front as steps, and labels."""
    accuracy = [100 * row["accuracy"] for row in rows]
    front = pareto({str(i): point for i, point in enumerate(zip(costs, accuracy, strict=True))})
    _scale(axes, costs, accuracy)
    axes.set_xlabel(title)
    corners = [(costs[int(i)], accuracy[int(i)]) for i in front]
    edge = axes.get_xlim()[1]
    axes.step(
        [x for x, _ in corners] + [edge], [y for _, y in corners] + [corners[-1][1]],
        where="post", color=FRONT, linewidth=1.4, alpha=0.55, zorder=1,
    )  # fmt: skip
    for index, row in enumerate(rows):
        colour = FRONT if str(index) in front else SOFT
        spread = None if row["spread"] is None else 100 * row["spread"]
        axes.errorbar(
            costs[index], accuracy[index], yerr=spread, fmt="o", markersize=7, color=colour, ecolor=colour,
            elinewidth=1.1, markeredgecolor="white", markeredgewidth=1, zorder=3,
        )  # fmt: skip
    _label(axes, rows, costs, accuracy, {int(i) for i in front})


def _scale(axes: Axes, costs: Sequence[float], accuracy: Sequence[float]) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=LINE, linewidth=0.7)
    axes.set_axisbelow(True)
    low, high = min(costs), max(costs)
    if high > 4 * low:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        reach = (high / low) ** 0.18
        axes.set_xlim(low / reach, high * reach)
    else:
        reach = 0.22 * (high - low or high)
        axes.set_xlim(max(0, low - reach), high + reach)
    axes.margins(y=0.16)
    if max(accuracy) == min(accuracy):
        axes.set_ylim(accuracy[0] - 1, accuracy[0] + 1)


def _label(
    axes: Axes, rows: Sequence[dict[str, Any]], costs: Sequence[float], accuracy: Sequence[float], front: set[int]
) -> None:
    """Put each label where it covers the fewest points and other labels."""
    figure = axes.figure
    figure.draw_without_rendering()  # type: ignore[union-attr]
    points = axes.transData.transform(list(zip(costs, accuracy, strict=True)))
    frame, taken = axes.get_window_extent(), []
    for index in sorted(range(len(rows)), key=lambda i: -accuracy[i]):
        best = None
        for x, y in OFFSETS:
            text = axes.annotate(
                rows[index]["label"], (costs[index], accuracy[index]), (x, y), textcoords="offset points",
                ha="center" if x == 0 else "left" if x > 0 else "right", va="center",
                color=FRONT if index in front else INK, fontsize=9.5, zorder=4,
            )  # fmt: skip
            box = text.get_window_extent()
            clash = sum(box.overlaps(other) for other in taken) + sum(
                box.x0 - 4 < px < box.x1 + 4 and box.y0 - 4 < py < box.y1 + 4 for px, py in points
            )
            clash += 2 * (not (frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1))
            if best is None or clash < best[0]:
                if best is not None:
                    best[1].remove()
                best = (clash, text, box)
            else:
                text.remove()
        assert best is not None
        taken.append(best[2])
