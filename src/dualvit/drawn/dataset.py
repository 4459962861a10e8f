"""A data set that the package draws: its settings, its layout on disk, and its place, which is filled once."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from dualvit.drawn.scenes import Scene
from dualvit.errors import InputError
from dualvit.files import atomic_folder, read_json

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class DrawnSet(ABC):
    """The content of a drawn data set; the marker in its folder keeps every field.

    A picture depends on seed, split and number alone, so that a larger set only adds files.

    Attributes:
        images: Pictures of training and validation together.
        seed: Decides everything.
        val_fraction: Share of the pictures that go to val, above 0 and below 1.
        version: Of the pictures: a class raises it whenever the same seed gives other pixels.
        kind: What messages and the marker's name call it; a class attribute, as `least`.
        least: The fewest images.
    """

    images: int
    seed: int
    val_fraction: float
    version: int = 1
    kind: ClassVar[str]
    least: ClassVar[int] = 5

    def __post_init__(self) -> None:
        if self.images < self.least:
            raise InputError(f"images is {self.images}, below {self.least}; ask for {self.least} or more")
        if not 0 < self.val_fraction < 1:
            raise InputError(f"val_fraction is {self.val_fraction}, not between 0 and 1; try 0.2")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}, below 0; give 0 or more")

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of the classes in labels with polygons; none if the pictures stand in folders by class."""

    @abstractmethod
    def drawer(self) -> Callable[[str, int], Scene]:
        """Return the function that draws a picture of a folder, such as images/train, by its number."""

    def content(self) -> dict[str, Any]:
        """Return what the marker in the folder keeps: every setting."""
        return asdict(self)

    def counts(self) -> dict[str, int]:
        """Return the number of pictures in each folder; `images/SPLIT` has labels, the others a folder per class."""
        return {f"images/{split}": count for split, count in self.split(1).items()}

    def split(self, least: int) -> dict[str, int]:
        """Share the pictures out to train and val, at least so many to each."""
        val = min(max(round(self.images * self.val_fraction), least), self.images - least)
        return {"train": self.images - val, "val": val}

    def place(self, root: Path, progress: Progress | None = None) -> Path:
        """Write the data set in one go, unless it is there already.

        Args:
            root: The folder; new, empty, or a complete data set of these settings.
            progress: Called with (done, total) after each picture.

        Returns:
            The folder's absolute path.

        Raises:
            ValueError: the folder holds something else.
        """
        root = Path(root).resolve()
        if self._stands(root):
            return root
        draw, total = self.drawer(), sum(self.counts().values())
        try:
            with atomic_folder(root) as folder:
                for done, _ in enumerate(self._write(folder, draw), 1):
                    if progress is not None:
                        progress(done, total)
        except OSError:  # another process may have written the same set meanwhile
            if not self._stands(root):
                raise
        return root

    @property
    def _marker(self) -> str:
        return f"dualvit-{self.kind}.json"

    def _stands(self, root: Path) -> bool:
        """Return whether the very data set is there already; False if there is nothing.

        Raises:
            ValueError: something else is there; nothing of a user's is ever overwritten.
        """
        if not root.exists() or (root.is_dir() and not any(root.iterdir())):
            return False
        if not (root / self._marker).is_file():
            raise InputError(
                f"{root} is not empty and holds no {self.kind} data set (no {self._marker}); name another folder"
            )
        marked, wanted = read_json(root / self._marker) or {}, self.content()
        if marked != wanted:
            keys = [key for key in wanted | marked if marked.get(key) != wanted.get(key)]
            other = ", ".join(f"{key} {marked.get(key)} instead of {wanted.get(key)}" for key in keys)
            raise InputError(
                f"{root} holds {self.kind} of other settings ({other}); name another folder or delete this one"
            )
        for name, count in self.counts().items():
            here = sum(1 for _ in (root / name).rglob("*.[jp][pn]g"))
            if name.startswith("images"):
                here = min(here, sum(1 for _ in (root / f"labels/{name[7:]}").glob("*.txt")))
            if here < count or (self.names() and not (root / "data.yaml").is_file()):
                raise InputError(
                    f"{root} is incomplete ({here} of {count} in {name}); delete it or name another folder"
                )
        return True

    def _write(self, root: Path, draw: Callable[[str, int], Scene]) -> Iterator[None]:
        """Write every file, with a stop after each picture."""
        for name, count in self.counts().items():
            for index in range(count):
                scene = draw(name, index)
                if name.startswith("images"):
                    target, label = root / f"{name}/{index:05}.jpg", root / f"labels/{name[7:]}/{index:05}.txt"
                    label.parent.mkdir(parents=True, exist_ok=True)
                    label.write_text("".join(f"{row}\n" for row in scene.rows()))
                else:
                    target = root / f"{name}/{scene.classes[0]}/{index:05}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(scene.image).save(target, quality=92)
                yield
        if self.names():
            names = "".join(f"  {number}: '{name}'\n" for number, name in enumerate(self.names()))
            # No `path`: Ultralytics then takes the folder of this file, wherever it is moved.
            (root / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames:\n{names}")
        (root / self._marker).write_text(json.dumps(self.content()) + "\n")


def check_size(size: int) -> None:
    """Raise ValueError, unless the sides of pictures can be `size` pixels: a multiple of 32, at least 64."""
    if size < 64 or size % 32:
        nearest = max(64, 32 * round(size / 32))
        raise InputError(f"size is {size}, not a multiple of 32 from 64 on; try {nearest}")
