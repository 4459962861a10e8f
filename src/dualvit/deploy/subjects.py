"""The door of what is quantised: checkpoints of YOLO, imported here alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from dualvit.deploy.quantise import LEAST
from dualvit.deploy.runtimes import Array, Run
from dualvit.errors import InputError, MissingFileError


class Subject(Protocol):
    """A trained network with a data set.

    Attributes:
        name: Of its files.
        image_size: Both sides of its pictures, in pixels.
        measure: Of its accuracy, such as mAP50-95.
    """

    name: str
    image_size: int
    measure: str

    def export(self, file: Path) -> dict[str, str]:
        """Write it as ONNX for one picture; return the metadata of the file."""

    def training_files(self) -> list[Path]:
        """Return the pictures of the training split."""

    def picture(self, file: Path) -> Array:
        """Return a picture as the file takes it, (1, 3, H, W)."""

    def score(self, run: Run) -> tuple[float, dict[str, list[dict[str, Any]]]]:
        """Return the accuracy of a file on the validation split, and COCO results by picture."""

    def error(self, before: Sequence[Array], after: Sequence[Array]) -> float:
        """Return how far the outputs for a picture are from those of the float file; 0 if they are equal."""


def open_subject(model: Path, data: Path, image_size: int | None = None) -> Subject:
    """Open what is quantised.

    Args:
        model: A checkpoint of YOLO, .pt or .safetensors.
        data: Its data.yaml.
        image_size: Both sides in pixels; what it was trained at if left out.

    Raises:
        FileNotFoundError: the checkpoint or the data set is not there.
        ValueError: they cannot be used, or do not belong together.
    """
    if not model.is_file():
        raise MissingFileError(f"no model at {model}; give a checkpoint of YOLO, such as best.pt")
    if model.suffix not in (".pt", ".safetensors"):
        raise InputError(f"{model} is no checkpoint of YOLO; give the .pt or .safetensors that it was exported from")
    from dualvit.yolo.quantised import YoloSubject

    return YoloSubject(model, data, image_size)


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
