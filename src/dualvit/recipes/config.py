"""Recipes as typed settings: a YAML file, what the command line changes in it, and one line for every mistake."""

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, field, fields
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from dualvit.errors import InputError, MissingFileError
from dualvit.files import parse_yaml, read_yaml
from dualvit.names import unknown_name

FOLDER = Path(__file__).parent / "yaml"
TASKS = ("classify", "detect", "semantic", "pretrain")
CHECKED = ConfigDict(extra="forbid")
RENAMED = {"checkpoint": "weights", "checkpointing": "grad_checkpointing"}

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, config=CHECKED)
class Network:
    """The network, or the backbone of a detector or a segmenter.

    Attributes:
        name: Any name that timm knows, ours included.
        options: Further arguments of `timm.create_model`.
        weights: File of weights to begin with; the word start takes those that the package ships for this network;
            null trains from scratch.
        drop_path: Probability that a block is left out, in the last one; the others have their share of it.
        grad_checkpointing: Recompute blocks in the backward pass, which takes less memory and more time: true, or
            the stages in which, such as [0, 1], which hold most.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    drop_path: Share = 0.0
    grad_checkpointing: bool | tuple[int, ...] = False

    def __post_init__(self) -> None:
        if self.weights is not None and self.weights.endswith(".ckpt"):
            raise InputError(
                f"weights {self.weights} are a run's checkpoint; `dualvit recipe export {self.weights} "
                "weights.safetensors` writes what a network begins with"
            )


@dataclass(frozen=True, config=CHECKED)
class Optimizer:
    """timm's optimizers: no weight decay on norms, biases, and what a model's `no_weight_decay` names.

    Attributes:
        name: adamw, or another one of timm's.
        lr: Learning rate at its highest.
        lr_batch: The batch for which `lr` holds; it grows in proportion to `data.batch`. null takes it as it is.
        weight_decay: As the optimizer takes it.
        eps: As the optimizer takes it.
        layer_decay: Factor of the learning rate for each layer below the top; null has one rate for all.
        clip: Largest norm of the gradient; 0 leaves it as it is.
    """

    name: str = "adamw"
    lr: Positive = 1e-3
    lr_batch: Count | None = None
    weight_decay: NotNegative = 0.05
    eps: Positive = 1e-8
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    clip: NotNegative = 0.0


@dataclass(frozen=True, config=CHECKED)
class Schedule:
    """How long, and the learning rate of each step; timm's schedules, by step.

    Attributes:
        epochs: Passes through the data; or null, if `steps` or `minutes` are set.
        steps: Optimizer steps; or null.
        minutes: Wall-clock time of training, in whose course the learning rate falls; or null.
        shape: cosine; poly, which falls with `power`; or multistep, a tenth after each of the `milestones`.
        warmup_epochs: Length of the linear warm-up.
        warmup_steps: The same in steps, which goes before epochs.
        warmup_lr: Where the warm-up begins.
        min_lr: Where a cosine or poly ends.
        cooldown_epochs: Epochs at `min_lr`, beyond `epochs`.
        milestones: In epochs.
        power: Of a poly; 1 falls linearly.
    """

    epochs: Count | None = None
    steps: Count | None = None
    minutes: Positive | None = None
    shape: Literal["cosine", "poly", "multistep"] = "cosine"
    warmup_epochs: NotNegative = 0.0
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    warmup_lr: NotNegative = 1e-6
    min_lr: NotNegative = 1e-5
    cooldown_epochs: Annotated[int, Field(ge=0)] = 0
    milestones: tuple[Positive, ...] = ()
    power: Positive = 1.0

    def __post_init__(self) -> None:
        lengths = {"epochs": self.epochs, "steps": self.steps, "minutes": self.minutes}
        said = [name for name, value in lengths.items() if value is not None] or ["epochs", "steps"]
        if len(said) > 1:
            words = f"{said[0]} is {lengths[said[0]]} and {said[1]} {lengths[said[1]]}"
            raise InputError(f"{words}; give exactly one of them, and null for the other")
        if self.minutes is not None and (self.shape == "multistep" or self.cooldown_epochs):
            raise InputError(f"minutes is {self.minutes:g}, which has no milestones and no cooldown; give epochs")


@dataclass(frozen=True, config=CHECKED)
class DataSettings:
    """What every task's data have in common.

    Attributes:
        root: Where the data set is.
        image_size: Sides of the square that the network sees, in pixels.
        batch: Images in an optimizer step, of all processes together.
        workers: Processes that read data, for each training process.
        unreadable: The most files and annotations that may be skipped since they cannot be used; one more stops the
            run.
    """

    root: str = ""
    image_size: Annotated[int, Field(ge=32)] = 224
    batch: Count = 64
    workers: Annotated[int, Field(ge=0)] = 0
    unreadable: Annotated[int, Field(ge=0)] = 100

    @property
    def drawn(self) -> bool:
        """Whether pictures are drawn as training goes, so that none need be there."""
        return False


@dataclass(frozen=True, config=CHECKED)
class LabelledSettings(DataSettings):
    """What tasks with labels have in common, besides.

    Attributes:
        hold_out: Of the training part, each so many samples' last one validates, and the validation part is not
            read: to choose settings by, or where there is no validation part. null validates on that part.
    """

    hold_out: Annotated[int, Field(ge=2)] | None = None


@dataclass(frozen=True, config=CHECKED, kw_only=True)
class Recipe:
    """What every task's recipe has in common; each task adds its own settings.

    Attributes:
        task: classify, detect, semantic or pretrain.
        title: One line for a list.
        data: Where the samples come from, and how they are read.
        seed: Of the order, of crops and colours, of new weights and of drop path.
        ema: Decay of the moving average of the weights that is validated and saved; null has none.
        published: Of a row of the paper's tables: the metric and its value, which `recipe list` prints.
        trainer: Further arguments of Lightning's Trainer: devices, num_nodes, strategy, precision, ...
    """

    NOUN: ClassVar[str] = "a recipe"  # in an error that lists its settings
    LAYOUT: ClassVar[str] = "data.root=FOLDER"  # what the task takes as a data set

    task: str
    title: str = ""
    network: Network
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule
    data: DataSettings
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    published: Mapping[str, float] = field(default_factory=dict)
    trainer: Mapping[str, Any] = field(default_factory=dict)

    def timm_names(self) -> tuple[str, ...]:
        """Return the networks whose names must be timm's."""
        return (self.network.name,)

    def completed(self) -> "Recipe":
        """Return the recipe with what a run finds out before it starts, and keeps, such as digests of files."""
        return self

    def portable(self) -> "Recipe":
        """Return the recipe as a checkpoint keeps it: without files that are known by their digest."""
        return self


def names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read(name: str, changes: Iterable[str] = ()) -> dict[str, Any]:
    """A recipe as plain values: one that comes with the package, or a YAML file, and what changes in it.

    Args:
        name: Of a recipe, or the path of a YAML file.
        changes: Each as `data.root=folder` or `trainer.devices=8`; values are read as YAML.

    Raises:
        FileNotFoundError: there is no such recipe.
        ValueError: the file or a change is malformed.

    Example:
        >>> read("imagenet-s", ["data.root=/data/imagenet"])["data"]["root"]
        '/data/imagenet'
    """
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        path = Path(name)
    if not path.is_file():
        raise MissingFileError(f"{unknown_name('recipe', name, names())}; `dualvit recipe list` shows all")
    plain = read_yaml(path)
    for change in changes:
        apply(plain, change)
    return plain


def apply(plain: dict[str, Any], change: str) -> None:
    """Set one value in place, such as `data.batch=32`."""
    path, sign, text = change.partition("=")
    *parents, last = path.strip().split(".")
    if path.strip() == "task":
        raise InputError(f"{change!r}: the task is the recipe's own; `dualvit recipe list` shows those of each task")
    if not sign or not last:
        raise InputError(f"{change!r} changes nothing; write key=value, such as data.batch=32")
    inner = plain
    for parent in parents:
        inner = inner.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise InputError(f"{change!r}: {parent} is a value, and has no {last}")
    inner[last] = parse_yaml(text, change)


def typed(kind: type[Any], plain: Mapping[str, Any]) -> Any:
    """Typed settings, such as a task's recipe, from plain values.

    Raises:
        ValueError: one line that names the first mistake: its place, the value, and what is allowed.
    """
    try:
        return TypeAdapter(kind).validate_python(dict(plain))
    except ValidationError as error:
        mistakes = error.errors()
        # What is missing is often what was misspelt.
        first = next((one for one in mistakes if one["type"] == "unexpected_keyword_argument"), mistakes[0])
        raise InputError(_mistake(kind, first)) from None


def _mistake(kind: type[Any], error: Any) -> str:
    place, value = ".".join(map(str, error["loc"])), error["input"]
    shown = repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:77]}..."
    if error["type"] == "unexpected_keyword_argument":
        return _unknown(kind, error["loc"])
    if error["type"] in ("missing", "missing_argument"):
        return f"{place} is missing"
    if error["type"] == "dataclass_type":
        return f"{place} is {shown}, and has settings of its own; give them as {place}.NAME=VALUE"
    words = error["msg"].removeprefix("Value error, ")
    if error["type"] == "too_short":
        words = f"give at least {error['ctx']['min_length']}"
    if isinstance(value, Mapping):  # of settings that exclude each other; the message names them
        return f"{place}: {words}" if place else words
    return f"{place} is {shown}: {words[:1].lower()}{words[1:]}"


def _unknown(kind: Any, place: tuple[int | str, ...]) -> str:
    """One line for a key that does not exist, with the nearest one that does."""
    for part in place[:-1]:
        kind = kind.__dataclass_fields__[part].type
        kind = next(
            (one for one in get_args(kind) if hasattr(one, "__dataclass_fields__")), kind
        )  # of settings or None
    if place[-1] in RENAMED:
        return f"unknown setting {place[-1]!r}; it is called {RENAMED[str(place[-1])]}"
    known = [one.name for one in fields(kind)]
    noun = getattr(kind, "NOUN", kind.__name__)
    where = ".".join(map(str, place[:-1]))
    return f"{unknown_name('setting', str(place[-1]), known)}; {where or noun} has {', '.join(known)}"


def kind(task: Any) -> ModuleType:
    """The package of a task: RecipeType, DataType, TaskType."""
    if task not in TASKS:
        raise InputError(f"{unknown_name('task', str(task), TASKS)}; give {', '.join(TASKS)}")
    return importlib.import_module(f"dualvit.recipes.{task}")


def load_recipe(name: str, changes: Iterable[str] = ()) -> Recipe:
    """A recipe by its name or file, with changes such as `data.root=folder`."""
    return of_its_task(read(name, changes))


def of_its_task(values: Mapping[str, Any]) -> Recipe:
    """A recipe from plain values, of the type that its task has."""
    recipe: Recipe = typed(kind(values.get("task")).RecipeType, values)
    return recipe


def plain(recipe: Recipe) -> dict[str, Any]:
    """A recipe as YAML and checkpoints hold it; `typed` reads it back."""
    return TypeAdapter(dict[str, Any]).dump_python(asdict(recipe), mode="json")
