"""Images with a class for each pixel: folders of masks, ADE20K's layout, and YOLO's polygons drawn as masks."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from dualvit.data.images import UnreadableError, open_mask, open_rgb, pictures_in, require_short
from dualvit.data.yolo_labels import Labels, Pair, read_objects
from dualvit.data.yolo_layout import Layout, find_yaml, read_layout
from dualvit.errors import InputError, MissingFileError
from dualvit.files import read_text

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
        polygons: What describes the second files if they are YOLO's labels, of which class 0 is the background.
        notes: What was left out, a line each.
    """

    classes: tuple[str, ...]
    train: tuple[Pair, ...]
    val: tuple[Pair, ...]
    polygons: Layout | None = None
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
    if (described := find_yaml(root)) and described.is_file():
        return _read_polygons(described, classes)
    if not root.is_dir():
        raise MissingFileError(f"no data set at {root}: name a folder with images/ and masks/, or with data.yaml")
    folders = next((pairs for pairs in LAYOUTS if (root / pairs[0][0]).is_dir()), None)
    if folders is None:
        raise MissingFileError(
            f"{root} has no images/train (with masks/train), images/training (with annotations/training) or data.yaml"
        )
    notes: list[str] = []
    train, val = (_pairs(root / images, root / masks, notes) for images, masks in folders)
    return Masks(classes or class_names(root), train, val, notes=tuple(notes))


def _read_polygons(file: Path, classes: tuple[str, ...]) -> Masks:
    layout = read_layout(file)
    known = (BACKGROUND, *layout.classes)
    if classes and classes != known:
        raise InputError(f"data.classes is {', '.join(classes)}, and {file} has {', '.join(known)}")
    notes: list[str] = []
    train, val = (layout.pairs(split, notes) for split in ("train", "val"))
    return Masks(known, train, val, layout, tuple(notes))


def with_tests(masks: Masks, root: str | Path) -> Masks:
    """Return a data set with the images of its test split as those to validate on; none if it has no such split."""
    if masks.polygons is not None:
        named = masks.polygons.content.get("test")
        return replace(masks, val=masks.polygons.pairs("test") if named else ())
    folders = next((pairs[1] for pairs in LAYOUTS if (Path(root) / pairs[0][0]).is_dir()), LAYOUTS[0][1])
    images, places = (Path(root) / Path(folder).with_name("test") for folder in folders)
    return replace(masks, val=_pairs(images, places, []) if images.is_dir() else ())


def _pairs(images: Path, masks: Path, notes: list[str]) -> tuple[Pair, ...]:
    files = pictures_in(images, notes) if images.is_dir() else []
    if not files:
        raise MissingFileError(f"no images in {images}; expected {images.name}/picture.jpg")
    pairs = tuple((file, masks / file.relative_to(images).with_suffix(".png")) for file in files)
    missing = [(file, mask) for file, mask in pairs if not mask.is_file()]
    for file, mask in missing[:1]:
        raise MissingFileError(f"{file} has no mask {mask} ({len(missing)} of {len(files)} images have none)")
    return pairs


def class_names(root: Path) -> tuple[str, ...]:
    """Return the names that a data set of masks brings, in the order of their indices.

    Raises:
        ValueError: it brings none.
    """
    if (root / "classes.txt").is_file():
        return tuple(line.strip() for line in read_text(root / "classes.txt").splitlines() if line.strip())
    if (root / "objectInfo150.txt").is_file():
        rows = read_text(root / "objectInfo150.txt").splitlines()[1:]
        return tuple(row.split("\t")[-1].split(",")[0].strip() for row in rows if row.strip())
    raise InputError(f"{root} names no classes; give data.classes=[wall,sky], or a file classes.txt with one a line")


def read_rgb(file: Path, upright: bool = True) -> Tensor:
    """An image as uint8 (3, H, W), turned by its EXIF orientation unless `upright` is False.

    Raises:
        UnreadableError: it cannot be read, or is too long to be enlarged; the message names it and says why.
    """
    image = open_rgb(file, upright=upright)
    require_short(file, *image.size)
    return pil_to_tensor(image)


class OtherSizeError(UnreadableError):
    """A mask has another size than its image."""


def read_mask(file: Path, size: tuple[int, int], classes: int, ignore: int, reduce_zero: bool) -> Tensor:
    """A mask as int64 (H, W): class indices, and `ignore` where a pixel counts for nothing.

    Args:
        file: An image with one number a pixel.
        size: Height and width of the image that it belongs to.
        classes: How many there are.
        ignore: The index that marks pixels without a class.
        reduce_zero: 0 in the file marks pixels without a class, and 1 is the first class, as in ADE20K.

    Raises:
        UnreadableError: it cannot be read, or has another size than the image.
        ValueError: more than one number a pixel, or an index beyond the classes.
    """
    values = _numbers(file)
    if values.shape != size:
        (height, width), (mask_height, mask_width) = size, values.shape
        raise OtherSizeError(
            f"the mask {file} is {mask_width}x{mask_height}, and its image {width}x{height}; make it fit"
        )
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


def _numbers(file: Path) -> Any:
    """The number of each pixel of a mask, int64 (H, W)."""
    values, mode = open_mask(file)
    if mode not in MODES:
        raise InputError(f"the mask {file} is {mode}; give an image with one number a pixel, the index of its class")
    return values.astype(np.int64)


def require_classes(samples: tuple[Pair, ...], classes: tuple[str, ...], ignore: int, reduce_zero: bool) -> None:
    """Stop where all masks together hold one class at the most: there is nothing to tell it from.

    Two classes are mostly in the first mask already, and no further one is read then.

    Args:
        samples: Images, each with its mask.
        classes: Their names.
        ignore, reduce_zero: As `read_mask`.

    Raises:
        ValueError: with the numbers that the masks hold.
    """
    seen: set[int] = set()
    nothing = {ignore, *([0] if reduce_zero else [])}
    for _, file in samples:
        try:
            seen.update(np.unique(_numbers(file)).tolist())
        except UnreadableError:  # whoever loads it notes it
            continue
        if len(seen - nothing) > 1:
            return
    if not seen:
        return
    first = int(reduce_zero)
    found = seen - nothing
    held = f"the {len(samples)} masks, such as {samples[0][1]}, hold {' and '.join(map(str, sorted(seen)))} alone"
    missing = next((index for index in range(first, first + len(classes)) if index not in found), first)
    if ignore in seen and missing - first < len(classes):
        raise InputError(
            f"{held}, and {ignore} (data.ignore_index) is no class: class {missing}, {classes[missing - first]!r}, "
            f"never occurs; write {missing} instead of {ignore} into the masks"
        )
    only = f"one class, {classes[min(found) - first]!r}" if found and min(found) - first < len(classes) else "no class"
    raise InputError(f"{held}, which is {only}: there is nothing to tell apart; give masks of two classes or more")


def draw_polygons(file: Path, size: tuple[int, int], classes: int, keypoints: int = 0) -> Tensor:
    """YOLO's polygons as an int64 (H, W) mask: 0 is the background, a polygon's pixels are its class plus 1.

    Args:
        file: Lines of a class and x y x y ..., as shares of width and height; no file, no polygons. A box is drawn as
            its rectangle.
        size: Height and width of the image.
        classes: How many there are, with the background.
        keypoints: As for `read_objects`.

    Raises:
        UnreadableError: a malformed line, or a class that the data set does not have.
    """
    height, width = size
    image = Image.new("I", (width, height))
    draw = ImageDraw.Draw(image)
    for _, label, points in read_objects(file, classes - 1, keypoints):
        if len(points) == 4:
            x, y, w, h = (value * side for value, side in zip(points, (width, height) * 2, strict=True))
            left, top = round(x - w / 2), round(y - h / 2)
            right, bottom = max(left, round(x + w / 2) - 1), max(top, round(y + h / 2) - 1)
            draw.rectangle([left, top, right, bottom], fill=label + 1)
            continue
        # Pillow's coordinates are those of pixel centres.
        pixels = [(x * width - 0.5, y * height - 0.5) for x, y in zip(points[::2], points[1::2], strict=True)]
        draw.polygon(pixels, fill=label + 1, outline=label + 1)
    return torch.from_numpy(np.array(image, dtype=np.int64))


def read_polygons(masks: Masks, split: str) -> Labels | None:
    """Read the label files of a split once, for what is wrong with them before anything is trained.

    Args:
        masks: A data set.
        split: train or val.

    Returns:
        What was read; None if the data set has masks and no label files.
    """
    if masks.polygons is None:
        return None
    return masks.polygons.labels(split).read_all(masks.train if split == "train" else masks.val)
