"""Images with a class for each pixel: folders of masks, ADE20K's layout, and YOLO's polygons drawn as masks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from dualvit.data.images import SUFFIXES, open_rgb
from dualvit.files import at_limit, cannot, read_yaml

BACKGROUND = "background"
# Folders of images and masks, for training and validation; the second is ADE20K's.
LAYOUTS = (
    (("images/train", "masks/train"), ("images/val", "masks/val")),
    (("images/training", "annotations/training"), ("images/validation", "annotations/validation")),
)
MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")  # of images with one number a pixel
# What Pillow raises for a file that is damaged, or none of its formats.
UNREADABLE = (OSError, ValueError, SyntaxError, ImportError, Image.DecompressionBombError)
Pair = tuple[Path, Path]


@dataclass(frozen=True)
class Masks:
    """A data set of images with masks.

    Attributes:
        classes: Their names, in the order of the indices.
        train: Images to train on, each with the file of its mask or its polygons.
        val: Images to validate on.
        polygons: The second files are YOLO's labels, and class 0 is the background.
    """

    classes: tuple[str, ...]
    train: tuple[Pair, ...]
    val: tuple[Pair, ...]
    polygons: bool


def read_masks(root: str | Path, classes: tuple[str, ...] = ()) -> Masks:
    """List the images and masks of a data set.

    Args:
        root: Holds `data.yaml` and YOLO's labels; or `images/` and `masks/`, each with `train` and `val`; or
            `images/` and `annotations/`, each with `training` and `validation`.
        classes: Names; where left out, those of `data.yaml`, of `classes.txt` (one a line), or of ADE20K's
            `objectInfo150.txt`.

    Raises:
        FileNotFoundError: no such folder, no images, or an image without a mask.
        ValueError: no names of classes, or not those that the data set has.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"no data set at {root}: name a folder with images/ and masks/, or with data.yaml")
    if (root / "data.yaml").is_file():
        return _read_polygons(root, classes)
    layout = next((pairs for pairs in LAYOUTS if (root / pairs[0][0]).is_dir()), None)
    if layout is None:
        raise FileNotFoundError(
            f"{root} has no images/train (with masks/train), images/training (with annotations/training) or data.yaml"
        )
    train, val = (_pairs(root / images, root / masks) for images, masks in layout)
    return Masks(classes or _names(root), train, val, polygons=False)


def _read_polygons(root: Path, classes: tuple[str, ...]) -> Masks:
    content = read_yaml(root / "data.yaml")
    names: Any = content.get("names")
    if isinstance(names, dict):
        names = [names[key] for key in sorted(names)]
    if not isinstance(names, list) or not names:
        raise ValueError(f"{root / 'data.yaml'} has no names; give a list of classes, such as names: [cell]")
    found = (BACKGROUND, *map(str, names))
    if classes and classes != found:
        raise ValueError(f"data.classes is {', '.join(classes)}, and {root / 'data.yaml'} has {', '.join(found)}")
    splits = []
    for key in ("train", "val"):
        folder = root / str(content.get(key) or f"images/{key}")
        # YOLO's own rule: the last folder called images becomes labels.
        parts = ["labels" if part == "images" else part for part in folder.relative_to(root).parts]
        splits.append(_pairs(folder, root.joinpath(*parts), ".txt"))
    return Masks(found, splits[0], splits[1], polygons=True)


def _pairs(images: Path, masks: Path, suffix: str = ".png") -> tuple[Pair, ...]:
    files = sorted(file for file in images.rglob("*") if file.suffix.lower() in SUFFIXES) if images.is_dir() else []
    if not files:
        raise FileNotFoundError(f"no images in {images}; expected {images.name}/picture.jpg")
    pairs = tuple((file, masks / file.relative_to(images).with_suffix(suffix)) for file in files)
    if suffix == ".png":  # an image without polygons may have no file of them; without a mask it says nothing
        missing = [(file, mask) for file, mask in pairs if not mask.is_file()]
        for file, mask in missing[:1]:
            raise FileNotFoundError(f"{file} has no mask {mask} ({len(missing)} of {len(files)} images have none)")
    return pairs


def _names(root: Path) -> tuple[str, ...]:
    if (root / "classes.txt").is_file():
        return tuple(line.strip() for line in (root / "classes.txt").read_text().splitlines() if line.strip())
    if (root / "objectInfo150.txt").is_file():
        rows = (root / "objectInfo150.txt").read_text().splitlines()[1:]
        return tuple(row.split("\t")[-1].split(",")[0].strip() for row in rows if row.strip())
    raise ValueError(f"{root} names no classes; give data.classes=[wall,sky], or a file classes.txt with one a line")


def read_rgb(file: Path) -> Tensor:
    """An image as uint8 (3, H, W).

    Raises:
        UnreadableError: it cannot be read; the message names it and says why.
    """
    return pil_to_tensor(open_rgb(file))


def read_mask(file: Path, size: tuple[int, int], classes: int, ignore: int, reduce_zero: bool) -> Tensor:
    """A mask as int64 (H, W): class indices, and `ignore` where a pixel counts for nothing.

    Args:
        file: An image with one number a pixel.
        size: Height and width of the image that it belongs to.
        classes: How many there are.
        ignore: The index that marks pixels without a class.
        reduce_zero: 0 in the file marks pixels without a class, and 1 is the first class, as in ADE20K.

    Raises:
        OSError: it cannot be read.
        ValueError: another size than the image's, more than one number a pixel, or an index beyond the classes.
    """
    try:
        with Image.open(file) as opened:
            mode = opened.mode
            values = np.array(opened).astype(np.int64)
    except (*UNREADABLE, MemoryError) as error:
        if at_limit(error):
            raise cannot("read", file, error) from None  # type: ignore[arg-type]
        raise OSError(f"cannot read the mask {file}: {error}") from None
    if mode not in MODES:
        raise ValueError(f"the mask {file} is {mode}; give an image with one number a pixel, the index of its class")
    if values.shape != size:
        (height, width), (mask_height, mask_width) = size, values.shape
        raise ValueError(f"the mask {file} is {mask_width}x{mask_height}, and its image {width}x{height}; make it fit")
    first = int(reduce_zero)
    valid = values != ignore
    if reduce_zero:
        valid &= values != 0
    if valid.any() and (highest := int(values[valid].max())) >= classes + first:
        raise ValueError(
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
    for number, line in enumerate(file.read_text().splitlines() if file.is_file() else [], start=1):
        if not line.strip():
            continue
        try:
            label, *points = map(float, line.split())
        except ValueError:
            raise ValueError(f"{file}, line {number} is no polygon: {line[:60]!r}; give class x y x y ...") from None
        if len(points) < 6 or len(points) % 2:
            raise ValueError(
                f"{file}, line {number} has {len(points)} coordinates; a polygon needs three points of two"
            )
        if not 0 <= label < classes - 1 or label != int(label):
            raise ValueError(f"{file}, line {number} has class {label:g}; data.yaml names 0 to {classes - 2}")
        # Pillow's coordinates are those of pixel centres.
        pixels = [(x * width - 0.5, y * height - 0.5) for x, y in zip(points[::2], points[1::2], strict=True)]
        draw.polygon(pixels, fill=int(label) + 1, outline=int(label) + 1)
    return torch.from_numpy(np.array(image, dtype=np.int64))
