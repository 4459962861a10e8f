"""Pictures to try the page with, drawn by the package: digits for the demo's models, and faces for the starts."""

from pathlib import Path

from PIL import Image, ImageDraw

from dualvit.drawn.digits import Scenes

SIZE = 448  # pixels of the sides
YELLOW, BROWN, RED = "#ffcc33", "#6b4210", "#8c2f14"
FACES = (  # the ground; and centre and radius of each face, as shares of the side
    ("#8fa9c9", ((0.16, 0.72, 0.08), (0.42, 0.24, 0.09), (0.52, 0.62, 0.1), (0.8, 0.34, 0.07), (0.8, 0.78, 0.11))),
    ("#7fa37f", ((0.36, 0.45, 0.1), (0.5, 0.57, 0.11), (0.78, 0.3, 0.08))),
)


def draw_examples(folder: Path) -> list[Path]:
    """Draw four pictures into a folder, and return their files."""
    digits = Scenes(images=5, seed=0, val_fraction=0.2, size=SIZE).drawer()
    pictures = {f"digits {number + 1}": Image.fromarray(digits("images/val", number).image) for number in range(2)}
    pictures |= {f"faces {number + 1}": draw_faces(number) for number in range(len(FACES))}
    files = []
    for name, picture in pictures.items():
        files.append(folder / f"{name}.png")
        picture.save(files[-1])
    return files


def draw_faces(number: int, size: int = SIZE) -> Image.Image:
    """Return a picture of faces that smile, which the shipped starts find.

    Example:
        >>> draw_faces(0).size
        (448, 448)
    """
    ground, faces = FACES[number]
    picture = Image.new("RGB", (size, size), ground)
    pen = ImageDraw.Draw(picture)
    for x, y, radius in ((x * size, y * size, radius * size) for x, y, radius in faces):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), YELLOW, BROWN, max(2, round(radius / 14)))
        for eye in (x - 0.38 * radius, x + 0.38 * radius):
            pen.ellipse((eye - 0.12 * radius, y - 0.52 * radius, eye + 0.12 * radius, y - 0.18 * radius), BROWN)
        pen.chord((x - 0.55 * radius, y - 0.2 * radius, x + 0.55 * radius, y + 0.65 * radius), 15, 165, RED)
    return picture
