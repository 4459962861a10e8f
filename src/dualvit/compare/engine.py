"""What a cell asks of the stack that trains it, and the two that answer: `dualvit recipe fit`, and YOLO."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dualvit.compare.experiment import Entry, Experiment
from dualvit.compare.reading import require_data
from dualvit.errors import InputError, MissingExtraError, line_of
from dualvit.progress import Listener, Row

NEEDS = {  # of each engine and task: modules, beside those of the report, and the extra that brings them
    ("recipe", "classify"): (("lightning", "torchmetrics"), "recipes"),
    ("recipe", "detect"): (("lightning", "faster_coco_eval"), "recipes"),
    ("recipe", "semantic"): (("lightning", "segmentation_models_pytorch"), "recipes"),
    ("yolo", "detect"): (("ultralytics",), "yolo"),
    ("yolo", "segment"): (("ultralytics",), "yolo"),
}
OF_REPORT = ("matplotlib", "scipy", "jinja2")
MODULES = {"recipe": "dualvit.compare.recipe_engine", "yolo": "dualvit.yolo.engine"}  # what a cell's process imports
MAX_WORKERS = 8


class Engine(Protocol):
    """One model with its settings, in the hands of what trains it.

    Attributes:
        skipped: What the last training could not read and left out, a line each.
        digests: Of the last training: `weights` at its end, and its first `batch`, unless it went on from a state.
    """

    skipped: list[str]
    digests: dict[str, str]

    def counts(self) -> tuple[int, int, int, list[str]]:
        """Return how many classes the data set has, how many pictures to train and validate on, and notes on it."""

    def network(self, classes: int) -> nn.Module:
        """Build the module, with fresh weights: images (B, 3, H, W) to whatever it answers."""

    def scored(self, folder: Path, classes: int) -> nn.Module:
        """Build the module with the weights that the last epoch of the cell in `folder` was scored with.

        Raises:
            FileNotFoundError: the folder has none.
            ValueError: they are damaged, or of another model.
        """

    def export(self, network: nn.Module, image: Tensor, file: Path) -> list[Tensor]:
        """Write a module, in evaluation mode and not fused, to an ONNX file for pictures of the size of `image`.

        Returns:
            What the file must answer to the image, as the plain module computes it.

        Raises:
            ValueError: such modules are not exported, and why.
        """

    def constant(self, split: str) -> float:
        """Return what one answer for everything, the most frequent one, scores on val or test; 0 of detectors."""

    def tests(self) -> int:
        """Return how many pictures the test split has.

        Raises:
            ValueError: there is none.
        """

    def predict(self, folder: Path, split: str) -> tuple[dict[str, float], dict[str, Any]]:
        """Ask the network of a training that is done, as the last epoch left and scored it.

        Args:
            folder: That the training wrote to.
            split: val or test.

        Returns:
            The scores, and what `predictions.json` holds: images, categories, and annotations or answers.
        """

    def truth(self, split: str) -> Any:
        """Read what is really in the pictures of a split.

        Returns:
            A `Coco` of objects; a sequence of images uint8 (3, H, W) with masks int64 (H, W); or None of classifiers.
        """

    def train(self, folder: Path, listener: Listener) -> list[Row]:
        """Train, or continue from what the folder holds.

        Args:
            folder: Takes what the engine writes.
            listener: Is told the share that is done, the seconds so far, and the epochs once one is on disk; first
                when training begins.

        Returns:
            A row per validation: epoch, scores, and seconds of training so far.
        """


@dataclass(frozen=True)
class DataSet:
    """A data set that is ready to be trained on.

    Attributes:
        path: The folder, or the data.yaml.
        classes, train, val: The numbers of classes, of pictures to train on, and to validate on.
        notes: What its reader says of it, a line each.
        test: The number of pictures that are scored in the end, if they are not those to validate on.
        constant: What one answer for everything scores on the pictures to validate on, if it was looked at.
    """

    path: str
    classes: int
    train: int
    val: int
    notes: list[str] = field(default_factory=list)
    test: int = 0
    constant: float = 0.0


@dataclass(frozen=True)
class Place:
    """Where a cell trains: on the first visible GPU or the CPU, with how many threads and from which seed."""

    cuda: bool = False
    threads: int = 1
    seed: int = 0


UNPLACED = Place()  # of what is built and not trained


def engine(experiment: Experiment, entry: Entry, data: str, place: Place = UNPLACED) -> Engine:
    """Return the engine that trains a model on the data set at `data`."""
    settings = experiment.training(entry)
    if experiment.engine == "recipe":
        from dualvit.compare.recipe_engine import RecipeEngine

        workers = experiment.workers if experiment.workers is not None else place.threads if place.cuda else 0
        return RecipeEngine(settings, data, place.seed, min(workers, MAX_WORKERS), place.cuda)
    from dualvit.yolo.engine import YoloEngine

    workers = place.threads if experiment.workers is None else experiment.workers
    settings |= {"seed": place.seed, "device": "0" if place.cuda else "cpu", "workers": min(workers, MAX_WORKERS)}
    return YoloEngine(entry.name, entry.options, experiment.task, settings | {"data": data}, place.threads)


def require(experiment: Experiment) -> None:
    """Stop with the extra's name if a library is missing.

    Raises:
        ModuleNotFoundError: naming what to install.
    """
    modules, extra = NEEDS[experiment.engine, experiment.task]
    for name in (*modules, *OF_REPORT):
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(
                f"comparing models in task {experiment.task} needs {name}; install dualvit[{extra}]"
            )


def import_modules(experiment: Experiment) -> None:
    """Import the modules that register further models with timm, from the working directory too."""
    if experiment.imports and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    for name in experiment.imports:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise InputError(f"imports names {name!r}: {error}; give modules beside the working directory") from None


def prepare_data(experiment: Experiment, progress: Callable[[int, int], None] | None = None) -> DataSet:
    """Draw the embedded data set, or look whether the named one has pictures.

    Raises:
        FileNotFoundError: there is no data set, or one without pictures.
        ValueError: there is no test split, and the experiment scores on it.
    """
    require_data(experiment)
    place = Path(experiment.data)
    if experiment.data == "digits":
        from dualvit.drawn.digits import write_digits, write_single_digits

        folder, images = experiment.output / "data" / "digits", experiment.images or 0
        if experiment.task == "classify":
            place = write_single_digits(folder, images, progress=progress)
        else:
            size = max(64, experiment.image_size)
            place = write_digits(folder, images, size, progress=progress, val_fraction=0.25)
    path = str(place.resolve())
    reader = engine(experiment, experiment.models[0], path)
    return DataSet(path, *reader.counts(), reader.tests() if experiment.score == "test" else 0)


def check_models(experiment: Experiment, data: DataSet) -> None:
    """Build every model and run a picture through it.

    Raises:
        ValueError: naming the first model that cannot be built, or does not take such a picture.
    """
    image = torch.zeros(1, 3, experiment.image_size, experiment.image_size)
    for entry in experiment.models:
        try:
            with torch.inference_mode():
                engine(experiment, entry, data.path).network(data.classes).eval()(image)
        except Exception as error:  # whatever a model raises as it is built or run
            line = line_of(error)
            raise InputError(f"model {entry.label!r} at {experiment.image_size} pixels: {line}") from error
