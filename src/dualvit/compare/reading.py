"""The YAML file of `dualvit compare`, read and checked; every mistake in it is one line. Nothing here needs torch."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from dualvit.compare.experiment import METRICS, NULL_SEEDS, RECIPES, SAID_ABOVE, Entry, Experiment, flat
from dualvit.compare.settings import YoloSettings
from dualvit.errors import InputError, MissingFileError
from dualvit.files import read_yaml
from dualvit.names import OF_YOLO
from dualvit.recipes.checks import require_known, require_model
from dualvit.recipes.config import apply, of_its_task, read, typed

TEMPLATES = Path(__file__).parent / "templates"  # experiments that come with the package
YOLO_SIZES = {"image_size": 192, "batch": 16}
RENAMED = {  # settings that once stood in the first column of the YAML
    "lr": ("optimizer.lr", "lr0"), "weight_decay": ("optimizer.weight_decay", "weight_decay"),
    "warmup_epochs": ("schedule.warmup_epochs", "warmup_epochs"), "clip_grad": ("optimizer.clip", ""),
    "label_smoothing": ("augment.label_smoothing", ""), "crop_scale": ("augment.crop_scale", ""),
    "flip": ("augment.flip", "fliplr"), "colour_jitter": ("augment.colour_jitter", "hsv_v"),
    **{name.name: ("", name.name) for name in fields(YoloSettings) if name.name.startswith(("mosaic", "fl", "hsv"))},
}  # fmt: skip
UNPRINTED = ("Cc", "Cs", "Zl", "Zp")  # kinds of characters that a table or a picture cannot show
LONGEST = 220  # of the 255 bytes that a file's name may have, the rest is the rate's and the seed's
NEEDED = {"data": "digits, a folder with a data set, or a data.yaml", "models": "a list of names"}


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
        raise MissingFileError(f"no data set at {experiment.data}; give {NEEDED['data']}")


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
            raise InputError(f"{key} is missing; give {NEEDED[key]}")
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
    for entry in experiment.models if experiment.engine == "recipe" else ():
        for key in ("start", "weights"):
            if key in entry.options:
                value = "start" if key == "start" else entry.options[key]
                raise InputError(
                    f"model {entry.label!r} has {key}, which is YOLO's; in a recipe it is a setting: "
                    f"settings: {{network.weights: {value}}}"
                )
    labels = [entry.label for entry in experiment.models]
    if experiment.reference is not None and experiment.reference not in labels:
        raise InputError(f"reference is {experiment.reference!r}, no label of a model; give one of {', '.join(labels)}")
    if experiment.null_row is not None and experiment.null_row not in labels:
        raise InputError(f"null_row is {experiment.null_row!r}, no label of a model; give one of {', '.join(labels)}")
    if experiment.null_row is not None and max(experiment.seeds) + NULL_SEEDS >= 2**31:
        raise InputError(f"seeds is {list(experiment.seeds)}; with a null row give seeds below {2**31 - NULL_SEEDS}")
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
