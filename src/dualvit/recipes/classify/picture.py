"""Pictures of a classifier's answers: a caption on an image, and the confusion of classes."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, PAPER, BAR = "#1c2430", "#ffffff", "#9cc3ff"
SHOWN = 60  # classes that can be told apart on a confusion picture
NUMBERED = 20  # classes up to which each cell has its number


def captioned(image: Image.Image, classes: Sequence[tuple[str, float]]) -> Image.Image:
    """A picture with its best classes and their probabilities below it."""
    width = max(256, image.width)
    size = max(14, width // 24)
    font = ImageFont.load_default(size)
    line = size + 8
    scaled = image.resize((width, round(image.height * width / image.width)))
    canvas = Image.new("RGB", (width, scaled.height + line * len(classes) + 6), PAPER)
    canvas.paste(scaled)
    draw = ImageDraw.Draw(canvas)
    for row, (name, score) in enumerate(classes):
        top = scaled.height + 4 + row * line
        draw.rectangle((0, top, round(score * width), top + line - 3), fill=BAR)
        draw.text((8, top + 1), name, fill=INK, font=font)
        draw.text((width - 8, top + 1), f"{100 * score:.1f} %", fill=INK, font=font, anchor="ra")
    return canvas


def confusion(counts: np.ndarray, names: Sequence[str], title: str) -> bytes:
    """The confusion of classes as PNG; of many classes those that are mistaken most.

    Args:
        counts: (classes, classes), rows the truth, columns the prediction.
        names: Of the classes.
        title: Above the picture.
    """
    import io

    import matplotlib
    from matplotlib.figure import Figure

    if len(names) > SHOWN:
        wrong = counts.sum(0) + counts.sum(1) - 2 * counts.diagonal()
        chosen = np.sort(np.argsort(-wrong, kind="stable")[:SHOWN])
        counts, names = counts[np.ix_(chosen, chosen)], [names[index] for index in chosen]
        title += f"\nthe {SHOWN} classes that are mistaken most"
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = max(4.5, 0.32 * len(names) + 2)
    with matplotlib.rc_context(
        {"font.size": 9, "text.color": INK, "axes.edgecolor": "#dfe4ea", "text.parse_math": False}
    ):
        figure = Figure(figsize=(side + 1, side), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        figure.colorbar(image, ax=axes, shrink=0.8, label="share of a true class")
        axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.set_title(title, fontsize=10, loc="left")
        if len(names) <= NUMBERED:
            for row, column in np.argwhere(counts > 0):
                colour = PAPER if shares[row, column] > 0.5 else INK
                axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=8)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()
