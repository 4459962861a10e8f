"""The YAML file of `dualvit compare` as frozen dataclasses; every mistake in it is one line."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn, get_args

from dualvit.compare.settings import DIGITS, RECIPES, ClassifyRecipe, Recipe
from dualvit.files import read_yaml
from dualvit.recipes.checks import require_model
from dualvit.recipes.config import apply

FOLDER = Path(__file__).parent / "templates"  # those that come with the package
DEFAULTS: dict[str, dict[str, int]] = {  # where the YAML leaves it out
    "classify": {"image_size": 96, "batch": 64, "images": 1000},
    "detect": {"image_size": 192, "batch": 16, "images": 400},
    "segment": {"image_size": 192, "batch": 16, "images": 400},
}
UNPRINTED = ("Cc", "Cs", "Zl", "Zp")  # kinds of characters that a table or a picture cannot show
LONGEST = 240  # of the 255 bytes that a file's name may have, the rest is the seed's


@dataclass(frozen=True)
class Entry:
    """A model of the comparison.

    Attributes:
        name: A timm name, or an Ultralytics YAML.
        label: What tables and pictures call it.
        options: Further arguments of `timm.create_model`, or of `dualvit.yolo.YOLO`.
    """

    name: str
    label: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        """The label as a file name."""
        return re.sub(r"[^\w.+-]+", "-", self.label)


@dataclass(frozen=True)
class Experiment:
    """What is compared, on which pictures, and in which settings.

    Attributes:
        task: classify, detect or segment.
        data: `digits`, a folder with train/ and val/, or an Ultralytics data.yaml.
        models: At least one.
        recipe: Settings of the training, the same for all.
        output: The folder of all results.
        image_size: Height and width in pixels.
        batch: Pictures in a step.
        epochs: Equal epochs for all; or None.
        minutes: Equal wall-clock time for all, in training; or None.
        seeds: Each model is trained once with each.
        reference: The label that others are compared with; the best one where left out.
        images: Pictures of the embedded data set.
        device: auto, cpu, cuda, or GPU numbers such as "0,1".
        jobs: Cells side by side on the CPU, or on each GPU.
        workers: Processes that read data, for each cell; chosen where left out.
        imports: Python modules that register further models with timm.
    """

    task: str
    data: str
    models: tuple[Entry, ...]
    recipe: Recipe
    output: Path
    image_size: int
    batch: int
    epochs: int | None = None
    minutes: float | None = None
    seeds: tuple[int, ...] = (0,)
    reference: str | None = None
    images: int | None = None
    device: str = "auto"
    jobs: int = 1
    workers: int | None = None
    imports: tuple[str, ...] = ()

    @property
    def metric(self) -> str:
        """The name of what models are ranked by."""
        return {"classify": "top1", "detect": "mAP50-95", "segment": "mask mAP50-95"}[self.task]

    def settings(self) -> dict[str, Any]:
        """What decides a result, besides the model and the seed."""
        kept = ("task", "data", "image_size", "batch", "epochs", "minutes", "images")
        return {name: getattr(self, name) for name in kept} | asdict(self.recipe)

    def mapping(self) -> dict[str, Any]:
        """The experiment as its YAML would say it in full; `parse` reads it back."""
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}
        plain["models"] = [{"name": m.name, "label": m.label, **m.options} for m in self.models]
        plain["output"] = str(self.output)
        del plain["recipe"]
        return {key: value for key, value in (plain | asdict(self.recipe)).items() if value is not None}


def load(path: str | Path, changes: Iterable[str] = ()) -> Experiment:
    """Read an experiment: a YAML file, or the name of one that comes with the package.

    Args:
        path: The file or the name.
        changes: Each as `epochs=3`; values are read as YAML.

    Raises:
        FileNotFoundError: there is neither.
        ValueError: it does not say what an experiment needs, with the remedy.
    """
    path = Path(path)
    if not path.is_file() and (FOLDER / f"{path}.yaml").is_file():
        path = FOLDER / f"{path}.yaml"
    if not path.is_file():
        shipped = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
        raise FileNotFoundError(f"no experiment at {path}; give a YAML file, or one that comes with dualvit: {shipped}")
    raw = {"output": str(Path("runs") / "compare" / path.stem)} | read_yaml(path)
    try:
        for change in changes:
            apply(raw, change)
        return parse(raw)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def require(experiment: Experiment) -> None:
    """Check what can be told before torch is imported: the data set's place, and the names of timm models.

    Raises:
        FileNotFoundError: no data set there.
        ValueError: a model that neither timm nor this package has.
    """
    if experiment.data != "digits" and not Path(experiment.data).exists():
        raise FileNotFoundError(f"no data set at {experiment.data}; give {_NEEDED['data']}")
    for entry in experiment.models:
        if not experiment.imports and not entry.name.endswith((".yaml", ".yml")):
            require_model(entry.name)


def parse(raw: Mapping[str, Any]) -> Experiment:
    """Check a mapping as it comes from YAML, and make the experiment of it."""
    task = raw.get("task")
    if task not in RECIPES:
        raise ValueError(f"task is {task!r}; give {', '.join(RECIPES)}")
    recipe_type = RECIPES[task]
    own = [f.name for f in fields(Experiment) if f.name != "recipe"]
    names = own + [f.name for f in fields(recipe_type)]
    for key in raw:
        if key not in names:
            _unknown(str(key), names, task)
    if ("epochs" in raw) == ("minutes" in raw):
        state = "both epochs and minutes are" if "epochs" in raw else "neither epochs nor minutes is"
        raise ValueError(f"{state} given; give exactly one: equal epochs, or equal wall-clock time")
    for key in ("data", "models"):
        if not raw.get(key):
            raise ValueError(f"{key} is missing; give {_NEEDED[key]}")
    embedded = raw["data"] == "digits"
    defaults = dict(DEFAULTS[task])
    if not embedded:
        del defaults["images"]
    defaults |= DIGITS if embedded and recipe_type is not ClassifyRecipe else {}  # type: ignore[arg-type]
    values = {key: _typed(key, value) for key, value in (defaults | dict(raw)).items() if key != "models"}
    recipe = recipe_type(**{f.name: values.pop(f.name) for f in fields(recipe_type) if f.name in values})
    values["output"] = Path(values.get("output", "runs/compare/experiment"))
    experiment = Experiment(models=_entries(raw["models"]), recipe=recipe, **values)
    _check(experiment, embedded)
    return experiment


_NEEDED = {"data": "digits, a folder with train/ and val/, or a data.yaml", "models": "a list of names"}
_RANGES: dict[str, tuple[float, float, str]] = {  # smallest, largest, and the words for it
    "epochs": (1, 10**6, "1 or more"),
    "minutes": (1e-3, 10**6, "more than 0"),
    "image_size": (32, 4096, "32 to 4096"),
    "batch": (1, 10**6, "1 or more"),
    "images": (20, 10**6, "20 or more"),
    "jobs": (1, 1024, "1 or more"),
    "workers": (0, 1024, "0 or more"),
    "lr": (1e-12, 100, "more than 0"),
    "label_smoothing": (0, 0.99, "0 to 0.99"),
    "crop_scale": (0.01, 1, "0.01 to 1"),
    "flip": (0, 1, "0 to 1"),
    "fliplr": (0, 1, "0 to 1"),
    "mosaic": (0, 1, "0 to 1"),
    "colour_jitter": (0, 1, "0 to 1"),
}


def _unknown(key: str, names: list[str], task: str) -> NoReturn:
    near = get_close_matches(key, names, n=1)
    elsewhere = [other for other, kind in RECIPES.items() if key in {f.name for f in fields(kind)}]
    if elsewhere and not near:
        raise ValueError(f"{key} is a setting of {' and '.join(elsewhere)}, and the task is {task}; remove it")
    hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(names)}"
    raise ValueError(f"unknown key {key!r}{hint}")


def _typed(key: str, value: Any) -> Any:
    """A value as its field's type, or an error with the two."""
    kind = next(f.type for cls in (Experiment, *RECIPES.values()) for f in fields(cls) if f.name == key)
    if key in ("seeds", "imports"):
        inner: type = int if key == "seeds" else str
        values = value if isinstance(value, list | tuple) else [value]
        if not values or any(type(item) is not inner for item in values) or len(set(values)) < len(values):
            if key == "imports" and not values:
                return ()
            raise ValueError(f"{key} is {value!r}; give different {'numbers' if inner is int else 'names'} in a list")
        return tuple(values)
    if key == "device":
        return ",".join(map(str, value)) if isinstance(value, list) else str(value)
    allowed = get_args(kind) or (kind,)
    if float in allowed and type(value) is int:
        value = float(value)
    if key == "output" and isinstance(value, str):
        return value
    if type(value) not in allowed:
        words = {int: "a whole number", float: "a number", str: "a text"}
        raise ValueError(f"{key} is {value!r}; give {next(w for t, w in words.items() if t in allowed)}")
    low, high, limit = _RANGES.get(key, (0, float("inf"), "0 or more"))
    if isinstance(value, int | float) and not low <= value <= high:
        raise ValueError(f"{key} is {value}; give {limit}")
    return value


def _entries(raw: Any) -> tuple[Entry, ...]:
    """The models; labels default to names, and where options follow, to names with options."""
    if not isinstance(raw, list | tuple):
        raise ValueError(f"models is {raw!r}; give a list of names")
    entries = []
    for item in raw:
        item = {"name": item} if isinstance(item, str) else item
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise ValueError(f"models holds {item!r}; give a name, or {{name: ..., options}}")
        options = {key: value for key, value in item.items() if key not in ("name", "label")}
        words = [Path(item["name"]).stem if item["name"].endswith(".yaml") else item["name"]]
        label = str(item.get("label", " ".join([*words, *(f"{key}={value}" for key, value in options.items())])))
        entries.append(Entry(item["name"], label, options))
    slugs = [entry.slug for entry in entries]
    for entry in entries:
        if any(unicodedata.category(sign) in UNPRINTED for sign in entry.label):
            raise ValueError(
                f"the label {entry.label!r} holds a line break or a control character; give another `label`"
            )
        if len(entry.slug.encode()) > LONGEST:
            size = f"{len(entry.slug.encode())} bytes as a folder's name, and at most {LONGEST} are allowed"
            raise ValueError(f"the label {entry.label[:40]!r}... has {size}; give a shorter `label`")
        if not entry.slug.strip(".-") or slugs.count(entry.slug) > 1:
            raise ValueError(f"the label {entry.label!r} is empty or given twice; give each model its own `label`")
    return tuple(entries)


def _check(experiment: Experiment, embedded: bool) -> None:
    if any(seed < 0 or seed >= 2**31 for seed in experiment.seeds):
        raise ValueError(f"seeds is {list(experiment.seeds)}; give numbers from 0 on")
    if experiment.images is not None and not embedded:
        raise ValueError("images is for data: digits; remove it")
    if experiment.task != "classify" and experiment.image_size % 32:
        nearest = max(64, 32 * round(experiment.image_size / 32))
        raise ValueError(f"image_size is {experiment.image_size}; detection needs a multiple of 32, such as {nearest}")
    labels = [entry.label for entry in experiment.models]
    if experiment.reference is not None and experiment.reference not in labels:
        raise ValueError(f"reference is {experiment.reference!r}, no label of a model; give one of {', '.join(labels)}")
    if not re.fullmatch(r"auto|cpu|cuda|\d+(,\d+)*", experiment.device.replace(" ", "")):
        raise ValueError(f'device is {experiment.device!r}; give auto, cpu, cuda, or numbers of GPUs such as "0,1"')
