"""The embedded data set: real handwritten digits as objects in clutter, made offline from a seed.

The digits are scikit-learn's `load_digits` (1797 images of 8x8, ten classes). The pictures come in
Ultralytics layout: boxes and polygons of each digit's visible pixels, and single digits by class.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from dualvit.drawn.scenes import Sources, draw_scene, draw_single
from dualvit.errors import InputError
from dualvit.files import atomic_folder, read_json

VERSION = 1  # of the pictures: raise it whenever the same seed gives other pixels
MARKER = "dualvit-digits.json"


@dataclass(frozen=True)
class Scenes:
    """The content of a data set of scenes, as `write_digits` takes it and the marker keeps it."""

    images: int
    size: int
    seed: int
    val_fraction: float
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.images < 5:
            raise InputError(f"images is {self.images}, below 5; ask for 5 or more")
        if self.size < 64 or self.size % 32:
            nearest = max(64, 32 * round(self.size / 32))
            raise InputError(f"size is {self.size}, not a multiple of 32 from 64 on; try {nearest}")
        _check(self.seed, self.val_fraction)

    def counts(self) -> dict[str, int]:
        """Return the number of pictures in each folder: `classify` has two per scene, and all classes at least once."""
        scenes = _split(self.images, self.val_fraction, 1)
        singles = {f"classify/{split}": max(2 * count, 10) for split, count in scenes.items()}
        return {f"images/{split}": count for split, count in scenes.items()} | singles


@dataclass(frozen=True)
class Singles:
    """The content of a data set of single digits; a set of the one kind is never taken for the other."""

    singles: int
    seed: int
    val_fraction: float
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.singles < 20:
            raise InputError(
                f"images is {self.singles}, below 20; ask for 20 or more, one per digit to train and validate"
            )
        _check(self.seed, self.val_fraction)

    def counts(self) -> dict[str, int]:
        """Return the number of pictures in each folder, all classes at least once."""
        return _split(self.singles, self.val_fraction, 10)


def _check(seed: int, val_fraction: float) -> None:
    if not 0 < val_fraction < 1:
        raise InputError(f"val_fraction is {val_fraction}, not between 0 and 1; try 0.2")
    if seed < 0:
        raise InputError(f"seed is {seed}, below 0; give 0 or more")


def _split(images: int, val_fraction: float, least: int) -> dict[str, int]:
    """Share pictures out to train and val, at least so many to each."""
    val = min(max(round(images * val_fraction), least), images - least)
    return {"train": images - val, "val": val}


def write_digits(
    root: Path,
    images: int = 400,
    size: int = 320,
    seed: int = 0,
    val_fraction: float = 0.2,
    progress: Callable[[int, int], None] | None = None,
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
    return _place(Path(root).resolve(), Scenes(images, size, seed, val_fraction), progress) / "data.yaml"


def write_single_digits(
    root: Path,
    images: int = 2000,
    seed: int = 0,
    val_fraction: float = 0.25,
    progress: Callable[[int, int], None] | None = None,
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
    return _place(Path(root).resolve(), Singles(images, seed, val_fraction), progress)


def _place(place: Path, settings: Scenes | Singles, progress: Callable[[int, int], None] | None) -> Path:
    """Write the data set of these settings in one go, unless it is there."""
    if _stands(place, settings):
        return place
    sources, total = Sources(), sum(settings.counts().values())
    try:
        with atomic_folder(place) as folder:
            for done, _ in enumerate(_write(folder, settings, sources), 1):
                if progress is not None:
                    progress(done, total)
    except OSError:  # another process may have written the same set meanwhile
        if not _stands(place, settings):
            raise
    return place


def _stands(root: Path, settings: Scenes | Singles) -> bool:
    """Whether the very data set is there already; False where there is nothing.

    Raises:
        ValueError: something else is there; nothing of a user's is ever overwritten.
    """
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    if not (root / MARKER).is_file():
        raise InputError(f"{root} is not empty and holds no digits data set (no {MARKER}); name another folder")
    marked, wanted = read_json(root / MARKER) or {}, asdict(settings)
    if marked != wanted:
        other = ", ".join(f"{k} {marked.get(k)} instead of {v}" for k, v in wanted.items() if marked.get(k) != v)
        raise InputError(f"{root} holds digits of other settings ({other}); name another folder or delete this one")
    for name, count in settings.counts().items():
        here = sum(1 for _ in (root / name).rglob("*.[jp][pn]g"))
        labels = sum(1 for _ in (root / f"labels/{name[7:]}").glob("*.txt")) if name.startswith("images") else count
        if min(here, labels) < count or (isinstance(settings, Scenes) and not (root / "data.yaml").is_file()):
            raise InputError(
                f"{root} is incomplete ({min(here, labels)} of {count} in {name}); delete it or name another folder"
            )
    return True


def _write(root: Path, settings: Scenes | Singles, sources: Sources) -> Iterator[None]:
    """Write every file, with a stop after each picture."""
    for name, count in settings.counts().items():
        kind, _, split = name.rpartition("/")
        for index in range(count):
            if kind == "images" and isinstance(settings, Scenes):
                scene = draw_scene(sources, settings.seed, split, index, settings.size)
                target = root / f"{name}/{index:05}.jpg"
                label = root / f"labels/{split}/{index:05}.txt"
                label.parent.mkdir(parents=True, exist_ok=True)
                label.write_text("".join(f"{row}\n" for row in scene.rows()))
            else:
                scene = draw_single(sources, settings.seed, split, index)
                target = root / f"{name}/{scene.classes[0]}/{index:05}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(scene.image).save(target, quality=92)
            yield
    if isinstance(settings, Scenes):
        names = "".join(f"  {digit}: '{digit}'\n" for digit in range(10))
        # No `path`: Ultralytics then takes the folder of this file, wherever it is moved.
        (root / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames:\n{names}")
    (root / MARKER).write_text(json.dumps(asdict(settings)) + "\n")
