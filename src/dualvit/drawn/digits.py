"""The embedded data set: real handwritten digits as objects in clutter, made offline from a seed.

The digits are scikit-learn's `load_digits` (1797 images of 8x8, ten classes). The pictures come in
Ultralytics layout: boxes and polygons of each digit's visible pixels, and single digits by class.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dualvit.drawn.dataset import DrawnSet, Progress, check_size
from dualvit.drawn.scenes import Scene, Sources, draw_scene, draw_single


@dataclass(frozen=True, kw_only=True)
class Singles(DrawnSet):
    """The content of a data set of single digits; a set of the one kind is never taken for the other."""

    kind = "digits"
    least = 20  # one per digit to train and validate

    def names(self) -> list[str]:
        """Return none: the digits stand in folders."""
        return []

    def counts(self) -> dict[str, int]:
        """Return the number of pictures in each folder, all classes at least once."""
        return self.split(10)

    def drawer(self) -> Callable[[str, int], Scene]:
        """Return the function that draws one digit of a split by its number."""
        sources = Sources()
        return lambda name, index: draw_single(sources, self.seed, name.rpartition("/")[2], index)


@dataclass(frozen=True, kw_only=True)
class Scenes(Singles):
    """The content of a data set of scenes, with single digits beside them."""

    size: int
    least = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size(self.size)

    def names(self) -> list[str]:
        """Return the ten digits."""
        return [str(digit) for digit in range(10)]

    def counts(self) -> dict[str, int]:
        """Return the number of pictures in each folder: `classify` has two per scene, and all classes at least once."""
        scenes = self.split(1)
        singles = {f"classify/{split}": max(2 * count, 10) for split, count in scenes.items()}
        return {f"images/{split}": count for split, count in scenes.items()} | singles

    def drawer(self) -> Callable[[str, int], Scene]:
        """Return the function that draws a scene or one digit by its number."""
        sources = Sources()

        def draw(name: str, index: int) -> Scene:
            kind, _, split = name.rpartition("/")
            if kind == "images":
                return draw_scene(sources, self.seed, split, index, self.size)
            return draw_single(sources, self.seed, split, index)

        return draw


def write_digits(
    root: Path,
    images: int = 400,
    size: int = 320,
    seed: int = 0,
    val_fraction: float = 0.2,
    progress: Progress | None = None,
) -> Path:
    """Write the data set, or keep it where it already stands with the same settings.

    One label file serves detection and segmentation: its polygon is the convex hull of the digit's
    visible pixels. `classify/` holds single digits by class, two for each image. A picture depends
    on seed, split and number alone, so a larger set only adds files.

    Args:
        root: The folder; new, empty, or a complete data set of these settings.
        images: Pictures with objects, train and val together; at least 5.
        size: Their height and width in pixels; a multiple of 32, at least 64.
        seed: Decides everything, and which source digits train and val draw from.
        val_fraction: Share of the pictures that go to val, above 0 and below 1.
        progress: Called with (done, total) after each picture.

    Returns:
        The absolute path of `data.yaml`, for `YOLO(...).train(data=...)`; older versions of
        Ultralytics look for a relative one in their own folder.

    Raises:
        ValueError: a value out of range, or a folder that holds something else.
        ModuleNotFoundError: scikit-learn is not installed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     data = write_digits(Path(folder) / "digits", images=5, size=64)
        ...     sorted(path.name for path in data.parent.iterdir())
        ['classify', 'data.yaml', 'dualvit-digits.json', 'images', 'labels']
    """
    return Scenes(images=images, size=size, seed=seed, val_fraction=val_fraction).place(root, progress) / "data.yaml"


def write_single_digits(
    root: Path,
    images: int = 2000,
    seed: int = 0,
    val_fraction: float = 0.25,
    progress: Progress | None = None,
) -> Path:
    """Write single digits of 64x64 pixels into `train/DIGIT/` and `val/DIGIT/`, or keep them where they stand.

    Args:
        root: The folder; new, empty, or a complete data set of these settings.
        images: Pictures, train and val together; at least 20.
        seed: Decides everything, and which source digits train and val draw from.
        val_fraction: Share of the pictures that go to val, above 0 and below 1.
        progress: Called with (done, total) after each picture.

    Returns:
        The absolute path of the folder, for `torchvision.datasets.ImageFolder(path / "train")`.

    Raises:
        ValueError: a value out of range, or a folder that holds something else.
        ModuleNotFoundError: scikit-learn is not installed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     data = write_single_digits(Path(folder) / "singles", images=20)
        ...     sorted(path.name for path in data.iterdir()), len(list(data.glob("val/*/*.png")))
        (['dualvit-digits.json', 'train', 'val'], 10)
    """
    return Singles(images=images, seed=seed, val_fraction=val_fraction).place(root, progress)
