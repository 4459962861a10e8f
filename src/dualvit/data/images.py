"""Pictures in folders by class: read once, kept in memory as bytes, so that time goes into the network."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from dualvit.errors import InputError, MissingFileError
from dualvit.files import at_limit, cannot

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
MEMORY = 2 << 30  # bytes of decoded pictures that are kept; beyond it they are decoded at each use
Sample = tuple[Path, int]


class UnreadableError(InputError):
    """A file of the data set cannot be read; the message names it and says why."""


@dataclass(frozen=True)
class ImageFolders:
    """A data set in folders `train/CLASS/` and `val/CLASS/`.

    Attributes:
        classes: Names in order; a picture's label is the index of its folder's name.
        train: Pictures to train on, with labels.
        val: Pictures to validate on, with labels.
    """

    classes: tuple[str, ...]
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]


def read_folders(root: str | Path) -> ImageFolders:
    """List the pictures of a data set.

    Raises:
        FileNotFoundError: no such folder, or no pictures in `train` or `val`.
        ValueError: a class in one of the two alone, or a single class.
    """
    root = Path(root)
    if not root.is_dir():
        raise MissingFileError(f"no data set at {root}: name a folder with train/CLASS/ and val/CLASS/, or digits")
    by_class = {split: _by_class(root / split) for split in ("train", "val")}
    for split, classes in by_class.items():
        if not any(classes.values()):
            raise MissingFileError(f"no images in {root / split}: expected {split}/CLASS/picture.jpg")
    names = tuple(sorted(name for name, files in by_class["train"].items() if files))
    val = {name for name, files in by_class["val"].items() if files}
    for odd, here, there in ((val.difference(names), "val", "train"), (set(names) - val, "train", "val")):
        if odd:
            raise InputError(f"{root}: class {min(odd)!r} is in {here} but not in {there}; give both the same folders")
    if len(names) < 2:
        raise InputError(f"{root}: only one class, {names[0]!r}; a classifier needs two or more")
    samples = {
        split: tuple((file, label) for label, name in enumerate(names) for file in classes.get(name, []))
        for split, classes in by_class.items()
    }
    return ImageFolders(names, samples["train"], samples["val"])


def read_split(root: str | Path, classes: Sequence[str] | None = None) -> tuple[tuple[str, ...], tuple[Sample, ...]]:
    """List the validation pictures of a data set: of `root/val/CLASS/`, or of `root/CLASS/` where there is no val.

    Args:
        root: The data set.
        classes: The names that count, in order; None takes those of the folders.

    Returns:
        The names, and the pictures with their labels.

    Raises:
        FileNotFoundError: no such folder, or no pictures in it.
        ValueError: a folder of a class that is not among `classes`.
    """
    folder = Path(root) / "val" if (Path(root) / "val").is_dir() else Path(root)
    by_class = {name: files for name, files in _by_class(folder).items() if files}
    if not by_class:
        raise MissingFileError(f"no images in {folder}: expected {folder}/CLASS/picture.jpg")
    names = tuple(sorted(by_class) if classes is None else classes)
    odd = sorted(set(by_class).difference(names))
    if odd:
        raise InputError(f"{folder}: class {odd[0]!r} is none of the model's {len(names)}; rename or remove the folder")
    return names, tuple((file, label) for label, name in enumerate(names) for file in by_class.get(name, []))


def _by_class(folder: Path) -> dict[str, list[Path]]:
    if not folder.is_dir():
        return {}
    return {
        entry.name: sorted(file for file in entry.rglob("*") if file.suffix.lower() in SUFFIXES)
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith(".")
    }


def open_rgb(file: Path | IO[bytes], name: str = "") -> Image.Image:
    """Decode a picture.

    Args:
        file: A path, or an open file.
        name: What a message calls it; the path where left out.

    Raises:
        UnreadableError: it is damaged, absent, or no picture.
        OSError: memory or open files have run out.
    """
    try:
        with Image.open(file) as opened:
            return opened.convert("RGB")
    except ImportError:  # once imported, Ultralytics makes Pillow look for a HEIF plug-in then
        reason, remedy = "no format that Pillow knows", "remove it"
    except (OSError, MemoryError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if at_limit(error):  # the next picture would fare no better
            raise cannot("read", name or file, error) from None  # type: ignore[arg-type]
        reason, remedy = str(error), "repair or remove it"
    raise UnreadableError(f"cannot read the picture {name or file}: {reason}; {remedy}")


class Pictures(Dataset[tuple[Tensor, int]]):
    """Pictures with labels; decoded once where they fit into memory.

    Args:
        samples: Files and labels.
        side: Pictures whose shorter side is longer are brought down to it; in pixels.
        transform: From uint8 (3, H, W) to what the network takes.
        memory: Bytes of decoded pictures to keep at most.
    """

    def __init__(
        self, samples: tuple[Sample, ...], side: int, transform: Callable[[Tensor], Tensor], memory: int = MEMORY
    ) -> None:
        self.samples, self.side, self.transform = samples, side, transform
        self.kept: list[Tensor] | None = None
        if 3 * side * side * len(samples) <= memory:
            with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # PIL decodes outside the interpreter lock
                self.kept = list(pool.map(self._decode, (file for file, _ in samples)))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        file, label = self.samples[index]
        return self.transform(self._decode(file) if self.kept is None else self.kept[index]), label

    def _decode(self, file: Path) -> Tensor:
        image = open_rgb(file)
        if min(image.size) > self.side:
            factor = self.side / min(image.size)
            image = image.resize(
                tuple(max(round(length * factor), self.side) for length in image.size),  # type: ignore[arg-type]
                Image.Resampling.BICUBIC,
                reducing_gap=3,
            )
        return v2.functional.pil_to_tensor(image)


def training_transform(size: int, crop_scale: float, flip: float, colour_jitter: float) -> Callable[[Tensor], Tensor]:
    """Random crop, mirror and colours; uint8 (3, H, W) to normalised float (3, size, size)."""
    steps: list[torch.nn.Module] = [
        v2.RandomResizedCrop(size, scale=(crop_scale, 1), ratio=(0.9, 1.1), antialias=True),
        *([v2.RandomHorizontalFlip(flip)] if flip else []),
        *([v2.ColorJitter(colour_jitter, colour_jitter, colour_jitter)] if colour_jitter else []),
    ]
    return v2.Compose([*steps, *_normalised()])


def validation_transform(size: int) -> Callable[[Tensor], Tensor]:
    """The centre of the picture; uint8 (3, H, W) to normalised float (3, size, size)."""
    return v2.Compose([v2.Resize(size, antialias=True), v2.CenterCrop(size), *_normalised()])


def _normalised() -> list[torch.nn.Module]:
    return [v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)]
