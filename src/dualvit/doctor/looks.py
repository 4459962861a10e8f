"""One look at each picture: its bytes, its header, and its pixels, decoded once and small."""

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
from PIL import Image

from dualvit.data.images import MAX_PIXELS, SIDEWAYS, TURNS, UnreadableError, opened_file
from dualvit.files import at_limit, cannot

SEEN = 64  # pixels: a JPEG is decoded no larger than needed for this
THUMB = 32  # sides of the small grey picture that near duplicates are compared by


@dataclass(frozen=True)
class Look:
    """What a picture is.

    Attributes:
        file: Where it is.
        fault: unreadable, bomb or absent; or none.
        reason: Of the fault, in one line.
        width, height: Of the upright picture, in pixels.
        orientation: EXIF's flag; 1 stands for none.
        digest: SHA-256 of the file.
        bits: (64,) of its perceptual hash; None if it has no pixels.
        thumb: (32, 32) uint8 of its grey; None if it has no pixels.
    """

    file: Path
    fault: str = ""
    reason: str = ""
    width: int = 0
    height: int = 0
    orientation: int = 1
    digest: str = ""
    bits: np.ndarray[Any, Any] | None = None
    thumb: np.ndarray[Any, Any] | None = None


def look_at(files: Iterable[Path], progress: Callable[[int, int], None] = lambda done, total: None) -> list[Look]:
    """Look at pictures, as many at once as there are cores: decoding, hashing and resizing let other threads run."""
    files, looks = list(files), []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, one in enumerate(pool.map(look, files), 1):
            looks.append(one)
            progress(done, len(files))
    return looks


def look(file: Path) -> Look:
    """Look at a picture.

    Raises:
        OSError: memory or open files have run out.
    """
    if not file.is_file():
        return Look(file, "absent", f"{file} is not there, or is no file")
    try:
        content = file.read_bytes()
        with opened_file(BytesIO(content), file) as (image, orientation):
            return _seen(file, content, image, orientation)
    except UnreadableError as error:
        return Look(file, "bomb" if MAX_PIXELS in str(error) else "unreadable", str(error))
    except OSError as error:
        if at_limit(error):
            raise cannot("read", file, error) from None
        return Look(file, "unreadable", f"cannot read the picture {file}: {error}")


def _seen(file: Path, content: bytes, image: Image.Image, orientation: int) -> Look:
    width, height = image.size
    image.draft("L", (SEEN, SEEN))  # scales a JPEG while it is decoded, and does nothing to other formats
    grey = image.convert("L") if image.mode[0] not in "IF" else _scaled(image)
    grey = grey.resize((THUMB, THUMB), Image.Resampling.BOX if min(grey.size) >= THUMB else None)
    if orientation in TURNS and image.format != "TIFF":  # which Pillow turns by itself
        grey = grey.transpose(TURNS[orientation])
        width, height = (height, width) if orientation in SIDEWAYS else (width, height)
    bits = imagehash.phash(grey).hash.reshape(-1)
    digest = hashlib.sha256(content).hexdigest()
    return Look(file, "", "", width, height, orientation, digest, bits, np.asarray(grey))


def _scaled(image: Image.Image) -> Image.Image:
    """A picture of 16 bits or floats as grey of 8 bits, from its darkest to its brightest pixel."""
    values = np.asarray(image, np.float32)
    low, high = float(values.min()), float(values.max())
    return Image.fromarray((255 * (values - low) / max(high - low, 1e-9)).astype(np.uint8))
