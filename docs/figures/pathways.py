"""Draw the two pathways of Dual-ViT: `python docs/figures/pathways.py` writes the four files beside this one.

The numbers are those of dualvit_s at 224 x 224 pixels: channels and blocks as in its configuration, 64 semantics.
"""

from dataclasses import dataclass
from itertools import product
from math import exp
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

FOLDER = Path(__file__).parent
PIXELS, SEMANTICS = 31.5, 12.5  # heights of the two pathways
LEFT, RIGHT, BOTTOM, TOP = 0, 140, 2.4, 46.2  # of the drawing, in its own units
UNIT = 0.085  # inches
BY = " \N{MULTIPLICATION SIGN} "


@dataclass(frozen=True)
class Theme:
    """Colours of one variant; `faint` is the background of the drawn picture."""

    paper: str
    ink: str
    quiet: str
    panel: str
    line: str
    pixels: str
    faint: str
    semantics: str


@dataclass(frozen=True)
class Stage:
    """What is drawn of a stage: its place, kind and number of blocks, side and channels of its map, cells drawn."""

    left: float
    width: float
    kind: str
    blocks: int
    side: int
    channels: int
    cells: int
    size: float


THEMES = {
    "light": Theme("#ffffff", "#1c2733", "#5b6875", "#f3f5f8", "#c3cbd4", "#2a6db0", "#cfdff0", "#c9680f"),
    "dark": Theme("#0d1117", "#e8edf2", "#9aa7b4", "#171d26", "#3a4553", "#6cabed", "#20364f", "#f0a04b"),
}
STAGES = (
    Stage(31, 22, "dual", 3, 56, 64, 10, 10.0),
    Stage(55.4, 22, "dual", 4, 28, 128, 7, 8.4),
    Stage(79.8, 15.6, "merge", 6, 14, 320, 4, 5.6),
    Stage(97.8, 15.6, "merge", 3, 7, 448, 2, 3.4),
)


def brightness(u: float, v: float) -> float:
    """Return the drawn picture at (u, v), each from 0 to 1: a large blob and a small one."""
    large = exp(-((u - 0.36) ** 2 + (v - 0.6) ** 2) / 0.05)
    return min(1.0, 1.1 * large + exp(-((u - 0.76) ** 2 + (v - 0.26) ** 2) / 0.02))


class Drawing:
    """The axes with a theme, and the few shapes that the figure is made of."""

    def __init__(self, axes: Axes, theme: Theme) -> None:
        self.axes, self.theme = axes, theme

    def text(self, x: float, y: float, words: str, size: float = 9, color: str = "", weight: str = "normal") -> None:
        """Write centred words."""
        color = color or self.theme.ink
        self.axes.text(x, y, words, size=size, color=color, weight=weight, ha="center", va="center", linespacing=1.35)

    def box(self, left: float, bottom: float, width: float, height: float, fill: str, edge: str) -> None:
        """Draw a rounded rectangle."""
        style = "round,pad=0,rounding_size=1.1"
        shape = FancyBboxPatch((left, bottom), width, height, boxstyle=style, fc=fill, ec=edge, lw=1, zorder=1)
        self.axes.add_patch(shape)

    def step(self, x: float, y: float, width: float, words: str, edge: str) -> None:
        """Draw a small box with a name around (x, y)."""
        self.box(x - width / 2, y - 2.6, width, 5.2, self.theme.paper, edge)
        self.text(x, y, words, 9)

    def arrow(self, start: tuple[float, float], end: tuple[float, float], color: str, bend: float = 0.0) -> None:
        """Draw an arrow, bent by a share of its length."""
        self.axes.add_patch(
            FancyArrowPatch(
                start,
                end,
                arrowstyle="-|>",
                mutation_scale=10,
                lw=1.5,
                color=color,
                connectionstyle=f"arc3,rad={bend}",
                shrinkA=0,
                shrinkB=0,
                zorder=3,
            )
        )

    def grid(self, x: float, y: float, size: float, cells: int) -> None:
        """Draw one picture of two blobs around (x, y), as a square map of so many cells a side."""
        step, quiet, loud = size / cells, to_rgb(self.theme.faint), to_rgb(self.theme.pixels)
        places, colors = [], []
        for row, column in product(range(cells), repeat=2):
            parts = product((0.125, 0.375, 0.625, 0.875), repeat=2)
            share = sum(brightness((column + i) / cells, (row + j) / cells) for i, j in parts) / 16
            places.append((x - size / 2 + (column + 0.5) * step, y - size / 2 + (row + 0.5) * step))
            colors.append(tuple(q + share * (p - q) for q, p in zip(quiet, loud, strict=True)))
        side = 72 * UNIT * (step - 0.16)  # in points
        self.axes.scatter(*zip(*places, strict=True), s=side**2, marker="s", c=colors, linewidths=0, zorder=2)

    def tokens(self, x: float, y: float, columns: int = 4, rows: int = 2, gap: float = 1.5) -> None:
        """Draw semantics around (x, y), a few dots for all of them."""
        for row in range(rows):
            for column in range(columns):
                centre = (x + (column - (columns - 1) / 2) * gap, y + (row - (rows - 1) / 2) * gap)
                self.axes.add_patch(Circle(centre, 0.5, fc=self.theme.semantics, lw=0, zorder=2))


def draw_entry(drawing: Drawing) -> None:
    """Draw the image, the stem and the seed of the semantics."""
    theme = drawing.theme
    drawing.grid(7, PIXELS, 10.6, 12)
    drawing.text(7, PIXELS - 7.8, f"image\n224{BY}224{BY}3", 8.4, theme.quiet)
    drawing.arrow((13, PIXELS), (17, PIXELS), theme.pixels)
    drawing.step(21.5, PIXELS, 9, "Stem", theme.pixels)
    drawing.step(21.5, SEMANTICS, 9, "Seed", theme.semantics)
    drawing.text(21.5, SEMANTICS - 5, "learned queries read\nthe pooled map", 8.4, theme.quiet)
    drawing.arrow((21.5, PIXELS - 2.6), (21.5, SEMANTICS + 2.6), theme.pixels)
    drawing.text(7, SEMANTICS + 1.6, "semantics", 10, theme.semantics, "bold")
    drawing.text(7, SEMANTICS - 3, "a few tokens\nfor the whole\npicture", 8.4, theme.quiet)
    drawing.text(7, PIXELS + 9.6, "pixels", 10, theme.pixels, "bold")
    drawing.text(7, PIXELS + 7.2, "the fine map", 8.4, theme.quiet)


def draw_stage(drawing: Drawing, stage: Stage, number: int) -> None:
    """Draw a stage: a panel, its map and its semantics, and how the two meet."""
    theme, middle = drawing.theme, stage.left + stage.width / 2
    drawing.box(stage.left, 3.6, stage.width, 41.4, theme.panel, theme.line)
    drawing.text(middle, 42.6, f"Stage {number}", 10.5, weight="bold")
    drawing.text(middle, 40, f"{stage.blocks} {stage.kind} blocks", 8.6, theme.quiet)
    drawing.grid(middle, PIXELS, stage.size, stage.cells)
    drawing.text(middle, PIXELS - 7, f"{stage.side}{BY}{stage.side}{BY}{stage.channels}", 8.6, theme.quiet)
    drawing.tokens(middle, SEMANTICS)
    drawing.text(middle, SEMANTICS - 3.8, f"64{BY}{stage.channels}", 8.6, theme.quiet)
    if stage.kind == "dual":
        drawing.arrow((middle - 1.3, PIXELS - 9), (middle - 1.3, SEMANTICS + 2.4), theme.pixels)
        drawing.arrow((middle + 1.3, SEMANTICS + 2.4), (middle + 1.3, PIXELS - 9), theme.semantics)
        drawing.text(middle - 6, 18.7, "semantics\nread pixels", 8.4)
        drawing.text(middle + 6, 18.7, "pixels read\nsemantics", 8.4)
        drawing.text(middle, 5.8, "linear in the pixels", 8.4, weight="bold")
    else:
        drawing.box(stage.left + 1.4, SEMANTICS - 2.2, stage.width - 2.8, 27.2, "none", theme.ink)
        drawing.text(middle, 18.7, "all read all,\none sequence", 8.4)
        drawing.text(middle, 5.8, "on small maps", 8.4, weight="bold")


def draw_flow(drawing: Drawing) -> None:
    """Draw the arrows from the entry through the stages, the class block and the head."""
    theme = drawing.theme
    for y, color, half in ((PIXELS, theme.pixels, None), (SEMANTICS, theme.semantics, 3.4)):
        start = 26.0
        for stage in STAGES:
            middle, reach = stage.left + stage.width / 2, half or stage.size / 2 + 0.7
            drawing.arrow((start, y), (middle - reach, y), color)
            start = middle + reach
    last = STAGES[-1].left + STAGES[-1].width
    start_of_map = STAGES[-1].left + STAGES[-1].width / 2 + STAGES[-1].size / 2 + 0.7
    middle = (PIXELS + SEMANTICS) / 2
    drawing.box(last + 3, middle - 5, 11, 10, theme.paper, theme.ink)
    drawing.text(last + 8.5, middle, "Class\nblock", 9)
    drawing.arrow((start, SEMANTICS), (last + 6.4, middle - 5), theme.semantics, 0.22)
    drawing.arrow((start_of_map, PIXELS), (last + 6.4, middle + 5), theme.pixels, -0.22)
    drawing.arrow((last + 14, middle), (last + 17, middle), theme.ink)
    drawing.step(last + 21, middle, 8, "Head", theme.ink)
    drawing.text(last + 21, middle - 5.4, "1000 logits", 8.4, theme.quiet)


def draw(name: str, theme: Theme) -> None:
    """Write the figure in one theme, as SVG and PNG."""
    figure = plt.figure(figsize=((RIGHT - LEFT) * UNIT, (TOP - BOTTOM) * UNIT))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(LEFT, RIGHT), ylim=(BOTTOM, TOP))
    axes.axis("off")
    drawing = Drawing(axes, theme)
    draw_entry(drawing)
    for number, stage in enumerate(STAGES, 1):
        draw_stage(drawing, stage, number)
    draw_flow(drawing)
    figure.savefig(FOLDER / f"pathways-{name}.svg", facecolor=theme.paper, metadata={"Date": None, "Creator": None})
    figure.savefig(FOLDER / f"pathways-{name}.png", facecolor=theme.paper, dpi=140, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    with mpl.rc_context({"svg.hashsalt": "dualvit", "font.family": "DejaVu Sans"}):
        for name, theme in THEMES.items():
            draw(name, theme)
