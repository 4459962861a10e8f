"""The palette of all pictures: colours that colour-blind readers tell apart, one font, and words that it can write."""

import colorsys
import io
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import ImageFont

from dualvit.names import shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Colour = tuple[int, int, int]
INK, SOFT, LINE, PAPER = "#1c2430", "#5d6878", "#dfe4ea", "#ffffff"
ACCENT, BAR = "#c2410c", "#9cc3ff"  # of what a picture is about, and behind words
# Okabe and Ito's colours: readers with any kind of colour blindness tell them apart.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442")
GOLDEN = 0.618034  # steps around the colour circle that keep all hues apart, however many there are
SHADES = ((0.85, 0.95), (0.55, 0.65), (0.4, 1.0))  # saturation and value in turn, so that near hues differ in them
STYLE: Any = {  # for matplotlib
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 10, "svg.fonttype": "path",
    "axes.edgecolor": LINE, "axes.labelcolor": SOFT, "text.color": INK, "xtick.color": SOFT, "ytick.color": SOFT,
    "svg.hashsalt": "dualvit", "text.parse_math": False,  # a name may hold a $
}  # fmt: skip


def colours(count: int) -> list[Colour]:
    """Return a colour for each of `count` classes: the palette's own first, then others that differ from these.

    Example:
        >>> colours(2), len(set(colours(150)))
        ([(0, 114, 178), (213, 94, 0)], 150)
    """
    own: list[Colour] = [rgb(colour) for colour in SERIES]
    for index in range(count - len(own)):
        red, green, blue = colorsys.hsv_to_rgb(GOLDEN * index % 1, *SHADES[index % 3])
        own.append((round(255 * red), round(255 * green), round(255 * blue)))
    return own[:count]


def rgb(colour: str) -> Colour:
    """Return red, green and blue of a colour of the palette.

    Example:
        >>> rgb("#0072b2")
        (0, 114, 178)
    """
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def ink_on(colour: Colour) -> str:
    """Return the ink, dark or white, that is read on a colour.

    Example:
        >>> ink_on((240, 228, 66)), ink_on((0, 114, 178))
        ('#1c2430', '#ffffff')
    """
    return INK if colour[0] * 0.299 + colour[1] * 0.587 + colour[2] * 0.114 > 135 else PAPER


def legible(text: str) -> str:
    r"""Return a text in which each character that the font lacks is its code, so that two names never look alike.

    Example:
        >>> legible("Straße 猫"), legible("犬")
        ('Straße \\u732b', '\\u72ac')
    """
    return "".join(
        char if ord(char) in _characters() and char.isprintable() else char.encode("ascii", "backslashreplace").decode()
        for char in text
    )


def font(size: int) -> ImageFont.FreeTypeFont:
    """Return the palette's font in a size in pixels."""
    return ImageFont.truetype(_font_file(), size)


def fitting(text: str, pen: ImageFont.FreeTypeFont, width: float) -> str:
    """Return a legible text that fits into a width in pixels: where it is longer, its middle is left out."""
    text = legible(text)
    longest = len(text)
    while longest > 4 and pen.getlength(shortened(text, longest)) > width:
        longest -= 1
    return shortened(text, longest)


def render(figure: "Figure", *suffixes: str) -> dict[str, bytes]:
    """Return a figure as `svg`, the same bytes each time, and as `png`, or as those of them that are named."""
    options: dict[str, Any] = {"svg": {"metadata": {"Date": None}}, "png": {"dpi": 160}}
    files = {}
    for suffix in suffixes or options:
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix, **options[suffix])
        files[suffix] = buffer.getvalue()
    return files


@cache
def _font_file() -> str:
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf")


@cache
def _characters() -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(_font_file()).get_charmap())
