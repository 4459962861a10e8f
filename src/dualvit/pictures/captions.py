"""Rows of words below a picture, and many pictures on one sheet."""

from collections.abc import Sequence

from PIL import Image, ImageDraw

from dualvit.pictures.palette import BAR, INK, LINE, PAPER, SOFT, Colour, fitting, font

WIDTH = 256  # pixels at least: narrower pictures are enlarged, so that names find room
TALL = 16 * WIDTH  # pixels; no picture is enlarged beyond this height


def captioned(
    image: Image.Image, rows: Sequence[tuple[str, float]], swatches: Sequence[Colour | None] = ()
) -> Image.Image:
    """Return a picture with names and shares below it.

    Args:
        image: RGB.
        rows: Names with shares of 1, which a bar shows, or the names' colours in its place.
        swatches: A colour for each row, or None for a row whose pixels have no colour.

    Example:
        >>> captioned(Image.new("RGB", (300, 200)), [("cat", 0.9), ("dog", 0.1)]).size
        (300, 252)
    """
    factor = max(1.0, min(WIDTH / image.width, TALL / image.height))
    width = max(WIDTH, image.width)
    size = max(14, width // 24)
    pen, line = font(size), size + 9
    scaled = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", (width, scaled.height + line * len(rows) + 6), PAPER)
    canvas.paste(scaled)
    draw = ImageDraw.Draw(canvas)
    for index, (name, share) in enumerate(rows):
        top, left = scaled.height + 4 + index * line, 8
        if swatches:
            draw.rectangle((8, top + 3, 8 + size, top + 3 + size), fill=swatches[index], outline=LINE)
            left += size + 8
        else:
            draw.rectangle((0, top, round(share * width), top + line - 3), fill=BAR)
        number = f"{100 * share:.1f} %"
        room = width - left - pen.getlength(number) - 20
        draw.text((left, top + line // 2 - 1), fitting(name, pen, room), fill=INK, font=pen, anchor="lm")
        draw.text((width - 8, top + line // 2 - 1), number, fill=SOFT if swatches else INK, font=pen, anchor="rm")
    return canvas


def contact_sheet(images: Sequence[Image.Image], columns: int = 4, gap: int = 4) -> Image.Image:
    """Return equally large pictures side by side, in rows.

    Example:
        >>> contact_sheet([Image.new("RGB", (20, 10))] * 5).size
        (92, 24)
    """
    width, height = (side + gap for side in images[0].size)
    rows, columns = -(-len(images) // columns), min(columns, len(images))
    sheet = Image.new("RGB", (columns * width - gap, rows * height - gap), PAPER)
    for index, image in enumerate(images):
        sheet.paste(image, (index % columns * width, index // columns * height))
    return sheet
