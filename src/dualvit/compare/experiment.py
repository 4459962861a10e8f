"""What `dualvit compare` compares, typed: the models, the data, the budget, and what each training is given."""

import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from dualvit.compare.settings import Sweep, YoloSettings
from dualvit.recipes.config import CHECKED, read, typed

METRICS = {  # of each engine and task: the name of the score that models are ranked by
    ("recipe", "classify"): "top1",
    ("recipe", "detect"): "AP",
    ("recipe", "semantic"): "miou",
    ("yolo", "detect"): "mAP50-95",
    ("yolo", "segment"): "mask mAP50-95",
}
RECIPES = {"classify": "laptop-classify", "detect": "laptop-detect", "semantic": "laptop-semantic"}
# The embedded digits: a mirrored 2 is no 2, and a quarter of a small picture no place for one.
DIGITS: dict[str, dict[str, float]] = {
    "classify": {"augment.flip": 0.0},
    "detect": {"augment.flip": 0.0, "augment.flip_vertical": 0.0},
    "semantic": {"augment.flip": 0.0},
    "yolo": {"mosaic": 0.0, "scale": 0.3, "fliplr": 0.0},
}
SAID_ABOVE = {  # settings of a recipe that are the experiment's own, and its key for each
    "task": "task", "seed": "seeds", "network.name": "models", "network.options": "models", "data.root": "data",
    "data.batch": "batch", "data.image_size": "image_size",
    "data.workers": "workers", "schedule.epochs": "epochs", "schedule.steps": "epochs",
    "schedule.minutes": "minutes", "trainer.devices": "device", "trainer.accelerator": "device",
}  # fmt: skip
RATES = {"recipe": "optimizer.lr", "yolo": "lr0"}  # what each engine calls the learning rate
NULL_SEEDS = 10**6  # the null row's seeds are its model's, and so much more

Count = Annotated[int, Field(strict=True, ge=1, le=10**6)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**31)]


@dataclass(frozen=True, config=CHECKED)
class Entry:
    """A model of the comparison.

    Attributes:
        name: A timm name, an Ultralytics YAML, or a file of `YOLO.save_weights` to train on from.
        label: What tables and pictures call it.
        options: Further arguments of `timm.create_model`, or of `dualvit.yolo.YOLO`.
        settings: Of its training alone, such as its own learning rate; dotted names.
        seeds_from: Added to each seed; of the null row, which is a model under other seeds.
    """

    name: str
    label: str
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    seeds_from: int = 0

    @property
    def slug(self) -> str:
        """The label as a file name."""
        return re.sub(r"[^\w.+-]+", "-", self.label)

    def mapping(self) -> dict[str, Any]:
        """The model as a YAML would say it in full."""
        own = {"settings": dict(self.settings)} if self.settings else {}
        return {"name": self.name, "label": self.label, **self.options, **own}


@dataclass(frozen=True, config=CHECKED, kw_only=True)
class Experiment:
    """What is compared, on which pictures, and in which settings.

    Attributes:
        engine: What trains: recipe (`dualvit recipe fit`) or yolo (Ultralytics).
        task: classify, detect or semantic of recipes; detect or segment of YOLO.
        data: `digits`, or a data set as the engine takes it: a folder, or a data.yaml.
        models: At least one.
        recipe: Of engine recipe: the name or the file that training takes its settings from.
        settings: Of the training, for all models: the recipe's with dotted names, or Ultralytics' own.
        image_size: Height and width in pixels; of recipe detectors the shorter side.
        batch: Pictures in a step.
        output: The folder of all results.
        epochs: Equal epochs for all; or None.
        minutes: Equal wall-clock time for all, in training; or None.
        seeds: Each model is trained once with each.
        reference: The label that others are compared with; the best one if left out.
        sweep: How each model's learning rate is chosen; None trains all at the rate of `settings`.
        null_row: The label of a model that is trained once more, under other seeds: what two equals differ by.
        images: Pictures of the embedded data set.
        device: auto, cpu, cuda, or GPU numbers such as "0,1".
        jobs: Cells side by side on the CPU, or on each GPU.
        workers: Processes that read data, for each cell; chosen if left out.
        imports: Python modules that register further models with timm.
        runtimes: What latency is measured in, besides eager.
        sustained: Seconds of a run whose first and last minute are told apart; none if left out.
        score: The split that the last epoch is scored on, once: val, or test.
    """

    NOUN: ClassVar[str] = "an experiment"

    engine: Literal["recipe", "yolo"]
    task: str
    data: str
    models: tuple[Entry, ...]
    recipe: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    image_size: Annotated[int, Field(strict=True, ge=32, le=4096)]
    batch: Count
    output: Path = Path("runs/compare/experiment")
    epochs: Count | None = None
    minutes: Annotated[float, Field(strict=True, ge=1e-3, le=10**6)] | None = None
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    reference: str | None = None
    sweep: Sweep | None = None
    null_row: str | None = None
    images: Annotated[int, Field(strict=True, ge=20, le=10**6)] | None = None
    device: str = "auto"
    jobs: Annotated[int, Field(strict=True, ge=1, le=1024)] = 1
    workers: Annotated[int, Field(strict=True, ge=0, le=1024)] | None = None
    imports: tuple[str, ...] = ()
    runtimes: tuple[Literal["onnxruntime", "openvino"], ...] = ("onnxruntime", "openvino")
    sustained: Annotated[float, Field(strict=True, ge=1, le=10**5)] | None = None
    score: Literal["val", "test"] = "val"

    @property
    def metric(self) -> str:
        """The name of the score that models are ranked by."""
        return METRICS[self.engine, self.task]

    @property
    def rows(self) -> tuple[Entry, ...]:
        """The models, and the null row."""
        twice = (entry for entry in self.models if entry.label == self.null_row)
        return (*self.models, *(replace(entry, label=self.null_label, seeds_from=NULL_SEEDS) for entry in twice))

    @property
    def null_label(self) -> str:
        """What the null row is called."""
        return f"{self.null_row} (again)"

    @property
    def rate_name(self) -> str:
        """What the engine calls the learning rate."""
        return RATES[self.engine]

    def training(self, entry: Entry | None = None) -> dict[str, Any]:
        """Settings of a training as its engine takes them, seed and device excepted.

        Args:
            entry: Whose model and own settings are in them; None has those that all models share.

        Returns:
            A recipe's plain values, or arguments of Ultralytics.
        """
        digits = DIGITS["yolo" if self.engine == "yolo" else self.task] if self.data == "digits" else {}
        changes = {**digits, **self.settings, **(entry.settings if entry else {})}
        if self.engine == "yolo":
            budget = {"epochs": self.epochs} if self.epochs else {"time": (self.minutes or 0) / 60}
            return {**asdict(typed(YoloSettings, changes)), "imgsz": self.image_size, "batch": self.batch, **budget}
        values = deepcopy(read(self.recipe or RECIPES[self.task]))
        # The recipe says how to train, and the experiment what, from which weights, and for how long.
        network = values.pop("network", {})
        values["network"] = {k: v for k, v in network.items() if k not in ("name", "options", "weights")}
        for path, value in changes.items():
            put(values, path, value)
        if entry:
            values["network"] |= {"name": entry.name, "options": dict(entry.options)}
        side = "short_side" if self.task == "detect" else "image_size"
        values["data"] |= {"root": self.data, "batch": self.batch, side: self.image_size, "workers": self.workers or 0}
        values["schedule"] = values.get("schedule", {}) | {
            "epochs": self.epochs,
            "steps": None,
            "minutes": self.minutes,
        }
        trainer = {k: v for k, v in values.get("trainer", {}).items() if k not in ("accelerator", "devices")}
        values["trainer"] = trainer | {"logger": False, "enable_progress_bar": False}
        return values

    def decisive(self) -> dict[str, Any]:
        """What decides a result, besides the model and the seed; dotted names."""
        own = ("engine", "task", "data", "images", "image_size", "batch", "epochs", "minutes")
        skipped = {*SAID_ABOVE, *own, "imgsz", "time", "title", "trainer.logger", "trainer.enable_progress_bar"}
        settings = {name: value for name, value in flat(self.training()).items() if name not in skipped}
        sweep = {"sweep": asdict(self.sweep)} if self.sweep else {}
        split = {"score": self.score} if self.score != "val" else {}
        return {name: getattr(self, name) for name in own} | sweep | split | settings

    def mapping(self) -> dict[str, Any]:
        """The experiment as its YAML would say it in full; `parse` reads it back."""
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}
        plain |= {"models": [entry.mapping() for entry in self.models], "output": str(self.output)}
        plain |= {"sweep": asdict(self.sweep)} if self.sweep else {}
        if self.score == "val":
            del plain["score"]
        return {key: value for key, value in plain.items() if value is not None and not key.startswith("_")}


def flat(values: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Nested settings by dotted names.

    Example:
        >>> flat({"optimizer": {"lr": 0.1}, "data.batch": 8})
        {'optimizer.lr': 0.1, 'data.batch': 8}
    """
    names: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{place}{key}"
        names |= flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return names


def put(values: dict[str, Any], path: str, value: Any) -> None:
    """Set one value in place by its dotted name."""
    *parents, last = path.split(".")
    for parent in parents:
        values[parent] = dict(values.get(parent) or {})
        values = values[parent]
    values[last] = value
