"""The door of what is quantised: classifiers, and checkpoints of YOLO, imported here alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from dualvit.deploy.classified import ClassifierSubject
from dualvit.deploy.quantise import LEAST
from dualvit.deploy.runtimes import Array, Run
from dualvit.deploy.sources import open_source
from dualvit.errors import InputError, MissingFileError


class Subject(Protocol):
    """A trained network with a data set.

    Attributes:
        name: Of its files.
        image_size: Both sides of its pictures, in pixels.
        counted: What has a score: boxes or pictures.
        sure: The score from which a box counts that only one of two files has.
    """

    name: str
    image_size: int
    counted: str
    sure: float

    def export(self, file: Path) -> dict[str, str]:
        """Write it as ONNX for one picture; return Ultralytics' metadata of a YOLO."""

    def describe(self) -> dict[str, Any]:
        """Return what the file says of itself, as `Metadata` takes it, without the name."""

    def training_files(self) -> list[Path]:
        """Return the pictures of the training split."""

    def example(self) -> Array:
        """Return a picture of the validation split as the file takes it, (1, 3, H, W)."""

    def picture(self, file: Path) -> Array:
        """Return a picture as the file takes it, (1, 3, H, W)."""

    def score(self, run: Run) -> tuple[dict[str, float], dict[str, list[dict[str, Any]]]]:
        """Return accuracies of a file on the validation split by their names, and COCO results by picture."""

    def error(self, before: Sequence[Array], after: Sequence[Array]) -> float:
        """Return how far the outputs for a picture are from those of the float file; 0 if they are equal."""


def open_subject(
    model: str | Path, data: Path, weights: str | None = None, image_size: int | None = None
) -> Subject:  # fmt: skip
    """Open what is quantised.

    Args:
        model: A checkpoint of YOLO, .pt or .safetensors; of a recipe's classifier, .ckpt; or a timm name.
        data: Its data.yaml; of a classifier, the folder with train/CLASS/ and val/CLASS/.
        weights: Of a timm name.
        image_size: Both sides in pixels; what it was trained at if left out.

    Raises:
        FileNotFoundError: the checkpoint or the data set is not there.
        ValueError: they cannot be used, or do not belong together.
    """
    file = Path(model)
    if file.suffix in (".onnx", ".xml") or file.is_dir():
        raise InputError(f"{model} is no checkpoint; give the one that it was exported from, such as best.pt")
    if file.suffix not in (".pt", ".safetensors"):
        name = file.stem if file.suffix == ".ckpt" else ""
        return ClassifierSubject(open_source(str(model), weights, image_size), data, name)
    if not file.is_file():
        raise MissingFileError(f"no model at {model}; give a checkpoint of YOLO or of a recipe, or a timm name")
    if weights is not None:
        raise InputError(f"{model} has weights of its own; leave --weights out")
    from dualvit.yolo.quantised import YoloSubject

    return YoloSubject(file, data, image_size)


def chosen(files: Sequence[Path], count: int, what: str) -> list[Path]:
    """Return so many of the pictures, spread over their order.

    Raises:
        ValueError: fewer than `LEAST` are wanted, or there are too few.
    """
    if count < LEAST:
        raise InputError(f"{count} pictures to calibrate on are too few; give at least {LEAST}")
    if len(files) < LEAST:
        raise InputError(f"{what} has {len(files)} pictures to calibrate on; give at least {LEAST}")
    count = min(count, len(files))
    return [files[len(files) * index // count] for index in range(count)]
