"""Scenes of cut-outs: your pictures with alpha, pasted over your photographs, with light, shadow and occlusion.

The class of an object is the folder of its cut-out. Masks and outlines are those of the alpha channel.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dualvit.data.images import open_rgb, opened_file, pictures_in
from dualvit.data.pictures import digest
from dualvit.drawn.dataset import DrawnSet, Progress, check_size
from dualvit.drawn.scenes import SPLITS, Floats, Rng, plane
from dualvit.drawn.varied import Composed, VariedScene
from dualvit.errors import InputError, MissingFileError

VAL_SHARE = 5  # one of so many cut-outs of a class, and backgrounds, is for val alone
_SIDES = (0.1, 0.85)  # of an object's longer side, as shares of the picture's side
_MIN_SIDE = 20.0  # pixels at any size
_KEPT = 400  # pictures that stay in memory


@dataclass(frozen=True)
class Pictures:
    """The pictures that scenes are made of; no picture is in both splits, if there are enough.

    Attributes:
        names: The classes, by the names of their folders.
        cutouts: The files of each class.
        backgrounds: Photographs.
    """

    names: tuple[str, ...]
    cutouts: tuple[tuple[Path, ...], ...]
    backgrounds: tuple[Path, ...]

    @classmethod
    def read(cls, cutouts: Path, backgrounds: Path, notes: list[str] | None = None) -> "Pictures":
        """Look for pictures in two folders.

        Args:
            cutouts: Has a folder per class; subfolders are searched to the bottom.
            backgrounds: Is searched to the bottom.
            notes: Takes a line about what was left out.

        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: no class, a class without cut-outs, or no background.
        """
        for folder in (cutouts, backgrounds):
            if not folder.is_dir():
                raise MissingFileError(f"no folder {folder}; give one with pictures")
        opaque: list[Path] = []
        found: dict[str, tuple[Path, ...]] = {}
        for folder in sorted(path for path in cutouts.iterdir() if path.is_dir() and not path.name.startswith(".")):
            files = pictures_in(folder)
            clear = tuple(file for file in files if _has_alpha(file))
            opaque += sorted(set(files) - set(clear))
            if clear:
                found[folder.name] = clear
        if not found:
            raise InputError(
                f"{cutouts} has no cut-outs; give a folder per class, with pictures that have transparent pixels"
            )
        if opaque and notes is not None:
            notes.append(f"{len(opaque)} pictures without transparent pixels left out, the first one {opaque[0]}")
        photographs = tuple(pictures_in(backgrounds))
        if not photographs:
            raise InputError(f"{backgrounds} has no pictures; give a folder of photographs")
        return cls(tuple(found), tuple(found.values()), photographs)

    def digest(self) -> str:
        """Return one SHA-256 of all files, class by class, the backgrounds last."""
        return digest(file for files in (*self.cutouts, self.backgrounds) for file in files)

    def cutout(self, rng: Rng, split: str, label: int) -> Image.Image:
        """Return a random cut-out of a class, RGBA."""
        return _opened(_pick(rng, split, self.cutouts[label]), "RGBA")

    def background(self, rng: Rng, split: str, size: int) -> Floats:
        """Return a random square of a random background, some mirrored, (size, size, 3)."""
        image = _opened(_pick(rng, split, self.backgrounds), "RGB")
        side = max(min(image.size) * rng.uniform(0.35, 1), min(size, *image.size))
        left, top = (rng.uniform(0, length - side) for length in image.size)
        box = (left, top, left + side, top + side)
        square = image.resize((size, size), Image.Resampling.BICUBIC, box, reducing_gap=2)
        pixels = np.asarray(square, dtype=np.float32)
        return pixels[:, ::-1].copy() if rng.random() < 0.5 else pixels.copy()


@dataclass(frozen=True, kw_only=True)
class CutoutSet(DrawnSet):
    """The content of a data set of cut-outs on backgrounds."""

    size: int
    pictures: Pictures
    kind = "cutouts"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size(self.size)

    def names(self) -> list[str]:
        """Return the names of the folders of cut-outs."""
        return list(self.pictures.names)

    def content(self) -> dict[str, Any]:
        """Return the settings; of the pictures the digest, so that they may lie anywhere."""
        return super().content() | {"pictures": self.pictures.digest()}

    def drawer(self) -> Callable[[str, int], VariedScene]:
        """Return the function that draws a scene by its number."""
        return lambda name, index: draw_cutouts(self.pictures, self.seed, name.rpartition("/")[2], index, self.size)


def write_cutouts(
    root: Path,
    pictures: Pictures,
    images: int = 400,
    size: int = 320,
    seed: int = 0,
    val_fraction: float = 0.2,
    progress: Progress | None = None,
) -> Path:
    """Write the data set, or keep it if it stands there with the same settings and the same pictures.

    One label file serves detection and segmentation, as in `write_scenes`. A scene depends on seed, split, number, size
    and pictures alone, so a larger set only adds files.

    Args:
        root: The folder; new, empty, or a complete data set of these settings.
        pictures: Cut-outs and backgrounds.
        images: Scenes, train and val together; at least 5.
        size: Their height and width in pixels; a multiple of 32, at least 64.
        seed: Decides everything but which pictures are for val.
        val_fraction: Share of the scenes that go to val, above 0 and below 1.
        progress: Called with (done, total) after each scene.

    Returns:
        The absolute path of `data.yaml`, for `YOLO(...).train(data=...)`.

    Raises:
        ValueError: a value out of range, a folder that holds something else, or a picture that cannot be read.
        ModuleNotFoundError: contourpy or SciPy is not installed.
    """
    content = CutoutSet(images=images, size=size, seed=seed, pictures=pictures, val_fraction=val_fraction)
    return content.place(root, progress) / "data.yaml"


def draw_cutouts(pictures: Pictures, seed: int, split: str, index: int, size: int) -> VariedScene:
    """Draw one scene of one to eight cut-outs; it depends on its arguments alone."""
    rng = np.random.default_rng([seed, 6 + SPLITS.index(split), index])
    while True:
        canvas = Pasted(rng, size, pictures, split)
        smallest, largest = max(_SIDES[0] * size, _MIN_SIDE), _SIDES[1] * size
        wanted = 1 + min(int(rng.geometric(0.3)) - 1, 7)
        sides = np.exp(rng.uniform(math.log(smallest), math.log(largest), wanted))
        if rng.random() < 0.8:  # the large behind the small, as most often in photographs
            sides = np.sort(sides)[::-1]
        for side in sides:
            label = int(rng.integers(len(pictures.names)))
            for _ in range(6):  # places; a crowded scene may stay short of the number wanted
                if canvas.add(label, float(side)):
                    break
        if canvas.classes:
            return canvas.finished()


class Pasted(Composed):
    """A scene of cut-outs in the making.

    Args:
        rng: Every choice comes from it.
        size: Height and width in pixels.
        pictures: What it is made of.
        split: train or val.
    """

    def __init__(self, rng: Rng, size: int, pictures: Pictures, split: str) -> None:
        super().__init__(rng, size, pictures.background(rng, split, size))
        self.pictures, self.split = pictures, split

    def add(self, label: int, side: float) -> bool:
        """Paste a random cut-out at a random place, unless too little would show of it or of another.

        Args:
            label: Its class.
            side: Pixels of its longer side, before it is turned.
        """
        posed = _posed(self.rng, self.pictures.cutout(self.rng, self.split, label), side)
        cover = posed[..., 3] / np.float32(255)
        if (cover > 0.5).sum() < 0.1 * side**2 / 4:  # a thin or an almost empty one
            return False
        left, top = self._corner(side / 2, cover.shape)
        room = self.room(cover, left, top)
        if room is None:
            return False
        surface = _lit(self.rng, posed[..., :3]) + plane(self.light, cover.shape, self.rng.uniform(0, 30))[..., None]
        self._cast_shadow(cover, left, top, side / 2)
        self._cover(room, cover, surface, label)
        return True


def _posed(rng: Rng, image: Image.Image, side: float) -> Floats:
    """Return a cut-out at a size, mirrored, stretched, sheared and turned at random, (height, width, 4)."""
    scale = side / max(image.size)
    size = tuple(max(2, round(length * scale * rng.uniform(0.85, 1.15))) for length in image.size)
    image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2)  # type: ignore[arg-type]
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    angle = rng.normal(0, 12) if rng.random() < 0.8 else rng.uniform(-180, 180)  # most things stand upright
    image = image.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    return np.asarray(image, dtype=np.float32)


def _lit(rng: Rng, pixels: Floats) -> Floats:
    """Return the colours of a cut-out under another light: brighter or darker, with more or less contrast, tinted."""
    middle = np.float32(128)
    pixels = middle + (pixels - middle) * np.float32(rng.uniform(0.6, 1.1))
    return pixels * np.float32(rng.uniform(0.65, 1.15)) * rng.uniform(0.88, 1.12, 3).astype(np.float32)


def _pick(rng: Rng, split: str, files: Sequence[Path]) -> Path:
    """Return a random file of a split: each fifth one is for val, and a class of fewer serves both."""
    if len(files) >= VAL_SHARE:
        files = [file for number, file in enumerate(files) if (number % VAL_SHARE == 0) == (split == "val")]
    return files[int(rng.integers(len(files)))]


def _has_alpha(file: Path) -> bool:
    with opened_file(file, file) as (image, _):
        return "transparency" in image.info or image.mode in ("RGBA", "LA", "PA")


@lru_cache(maxsize=_KEPT)
def _opened(file: Path, mode: str) -> Image.Image:
    """Return a picture; of one with alpha without its empty border."""
    if mode == "RGB":
        return open_rgb(file)
    with opened_file(file, file) as (image, _):
        cut = image.convert(mode)
    box = cut.getchannel("A").getbbox()
    if box is None:
        raise InputError(f"{file} is transparent all over; remove it")
    return cut.crop(box)
