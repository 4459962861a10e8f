"""The door of all pictures: which files of a folder they are, and one decoder for them."""

import importlib
import importlib.util
import os
import re
import stat
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError, features

from dualvit.errors import InputError, line_of
from dualvit.files import at_limit, cannot

HEIF = next((name for name in ("pi_heif", "pillow_heif") if importlib.util.find_spec(name)), None)  # Pillow's plug-ins
DECODERS = {  # suffixes that need more than Pillow alone
    ".avif": "avif" in features.modules and bool(features.check("avif")),
    ".heic": HEIF is not None,
    ".heif": HEIF is not None,
    ".jp2": bool(features.check("jpg_2000")),
    ".webp": bool(features.check("webp")),
}
SUFFIXES = frozenset(
    {".bmp", ".dng", ".gif", ".jfif", ".jpeg", ".jpg", ".mpo", ".pgm", ".png", ".ppm", ".tif", ".tiff"}
    | {suffix for suffix, there in DECODERS.items() if there}
)
# What lies beside pictures without being one: nobody misses it.
BESIDE = frozenset(
    {".cache", ".csv", ".data", ".db", ".html", ".ini", ".json", ".md", ".names", ".npy", ".py", ".tsv", ".txt"}
    | {".xml", ".yaml", ".yml", ".zip"}
)
MAX_PIXELS = "DUALVIT_MAX_PIXELS"  # environment variable: the most pixels of a picture that is decoded
PIXELS = 150_000_000  # where it is not set: 450 MB as 8-bit RGB
LONGEST = 64  # times its shorter side; a picture that is longer is not enlarged whole
TURNS = {  # what brings a picture upright, by its EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that make width and height change places
DEEP = ("PNG", "PPM", "JPEG2000")  # formats whose mode "I" holds 16 bits; a TIFF's holds 32


def pictures_in(folder: Path, notes: list[str] | None = None) -> list[Path]:
    """Return all pictures below a folder, in order.

    Links to files and folders are followed, each folder once. Hidden files and folders, such as `._1.jpg`, which macOS
    leaves, count for nothing, and so do pipes, sockets and devices.

    Args:
        folder: Where to look.
        notes: Takes a line if there are files that are no pictures, and no labels or notes either.

    Raises:
        OSError: a folder cannot be read.
    """
    pictures, others = [], []
    for entry, is_file in _files(folder):
        suffix = Path(entry.name).suffix.lower()
        if suffix in SUFFIXES and is_file:
            pictures.append(Path(entry.path))
        elif suffix not in BESIDE:
            others.append(Path(entry.path))
    if others and notes is not None:
        notes.append(_left_out(folder, sorted(others)))
    return sorted(pictures)


def _left_out(folder: Path, others: list[Path]) -> str:
    counts = Counter(file.suffix.lower() or "no suffix" for file in others)
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(counts.items()))
    names = ", ".join(str(file.relative_to(folder)) for file in others[:3]) + (", ..." if len(others) > 3 else "")
    what = "file is no picture that can be read here, and is" if len(others) == 1 else (
        "files are no pictures that can be read here, and are"
    )  # fmt: skip
    return f"{folder}: {len(others)} {what} left out: {kinds} ({names})"


def _files(folder: Path) -> Iterator[tuple[os.DirEntry[str], bool]]:
    """All that lies below a folder and is no folder, and whether it may be a file; what links lead to comes last."""
    seen: set[tuple[int, int]] = set()
    places: list[str] = [os.fspath(folder)]
    linked: list[str] = []
    while places or linked:
        if not places:
            linked.sort(reverse=True)
        place = places.pop() if places else linked.pop()
        try:
            about = Path(place).stat()
            if (about.st_dev, about.st_ino) in seen:
                continue
            seen.add((about.st_dev, about.st_ino))
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    kind = _kind(entry)
                    if stat.S_ISDIR(kind):
                        (linked if entry.is_symlink() else places).append(entry.path)
                    else:
                        yield entry, stat.S_ISREG(kind) or not kind
        except OSError as error:
            raise cannot("read", place, error) from None


def _kind(entry: os.DirEntry[str]) -> int:
    """The file type of what an entry leads to; 0 of a link that leads nowhere, which whoever opens it will note."""
    if not entry.is_symlink() and (entry.is_file() or entry.is_dir()):  # most entries; it asks the disk nothing
        return stat.S_IFREG if entry.is_file() else stat.S_IFDIR
    try:
        return stat.S_IFMT(entry.stat().st_mode)
    except OSError:
        return 0


class UnreadableError(InputError):
    """A file of the data set cannot be read; the message names it and says why."""


class TooLargeError(UnreadableError):
    """A picture has more pixels than the limit allows."""


def max_pixels() -> int:
    """Return the most pixels of a picture that is decoded.

    Raises:
        ValueError: the environment variable is no number of pixels.
    """
    text = os.environ.get(MAX_PIXELS, str(PIXELS))
    if not text.isdecimal() or not int(text):
        raise InputError(f"{MAX_PIXELS} is {text!r}; give a number of pixels, such as {PIXELS}")
    if Image.MAX_IMAGE_PIXELS is not None and int(text) > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = int(text)  # Pillow's own limit is twice this; who asks for more means that, too
    return int(text)


def size_of(file: Path, upright: bool = True) -> tuple[int, int]:
    """Return width and height of a picture as it stands upright, by its EXIF orientation, without decoding it.

    Args:
        file: The picture.
        upright: Heed the orientation; else the size is that of the pixels as stored.

    Raises:
        UnreadableError: it is damaged, absent, too large, or no picture.
        OSError: memory or open files have run out.
    """
    with opened_file(file, file) as (image, orientation):
        width, height = image.size
        # Pillow turns TIFFs by itself, and gives their size after that.
        turned = orientation in SIDEWAYS and upright != (image.format == "TIFF")
        return (height, width) if turned else (width, height)


def orientation_of(file: Path) -> int:
    """Return a picture's EXIF orientation, 1 to 8.

    Raises:
        UnreadableError: it is damaged, absent, too large, or no picture.
    """
    with opened_file(file, file) as (_, orientation):
        return orientation


def open_rgb(file: Path | IO[bytes], name: str = "", upright: bool = True) -> Image.Image:
    """Decode a picture, as Ultralytics' reader sees it.

    Args:
        file: A path, or an open file.
        name: What a message calls it; the path where left out.
        upright: Turn it by its EXIF orientation; else the pixels stay as stored.

    Raises:
        UnreadableError: it is damaged, absent, too large, or no picture.
        OSError: memory or open files have run out.
    """
    with opened_file(file, name or file) as (image, orientation):
        turn = orientation
        if image.format == "TIFF":  # which Pillow turns by itself
            turn = 1 if upright else {6: 8, 8: 6}.get(orientation, orientation)
        elif not upright:
            turn = 1
        rgb = _as_rgb(image)
        return rgb.transpose(TURNS[turn]) if turn in TURNS else rgb


def open_mask(file: Path) -> tuple[np.ndarray[Any, Any], str]:
    """Decode a mask, whose pixels are numbers of their own; it is turned as a picture is.

    Returns:
        The numbers (H, W), or (H, W, bands), and Pillow's mode, which says what they are.

    Raises:
        UnreadableError: it is damaged, absent, too large, or no picture.
        OSError: memory or open files have run out.
    """
    with opened_file(file, file, "mask") as (image, orientation):
        upright = image.format == "TIFF" or orientation not in TURNS
        return np.array(image if upright else image.transpose(TURNS[orientation])), image.mode


def why_refused(file: Path) -> str | None:
    """Return why a file may not be opened, whoever decodes it: it is a pipe, or too large; None if it may."""
    try:
        size_of(file)
    except TooLargeError as error:
        return str(error)
    except UnreadableError as error:
        return str(error) if file.exists() and not file.is_file() else None
    return None


def middle(image: Image.Image) -> Image.Image:
    """Cut the ends off a picture that is longer than `LONGEST` times its shorter side, before it is enlarged."""
    width, height = image.size
    longest = LONGEST * min(width, height)
    left, top = max(width - longest, 0) // 2, max(height - longest, 0) // 2
    return image.crop((left, top, width - left, height - top)) if left or top else image


def require_short(file: Path, width: int, height: int) -> None:
    """Stop at a picture that is longer than `LONGEST` times its shorter side, where all of it would be enlarged.

    Raises:
        UnreadableError: it is.
    """
    if max(width, height) > LONGEST * min(width, height):
        raise UnreadableError(
            f"cannot use the picture {file}: it has {width}x{height} pixels, and one side may have {LONGEST} times the "
            "pixels of the other at most; cut it into pieces"
        )


def _as_rgb(image: Image.Image) -> Image.Image:
    """Eight bits of red, green and blue of an open picture: bits as OpenCV keeps them, alpha as it leaves it out.

    Raises:
        ValueError: 32 bits per value, which OpenCV refuses, too.
    """
    if image.mode == "F" or (image.mode == "I" and image.format not in DEEP):
        raise UnreadableError("it has 32 bits per value; save it with 8 or 16")
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "CMYK" and image.format in ("JPEG", "MPO"):
        inks = np.asarray(image).astype(np.uint16)
        light = 255 - inks[..., 3:]
        return Image.fromarray((light - (inks[..., :3] * light >> 8)).astype(np.uint8))
    if image.mode == "RGBA" and image.format == "TIFF" and _says_alpha(image):  # on black, as libtiff lays it
        values = np.asarray(image).astype(np.uint16)
        return Image.fromarray(((values[..., :3] * values[..., 3:] + 127) // 255).astype(np.uint8))
    return image.convert("RGB")


def _says_alpha(image: Any) -> bool:
    """Whether a TIFF's fourth band is alpha; else nobody says what it is."""
    return image.tag_v2.get(ExifTags.Base.ExtraSamples, (0,))[0] in (1, 2)


@contextmanager
def opened_file(file: Path | IO[bytes], name: object, what: str = "picture") -> Iterator[tuple[Image.Image, int]]:
    """An open picture and its EXIF orientation; one line of what goes wrong, here or within.

    Raises:
        UnreadableError: it is damaged, absent, too large, or no picture.
        OSError: memory or open files have run out.
    """
    limit = max_pixels()
    try:
        with _handle(file) as handle, _identified(handle) as image:
            if image.width * image.height > limit:
                raise Image.DecompressionBombError(f"{image.width * image.height} pixels")
            yield image, _orientation(image)
            return
    except (ImportError, UnidentifiedImageError):  # Ultralytics, once imported, makes Pillow look for a HEIF plug-in
        reason = "no format that Pillow knows; remove it"
    except Image.DecompressionBombError as error:
        pixels = int((re.search(r"\d+", str(error)) or ["0"])[0])
        raise TooLargeError(
            f"cannot read the {what} {name}: it has {pixels} pixels, and the limit is {limit}; shrink it, or set "
            f"{MAX_PIXELS}={pixels}"
        ) from None
    except UnreadableError as error:
        reason = str(error)
    except Exception as error:  # decoders raise many kinds for bytes that nobody wrote: an AVIF's a RuntimeError
        if at_limit(error):  # the next picture would fare no better
            raise cannot("read", name, error) from None  # type: ignore[arg-type]
        reason = f"{getattr(error, 'strerror', None) or line_of(error)}; repair or remove it"
    raise UnreadableError(f"cannot read the {what} {name}: {reason}")


@contextmanager
def _handle(file: Path | IO[bytes]) -> Iterator[IO[bytes]]:
    """A file, open. Pillow gets no path: it would map an uncompressed TIFF into memory, and turn it wrongly."""
    if not isinstance(file, Path):
        yield file
        return
    if not stat.S_ISREG(file.stat().st_mode):  # a pipe would never end
        raise UnreadableError("it is no file; remove it")
    with file.open("rb") as handle:
        yield handle


def _identified(handle: IO[bytes]) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is ours
        try:
            return Image.open(handle)
        except (ImportError, UnidentifiedImageError):
            if HEIF is None:
                raise
        importlib.import_module(HEIF).register_heif_opener()
        return Image.open(handle)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if there is none, or the EXIF block is broken."""
    if image.format != "AVIF":  # whose turn Pillow alone knows; of the others it believes what OpenCV does not
        for key in ("xmp", "XML:com.adobe.xmp", "Raw profile type exif"):
            image.info.pop(key, None)
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # whatever a broken block makes Pillow raise
        return 1
    return orientation if orientation in TURNS else 1
