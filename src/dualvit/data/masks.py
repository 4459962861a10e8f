"""Images with a class for each pixel: folders of masks, ADE20K's layout, and YOLO's polygons drawn as masks."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from dualvit.data.images import open_mask, open_rgb, pictures_in, require_short
from dualvit.data.yolo_layout import Pair, read_objects, read_pairs
from dualvit.errors import InputError, MissingFileError

BACKGROUND = "background"
# Folders of images and masks, for training and validation; the second is ADE20K's.
LAYOUTS = (
    (("images/train", "masks/train"), ("images/val", "masks/val")),
    (("images/training", "annotations/training"), ("images/validation", "annotations/validation")),
)
MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")  # of images with one number a pixel


@dataclass(frozen=True)
class Masks:
    """A data set of images with masks.

    Attributes:
        classes: Their names, in the order of the indices.
        train: Images to train on, each with the file of its mask or its polygons.
        val: Images to validate on.
        polygons: The second files are YOLO's labels, and class 0 is the background.
        notes: What was left out, a line each.
    """

    classes: tuple[str, ...]
    train: tuple[Pair, ...]
    val: tuple[Pair, ...]
    polygons: bool
    notes: tuple[str, ...] = ()


def read_masks(root: str | Path, classes: tuple[str, ...] = ()) -> Masks:
    """List the images and masks of a data set.

    Args:
        root: A `data.yaml` of YOLO's labels, or a folder with one; or a folder with `images/` and `masks/`, each with
            `train` and `val`, or with `images/` and `annotations/`, each with `training` and `validation`.
        classes: Names; where left out, those of `data.yaml`, of `classes.txt` (one a line), or of ADE20K's
            `objectInfo150.txt`.

    Raises:
        FileNotFoundError: no such folder, no images, or an image without a mask.
        ValueError: no names of classes, or not those that the data set has.
    """
    root = Path(root)
    if root.suffix in (".yaml", ".yml") and root.is_file():
        return _read_polygons(root, classes)
    if not root.is_dir():
        raise MissingFileError(f"no data set at {root}: name a folder with images/ and masks/, or with data.yaml")
    if (root / "data.yaml").is_file():
        return _read_polygons(root / "data.yaml", classes)
    folders = next((pairs for pairs in LAYOUTS if (root / pairs[0][0]).is_dir()), None)
    if folders is None:
        raise MissingFileError(
            f"{root} has no images/train (with masks/train), images/training (with annotations/training) or data.yaml"
        )
    notes: list[str] = []
    train, val = (_pairs(root / images, root / masks, notes) for images, masks in folders)
    return Masks(classes or _names(root), train, val, polygons=False, notes=tuple(notes))


def _read_polygons(file: Path, classes: tuple[str, ...]) -> Masks:
    (names, train), (_, val) = (read_pairs(file, split) for split in ("train", "val"))
    known = (BACKGROUND, *names)
    if classes and classes != known:
        raise InputError(f"data.classes is {', '.join(classes)}, and {file} has {', '.join(known)}")
    return Masks(known, train, val, polygons=True)


def _pairs(images: Path, masks: Path, notes: list[str]) -> tuple[Pair, ...]:
    files = pictures_in(images, notes) if images.is_dir() else []
    if not files:
        raise MissingFileError(f"no images in {images}; expected {images.name}/picture.jpg")
    pairs = tuple((file, masks / file.relative_to(images).with_suffix(".png")) for file in files)
    missing = [(file, mask) for file, mask in pairs if not mask.is_file()]
    for file, mask in missing[:1]:
        raise MissingFileError(f"{file} has no mask {mask} ({len(missing)} of {len(files)} images have none)")
    return pairs


def _names(root: Path) -> tuple[str, ...]:
    if (root / "classes.txt").is_file():
        return tuple(line.strip() for line in (root / "classes.txt").read_text().splitlines() if line.strip())
    if (root / "objectInfo150.txt").is_file():
        rows = (root / "objectInfo150.txt").read_text().splitlines()[1:]
        return tuple(row.split("\t")[-1].split(",")[0].strip() for row in rows if row.strip())
    raise InputError(f"{root} names no classes; give data.classes=[wall,sky], or a file classes.txt with one a line")


def read_rgb(file: Path) -> Tensor:
    """An image as uint8 (3, H, W).

    Raises:
        UnreadableError: it cannot be read, or is too long to be enlarged; the message names it and says why.
    """
    image = open_rgb(file)
    require_short(file, *image.size)
    return pil_to_tensor(image)


def read_mask(file: Path, size: tuple[int, int], classes: int, ignore: int, reduce_zero: bool) -> Tensor:
    """A mask as int64 (H, W): class indices, and `ignore` where a pixel counts for nothing.

    Args:
        file: An image with one number a pixel.
        size: Height and width of the image that it belongs to.
        classes: How many there are.
        ignore: The index that marks pixels without a class.
        reduce_zero: 0 in the file marks pixels without a class, and 1 is the first class, as in ADE20K.

    Raises:
        UnreadableError: it cannot be read.
        ValueError: another size than the image's, more than one number a pixel, or an index beyond the classes.
    """
    stored, mode = open_mask(file)
    if mode not in MODES:
        raise InputError(f"the mask {file} is {mode}; give an image with one number a pixel, the index of its class")
    values = stored.astype(np.int64)
    if values.shape != size:
        (height, width), (mask_height, mask_width) = size, values.shape
        raise InputError(f"the mask {file} is {mask_width}x{mask_height}, and its image {width}x{height}; make it fit")
    first = int(reduce_zero)
    valid = values != ignore
    if reduce_zero:
        valid &= values != 0
    if valid.any() and (highest := int(values[valid].max())) >= classes + first:
        raise InputError(
            f"the mask {file} has index {highest}, and the {classes} classes are {first} to {classes - 1 + first}; "
            f"give data.classes all of them, or {ignore} to pixels without a class"
        )
    return torch.from_numpy(np.where(valid, values - first, ignore))


def draw_polygons(file: Path, size: tuple[int, int], classes: int) -> Tensor:
    """YOLO's polygons as an int64 (H, W) mask: 0 is the background, a polygon's pixels are its class plus 1.

    Args:
        file: Lines of a class and x y x y ..., as shares of width and height; no file, no polygons.
        size: Height and width of the image.
        classes: How many there are, with the background.

    Raises:
        ValueError: a malformed line, or a class that the data set does not have.
    """
    height, width = size
    image = Image.new("I", (width, height))
    draw = ImageDraw.Draw(image)
    for label, points in _polygons(file, classes):
        # Pillow's coordinates are those of pixel centres.
        pixels = [(x * width - 0.5, y * height - 0.5) for x, y in zip(points[::2], points[1::2], strict=True)]
        draw.polygon(pixels, fill=label + 1, outline=label + 1)
    return torch.from_numpy(np.array(image, dtype=np.int64))


def _polygons(file: Path, classes: int) -> Iterator[tuple[int, list[float]]]:
    for number, label, points in read_objects(file, classes - 1):
        if len(points) < 6 or len(points) % 2:
            kind = ", which is a box" if len(points) == 4 else ""
            raise InputError(
                f"{file}, line {number} has {len(points)} coordinates{kind}; a polygon needs three points of two"
            )
        yield label, points


def require_polygons(samples: tuple[Pair, ...], classes: int) -> None:
    """Stop where no image has a polygon: all masks would be background.

    Args:
        samples: Images, each with its label file.
        classes: How many there are, with the background.

    Raises:
        FileNotFoundError: no label file holds a polygon; the message says where the first is looked for.
        ValueError: the first that holds something is malformed, or holds boxes.
    """
    if not any(True for _, file in samples for _ in _polygons(file, classes)):
        raise MissingFileError(
            f"none of the {len(samples)} images has a polygon; {samples[0][0]} has its own in {samples[0][1]}"
        )
