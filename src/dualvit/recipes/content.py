"""What a run's checkpoint says, checked before anything is built, opened or deleted by it.

A checkpoint may come from elsewhere, and so may the folder that a run goes on in. Weights and numbers are taken from
it; what it asks to be fetched, run or removed is not.
"""

from collections.abc import Iterable, Mapping
from dataclasses import field
from pathlib import Path, PureWindowsPath
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from torch import Tensor

from dualvit.data.shards import is_shards
from dualvit.errors import InputError
from dualvit.recipes.config import CHECKED, Recipe, plain
from dualvit.stored import StoredError, check_classes, check_network, check_weights

KEPT = ("best.ckpt", "last.ckpt")
# Lightning deletes and replaces files by these names of a ModelCheckpoint's state.
PATHS = ("best_model_path", "kth_best_model_path", "last_model_path", "best_k_models")
OF_LIGHTNING: dict[str, type] = {
    "epoch": int, "global_step": int, "loops": dict, "callbacks": dict, "optimizer_states": list, "state_dict": dict,
}  # fmt: skip
OF_MACHINE = ("precision",)  # what a stored recipe's `trainer` may say; where it runs is for who runs it


@dataclass(frozen=True, config=CHECKED)
class Run:
    """What a recipe's checkpoint holds of its run, under the key `dualvit`.

    Attributes:
        recipe: Plain values, for `config.typed`.
        classes: Their names.
        environment: Versions, commit and hardware.
        history: A row per validation.
        images: In an epoch of training; None if the data did not tell.
    """

    recipe: dict[str, Any]
    classes: tuple[str, ...]
    environment: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    images: int | None = None

    def __post_init__(self) -> None:
        for row in self.history:
            if not {"epoch", "step"} <= set(row):
                raise InputError("a row of it has no epoch or no step")


def check_run(content: Any, where: str) -> None:
    """Let a recipe's checkpoint through if what it says of its run is data.

    Raises:
        ValueError: one line that begins with `where`.
    """
    try:
        run = TypeAdapter(Run).validate_python(content["dualvit"])
        check_classes(run.classes, "classes")
        network = run.recipe.get("network")
        if not isinstance(network, dict) or not isinstance(run.recipe.get("data"), dict):
            raise StoredError("recipe has no network, or no data")
        check_network(network.get("name"), network.get("options", {}), "recipe.network")
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, ("dualvit", *first["loc"])))
        raise InputError(
            f"{where} is no checkpoint of a recipe: {place}: {first['msg'].lower()}; name another"
        ) from None
    except StoredError as error:
        raise InputError(f"{where} was not opened: {error}; name a checkpoint of `dualvit recipe fit`") from None


def to_store(recipe: Recipe) -> dict[str, Any]:
    """A recipe as a checkpoint holds it: without where its first weights came from, since it brings its own.

    Raises:
        ValueError: an option of the network that a checkpoint cannot keep.
    """
    values = plain(recipe.portable())
    network = values["network"]
    network["options"] = {k: v for k, v in network["options"].items() if k not in ("pretrained", "cache_dir")}
    try:
        check_network(network["name"], network["options"], "network")
    except StoredError as error:
        raise InputError(f"{error}, so no checkpoint of it could be opened; give network.weights=FILE") from None
    return values


def weights_of(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights in a checkpoint.

    Raises:
        StoredError: it has none, or something else than finite numbers among them.
    """
    state = content.get("state_dict")
    if not isinstance(state, Mapping) or not state:
        raise StoredError("it has no weights")
    weights = {name: value for name, value in state.items() if not str(name).endswith("_extra_state")}
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            raise StoredError(f"{name} is a {type(value).__name__} and no tensor")
    check_weights(weights)
    return weights


def stored_recipe(run: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's recipe as plain values, without other weights to begin with and without the machine it ran on."""
    recipe: dict[str, Any] = dict(run["recipe"])
    recipe["network"] = recipe["network"] | {"weights": None}  # these weights replace it
    trainer = recipe.get("trainer")
    recipe["trainer"] = {k: v for k, v in trainer.items() if k in OF_MACHINE} if isinstance(trainer, dict) else {}
    return recipe


def require_own_data(recipe: Recipe, changes: Iterable[str], where: Path) -> None:
    """Stop before data are opened that only a checkpoint names, if opening them may run a command or ask a network.

    Args:
        recipe: The checkpoint's, changed.
        changes: What the user changed, such as `data.root=folder`.
        where: The checkpoint.

    Raises:
        ValueError: with what to give.
    """
    changed = {change.partition("=")[0].strip() for change in changes}
    root = recipe.data.root
    if is_shards(root):
        missing = [key for key in ("data.val", "data.classes") if key not in changed]
        if missing:
            raise InputError(
                f"{where} was trained on shards, and those that it names are not opened; "
                f"give {' and '.join(f'{key}=...' for key in missing)}"
            )
    elif "data.root" not in changed and ("://" in root or PureWindowsPath(root).drive.startswith(("\\\\", "//"))):
        raise InputError(f"{where} names {root!r}, which is on another machine and is not opened; give data.root=...")


def check_states(content: Any, where: str) -> None:
    """Let a checkpoint through to Lightning, which goes on from it, if it names no files but its own two.

    Raises:
        ValueError: one line that begins with `where`.
    """
    remedy = "move it away and begin anew, or give another folder"
    try:
        _check_parts(content)
    except StoredError as error:
        raise InputError(f"{where} is no checkpoint of a run: {error}; {remedy}") from None
    for state in content["callbacks"].values():
        folder = state.get("dirpath")
        for path in (path for key in PATHS for path in _paths(state.get(key, ""))):
            if path and str(path) not in {str(Path(str(folder)) / name) for name in KEPT}:
                raise InputError(f"{where} names {str(path)[:80]!r}, which is no checkpoint of its run; {remedy}")


def _check_parts(content: Any) -> None:
    for key, kind in OF_LIGHTNING.items():
        if not isinstance(content, dict) or not isinstance(content.get(key), kind):
            raise StoredError(f"it has no {key}")
    weights_of(content)
    fit_loop = content["loops"].get("fit_loop")
    if not content["optimizer_states"] or not isinstance(fit_loop, dict) or "epoch_progress" not in fit_loop:
        raise StoredError("it has no optimizer, or no epochs")
    if not all(isinstance(state, dict) for state in content["callbacks"].values()):
        raise StoredError("a callback's state is no mapping")


def _paths(value: Any) -> list[Any]:
    return list(value) if isinstance(value, dict) else [value]
