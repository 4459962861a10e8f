"""The confusion of classes as a picture."""

from collections.abc import Sequence

import numpy as np

from dualvit.names import shortened
from dualvit.pictures.palette import INK, PAPER, STYLE, legible, render

SHOWN = 60  # classes that can be told apart
NUMBERED = 20  # classes up to which each cell has its number
LONGEST = 28  # characters of a name


def confusion(counts: np.ndarray, names: Sequence[str], title: str) -> bytes:
    """Return the confusion of classes as PNG; of many classes, the most mistaken ones.

    Args:
        counts: (classes, classes), rows the truth, columns the prediction.
        names: Of the classes.
        title: Above the picture.
    """
    import matplotlib
    from matplotlib.figure import Figure

    if len(names) > SHOWN:
        wrong = counts.sum(0) + counts.sum(1) - 2 * counts.diagonal()
        chosen = np.sort(np.argsort(-wrong, kind="stable")[:SHOWN])
        counts, names = counts[np.ix_(chosen, chosen)], [names[index] for index in chosen]
        title += f"\nthe {SHOWN} classes that are mistaken most"
    names = [shortened(legible(name), LONGEST) for name in names]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = max(4.5, 0.32 * len(names) + 2)
    with matplotlib.rc_context(STYLE | {"font.size": 9}):
        figure = Figure(figsize=(side + 1, side), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        bar = figure.colorbar(image, ax=axes, shrink=0.8, label="share of a true class")
        bar.outline.set_visible(False)
        axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(length=0)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        title = "\n".join(map(legible, title.splitlines()))
        axes.set_title(title, fontsize=10, loc="left")
        if len(names) <= NUMBERED:
            for row, column in np.argwhere(counts > 0):
                colour = PAPER if shares[row, column] > 0.5 else INK
                axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=8)
        return render(figure, "png")["png"]
