"""Pictures in the page: each goes through the package's one door, and keeps a thumbnail, a name and notes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from dualvit.data.images import open_rgb, opened_file, require_short

THUMBNAIL = 192  # pixels of the longer side


@dataclass(frozen=True)
class Picture:
    """A picture that can be chosen.

    Attributes:
        file: Where it lies.
        name: What it is called in the page.
        thumbnail: RGB.
        note: What of the file is not shown; mostly nothing.
    """

    file: Path
    name: str
    thumbnail: Image.Image
    note: str = ""

    def open(self) -> Image.Image:
        """Decode it.

        Raises:
            UnreadableError: it cannot be.
        """
        return open_rgb(self.file, self.name)


def take(file: Path) -> Picture:
    """Look at a picture, and keep what the page shows of it.

    Raises:
        UnreadableError: it is damaged, absent, too large, too long, or no picture.
    """
    with opened_file(file, file.name) as (image, _):
        frames = getattr(image, "n_frames", 1) if image.format in ("GIF", "PNG", "TIFF", "WEBP", "AVIF") else 1
        require_short(Path(file.name), *image.size)
    rgb = open_rgb(file, file.name)
    note = f"{file.name}: the first of its {frames} pictures is shown" if frames > 1 else ""
    rgb.thumbnail((THUMBNAIL, THUMBNAIL))
    return Picture(file, file.name, rgb, note)


def take_all(files: Sequence[Path]) -> tuple[list[Picture], list[str]]:
    """Return the pictures among files, and a line for each file that is none, or of which a part is shown."""
    pictures, lines = [], []
    for file in files:
        try:
            pictures.append(take(file))
            lines += [pictures[-1].note] if pictures[-1].note else []
        except ValueError as error:
            lines.append(str(error))
    return pictures, lines
