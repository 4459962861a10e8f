"""The YAML file of `dualvit compare`, typed; every mistake in it is one line. Nothing here needs torch."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import asdict, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from dualvit.compare.settings import Sweep, YoloSettings
from dualvit.errors import InputError, MissingFileError
from dualvit.files import read_yaml
from dualvit.recipes.checks import require_known, require_model
from dualvit.recipes.config import CHECKED, apply, of_its_task, read, typed

TEMPLATES = Path(__file__).parent / "templates"  # experiments that come with the package
METRICS = {  # of each engine and task: the name of the score that models are ranked by
    ("recipe", "classify"): "top1",
    ("recipe", "detect"): "AP",
    ("recipe", "semantic"): "miou",
    ("yolo", "detect"): "mAP50-95",
    ("yolo", "segment"): "mask mAP50-95",
}
RECIPES = {"classify": "laptop-classify", "detect": "laptop-detect", "semantic": "laptop-semantic"}
YOLO_SIZES = {"image_size": 192, "batch": 16}
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
RENAMED = {  # settings that once stood in the first column of the YAML
    "lr": ("optimizer.lr", "lr0"), "weight_decay": ("optimizer.weight_decay", "weight_decay"),
    "warmup_epochs": ("schedule.warmup_epochs", "warmup_epochs"), "clip_grad": ("optimizer.clip", ""),
    "label_smoothing": ("augment.label_smoothing", ""), "crop_scale": ("augment.crop_scale", ""),
    "flip": ("augment.flip", "fliplr"), "colour_jitter": ("augment.colour_jitter", "hsv_v"),
    **{name.name: ("", name.name) for name in fields(YoloSettings) if name.name.startswith(("mosaic", "fl", "hsv"))},
}  # fmt: skip
UNPRINTED = ("Cc", "Cs", "Zl", "Zp")  # kinds of characters that a table or a picture cannot show
LONGEST = 220  # of the 255 bytes that a file's name may have, the rest is the rate's and the seed's
OF_YOLO = (".yaml", ".yml", ".safetensors")  # names of YOLO's whole models; others are timm's
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


def load(path: str | Path, changes: Iterable[str] = ()) -> Experiment:
    """Read an experiment: a YAML file, or the name of one that comes with the package.

    Args:
        path: The file or the name.
        changes: Each as `epochs=3` or `settings.optimizer.lr=1e-3`; values are read as YAML.

    Raises:
        FileNotFoundError: there is neither.
        ValueError: it does not say what an experiment needs, with the remedy.
    """
    path = Path(path)
    if not path.is_file() and (TEMPLATES / f"{path}.yaml").is_file():
        path = TEMPLATES / f"{path}.yaml"
    if not path.is_file():
        shipped = ", ".join(sorted(file.stem for file in TEMPLATES.glob("*.yaml")))
        raise MissingFileError(f"no experiment at {path}; give a YAML file, or one that comes with dualvit: {shipped}")
    raw = {"output": str(Path("runs") / "compare" / path.stem)} | read_yaml(path)
    try:
        for change in changes:
            apply(raw, change)
        return parse(raw)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def require(experiment: Experiment) -> None:
    """Check what can be told before torch is imported: the data set's place, and names of timm and Lightning.

    Raises:
        FileNotFoundError: no data set there.
        ValueError: a model that neither timm nor this package has.
    """
    require_data(experiment)
    for entry in () if experiment.imports else experiment.models:
        if experiment.engine == "recipe":
            require_known(of_its_task(experiment.training(entry)))
        elif not entry.name.endswith(OF_YOLO):
            require_model(entry.name)


def require_data(experiment: Experiment) -> None:
    """Check that the data set is there.

    Raises:
        FileNotFoundError: it is not.
    """
    if experiment.data != "digits" and not Path(experiment.data).exists():
        raise MissingFileError(f"no data set at {experiment.data}; give {_NEEDED['data']}")


def parse(raw: Mapping[str, Any]) -> Experiment:
    """Check a mapping as it comes from YAML, and make the experiment of it.

    Raises:
        ValueError: one line that names the first mistake.
        FileNotFoundError: there is no recipe of that name.
    """
    values = dict(raw)
    engine = values["engine"] = _engine(values.get("engine"), values.get("task"))
    for key in (key for key in values if key in RENAMED):
        name = RENAMED[key][engine == "yolo"]
        remedy = f"it is called {name}, and stands in `settings`" if name else f"engine {engine} has none; remove it"
        raise InputError(f"unknown setting {key!r}; {remedy}")
    if ("epochs" in values) == ("minutes" in values):
        state = "both epochs and minutes are" if "epochs" in values else "neither epochs nor minutes is"
        raise InputError(f"{state} given; give exactly one: equal epochs, or equal wall-clock time")
    for key in ("data", "models"):
        if not values.get(key):
            raise InputError(f"{key} is missing; give {_NEEDED[key]}")
    if values["data"] == "digits":
        values = {"images": 1000 if values["task"] == "classify" else 400} | values
    values = _sizes(values) | values
    values["settings"] = _settings(values.get("settings", {}), "settings", values["task"])
    values["models"] = _entries(values["models"], values["task"])
    if isinstance(device := values.get("device", "auto"), int | list):
        values["device"] = ",".join(map(str, device if isinstance(device, list) else [device]))
    elif isinstance(device, str):
        values["device"] = device.replace(" ", "")
    for key in ("seeds", "imports", "runtimes"):
        if key in values and not isinstance(values[key], list | tuple):
            values[key] = [values[key]]
    if values.get("sweep") in (True, False):
        values["sweep"] = {} if values["sweep"] else None
    experiment: Experiment = typed(Experiment, values)
    _check(experiment)
    return experiment


_NEEDED = {"data": "digits, a folder with a data set, or a data.yaml", "models": "a list of names"}


def _engine(engine: Any, task: Any) -> str:
    """The engine that is said, or the only one that has the task."""
    able = [one for one, has in METRICS if has == task]
    if not able:
        raise InputError(f"task is {task!r}; give {', '.join(dict.fromkeys(has for _, has in METRICS))}")
    if engine is None and len(able) > 1:
        raise InputError(f"engine is missing, and {' and '.join(able)} have task {task}; give one: engine: {able[0]}")
    if engine is not None and engine not in able:
        raise InputError(f"engine is {engine!r}, and task {task} is one of {' and '.join(able)}; give that engine")
    return engine or able[0]


def _sizes(values: Mapping[str, Any]) -> dict[str, Any]:
    """Image size and batch as the recipe has them."""
    if values["engine"] == "yolo":
        if values.get("recipe") is not None:
            raise InputError("recipe is for engine: recipe; give Ultralytics' settings in `settings`")
        return YOLO_SIZES
    name = values.get("recipe") or RECIPES[values["task"]]
    recipe = of_its_task(read(str(name)))
    if recipe.task != values["task"]:
        raise InputError(f"recipe {name} is of task {recipe.task}, and the task is {values['task']}; give another")
    sides = getattr(recipe.data, "sides", (recipe.data.image_size,))
    return {"recipe": name, "image_size": sides[-1], "batch": recipe.data.batch}


def _settings(raw: Any, place: str, task: str) -> dict[str, Any]:
    if not isinstance(raw, Mapping):
        raise InputError(f"{place} is {raw!r}; give a mapping, such as {{optimizer.lr: 1e-3}}")
    settings = flat(raw)
    known = SAID_ABOVE | ({"data.short_side": "image_size"} if task == "detect" else {})
    for name in settings:
        if name in known:
            raise InputError(f"{place} holds {name}, which is the experiment's own; give it as `{known[name]}`")
    return settings


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


def _entries(raw: Any, task: str) -> tuple[Entry, ...]:
    """The models; labels default to names, and if options follow, to names with options."""
    if not isinstance(raw, list | tuple):
        raise InputError(f"models is {raw!r}; give a list of names")
    entries = []
    for item in raw:
        item = {"name": item} if isinstance(item, str) else item
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise InputError(f"models holds {item!r}; give a name, or {{name: ..., options}}")
        settings = _settings(item.get("settings", {}), f"settings of model {item['name']!r}", task)
        options = {key: value for key, value in item.items() if key not in ("name", "label", "settings")}
        words = [Path(item["name"]).stem if item["name"].endswith(OF_YOLO) else item["name"]]
        words += [f"{key}={value}" for key, value in (options | settings).items()]
        entries.append(Entry(item["name"], str(item.get("label", " ".join(words))), options, settings))
    slugs = [entry.slug for entry in entries]
    for entry in entries:
        if any(unicodedata.category(sign) in UNPRINTED for sign in entry.label):
            raise InputError(
                f"the label {entry.label!r} holds a line break or a control character; give another `label`"
            )
        if len(entry.slug.encode()) > LONGEST:
            size = f"{len(entry.slug.encode())} bytes as a folder's name, and at most {LONGEST} are allowed"
            raise InputError(f"the label {entry.label[:40]!r}... has {size}; give a shorter `label`")
        if not entry.slug.strip(".-") or slugs.count(entry.slug) > 1:
            raise InputError(f"the label {entry.label!r} is empty or given twice; give each model its own `label`")
    return tuple(entries)


def _check(experiment: Experiment) -> None:
    """What fields say of each other."""
    for key in ("seeds", "imports", "runtimes"):
        values = getattr(experiment, key)
        if len(set(values)) < len(values):
            raise InputError(f"{key} is {list(values)}; give different ones")
    if experiment.images is not None and experiment.data != "digits":
        raise InputError("images is for data: digits; remove it")
    if experiment.engine == "yolo" and experiment.image_size % 32:
        nearest = max(64, 32 * round(experiment.image_size / 32))
        raise InputError(f"image_size is {experiment.image_size}; YOLO needs a multiple of 32, such as {nearest}")
    if not re.fullmatch(r"auto|cpu|cuda|\d+(,\d+)*", experiment.device):
        raise InputError(f'device is {experiment.device!r}; give auto, cpu, cuda, or numbers of GPUs such as "0,1"')
    labels = [entry.label for entry in experiment.models]
    if experiment.reference is not None and experiment.reference not in labels:
        raise InputError(f"reference is {experiment.reference!r}, no label of a model; give one of {', '.join(labels)}")
    if experiment.null_row is not None and experiment.null_row not in labels:
        raise InputError(f"null_row is {experiment.null_row!r}, no label of a model; give one of {', '.join(labels)}")
    if experiment.null_row is not None and experiment.null_label in labels:
        raise InputError(f"a model has the label {experiment.null_label!r}, which is the null row's; give it another")
    for entry in experiment.models:
        if experiment.engine == "recipe" and entry.name.endswith(OF_YOLO):
            raise InputError(f"model {entry.name} is Ultralytics'; give a timm name, or engine: yolo")
        try:
            values = experiment.training(entry)
            if experiment.engine == "recipe":
                of_its_task(values)
        except ValueError as error:
            raise InputError(f"model {entry.label!r}: {error}" if entry.settings else str(error)) from None
