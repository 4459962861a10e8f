"""From an experiment to data and modules, the same in the command, in each cell, and where cost is measured."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from torch import nn

from dualvit.compare.experiment import DEFAULTS, Entry, Experiment
from dualvit.models import create_model
from dualvit.provenance import allowed_cores

NEEDS = {  # for each task: modules, and the extra that brings them
    "classify": (("lightning", "matplotlib", "pydantic", "scipy", "jinja2"), "recipes"),
    "detect": (("ultralytics", "matplotlib", "pydantic", "scipy", "jinja2"), "yolo"),
    "segment": (("ultralytics", "matplotlib", "pydantic", "scipy", "jinja2"), "yolo"),
}


@dataclass(frozen=True)
class Data:
    """A data set that is ready to be trained on.

    Attributes:
        path: The folder, or the data.yaml.
        classes: Their number.
        train: The number of pictures to train on.
        val: The number of pictures to validate on.
    """

    path: str
    classes: int
    train: int
    val: int


def require(task: str) -> None:
    """Stop with the extra's name where a library is missing.

    Raises:
        ModuleNotFoundError: naming what to install.
    """
    modules, extra = NEEDS[task]
    for name in modules:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"comparing models in task {task} needs {name}; install dualvit[{extra}]")


def import_modules(experiment: Experiment) -> None:
    """Import the modules that register further models with timm, from the working directory too."""
    if experiment.imports and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    for name in experiment.imports:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise ValueError(f"imports names {name!r}: {error}; give modules beside the working directory") from None


def prepare_data(experiment: Experiment, progress: Callable[[int, int], None] | None = None) -> Data:
    """Draw the embedded data set, or look whether the named one has pictures.

    Raises:
        FileNotFoundError: there is no data set, or one without pictures.
    """
    place: str | Path = experiment.data
    images = experiment.images or DEFAULTS[experiment.task]["images"]
    if experiment.task == "classify":
        from dualvit.data.images import read_folders

        if place == "digits":
            from dualvit.drawn.digits import write_single_digits

            place = write_single_digits(experiment.output / "data" / "digits", images, progress=progress)
        found = read_folders(place)
        return Data(str(Path(place).resolve()), len(found.classes), len(found.train), len(found.val))
    from dualvit.yolo.engine import read_data

    if place == "digits":
        from dualvit.drawn.digits import write_digits

        size = max(64, experiment.image_size)
        place = write_digits(experiment.output / "data" / "digits", images, size, progress=progress, val_fraction=0.25)
    return Data(str(Path(place).resolve()), **read_data(place))


def build(experiment: Experiment, entry: Entry, classes: int) -> nn.Module:
    """The module of a model, with fresh weights, for this task, image size and number of classes."""
    if experiment.task != "classify":
        from dualvit.yolo.engine import network

        return network(entry.name, entry.options, experiment.task, classes)
    options = dict(entry.options)
    config = timm.get_pretrained_cfg(entry.name) if timm.is_model(entry.name.split(".", 1)[0]) else None
    if config is not None and config.fixed_input_size:
        options.setdefault("img_size", experiment.image_size)
    return create_model(entry.name, num_classes=classes, **options)


def check_models(experiment: Experiment, classes: int) -> None:
    """Build every model and run a picture through it.

    Raises:
        ValueError: naming the first model that cannot be built, or does not take such a picture.
    """
    image = torch.zeros(1, 3, experiment.image_size, experiment.image_size)
    for entry in experiment.models:
        try:
            with torch.inference_mode():
                build(experiment, entry, classes).eval()(image)
        except Exception as error:
            line = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"model {entry.label!r} at {experiment.image_size} pixels: {line}") from error


def cores() -> int:
    """The CPU cores that this process may use, or OMP_NUM_THREADS where that is less."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(allowed_cores(), int(wanted)) if wanted.isdigit() and int(wanted) > 0 else allowed_cores()
