"""What is told of a recipe before torch, timm and Lightning are imported, which takes many seconds.

What these libraries know by name is read from their files.
"""

import re
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dualvit.errors import InputError, MissingFileError
from dualvit.names import START, is_shards, unknown_name

if TYPE_CHECKING:  # it needs dualvit[recipes], and names of models are checked without that too
    from dualvit.recipes.config import Recipe

OURS = {
    "callbacks": "the recipe brings its own",
    "min_epochs": "set schedule.epochs",
    "min_steps": "set schedule.steps",
    "max_epochs": "set schedule.epochs",
    "max_steps": "set schedule.steps",
    "gradient_clip_val": "set optimizer.clip",
    "use_distributed_sampler": "loaders share the data out themselves",
    "plugins": "checkpoints are written by one of the recipe's own",
    "default_root_dir": "give --out",
    "enable_checkpointing": "a run that cannot go on is lost",
}
LOGGERS = {"csv": None, "tensorboard": "tensorboard", "wandb": "wandb"}  # and the package that each needs


def require_known(recipe: "Recipe") -> None:
    """Check the names that a recipe has from timm and Lightning.

    Raises:
        ValueError: one that these do not know, or an argument of Trainer that the recipe decides elsewhere.
    """
    for name in recipe.timm_names():
        require_model(name)
    require_optimizer(recipe.optimizer.name)
    require_trainer(recipe, trainer_settings() or recipe.trainer)


def require_model(name: str) -> None:
    """Check that a network's name stands in timm's files, or in ours.

    Raises:
        ValueError: it does not, with the nearest names.
    """
    if not _stands_in(_models(), name.split(".", 1)[0]):
        raise InputError(unknown_name("model", name, model_names()))


def require_optimizer(name: str) -> None:
    """Check that an optimizer's name stands in timm's files.

    Raises:
        ValueError: it does not, with the nearest names.
    """
    text = _installed("timm", "optim/*.py")
    if not _stands_in(text, name):
        known = re.findall(r"name='(\w+)'", text)
        raise InputError(f"{unknown_name('optimizer.name', name, known)}; timm's are allowed")


def require_trainer(recipe: "Recipe", known: Iterable[str]) -> None:
    """Check the arguments of Lightning's Trainer.

    Args:
        recipe: The settings.
        known: The arguments that Trainer has.

    Raises:
        ValueError: one that Trainer does not have, that the recipe decides elsewhere, or that excludes another setting.
    """
    known = [f"trainer.{name}" for name in known]
    for name in recipe.trainer:
        if name in OURS:
            raise InputError(f"trainer.{name} cannot be set: {OURS[name]}")
        if f"trainer.{name}" not in known:
            raise InputError(unknown_name("setting", f"trainer.{name}", known))
    require_logger(recipe.trainer.get("logger", "csv"))
    if not str(recipe.trainer.get("strategy", "")).startswith("fsdp"):
        return
    # Of sharded weights, Lightning neither keeps an average nor clips gradients by their norm.
    for name, value, off in (("ema", recipe.ema, None), ("optimizer.clip", recipe.optimizer.clip, 0)):
        if value:
            remedy = f"give {name}={'null' if off is None else off}, or trainer.strategy=ddp"
            raise InputError(f"{name} is {value:g}, which sharded weights (fsdp) do not allow; {remedy}")


def require_logger(name: Any) -> None:
    """Check that a logger is one of ours, and that its package is installed; false has none.

    Raises:
        ValueError: it is not.
    """
    if name is False:
        return
    if name not in LOGGERS:
        raise InputError(f"trainer.logger is {name!r}; give {', '.join(LOGGERS)} or false")
    package = LOGGERS[name]
    if package and not find_spec(package):
        raise InputError(f"trainer.logger={name} needs {package}: pip install {package}, or trainer.logger=csv")


def require_files(recipe: "Recipe") -> None:
    """Check that what a recipe is to train on is there.

    Raises:
        ValueError: no data set is named.
        FileNotFoundError: the data set or the checkpoint to begin with is not there.
    """
    root, weights = recipe.data.root, recipe.network.weights
    if not root:
        raise InputError("data.root is missing; name the data set: data.root=folder")
    if not is_shards(root) and not recipe.data.drawn and not Path(root).exists():
        raise MissingFileError(f"no data set at {root}; give {recipe.LAYOUT}")
    if weights not in (None, START) and not Path(weights).is_file():
        raise MissingFileError(
            f"no weights at {weights}; network.weights is the path of a .pth, .pth.tar or .safetensors file"
        )


def require_maps(recipe: "Recipe") -> None:
    """Check that the label maps are there, if a recipe trains with token labels.

    Raises:
        ValueError: no folder is named.
        FileNotFoundError: the folder is not there.
    """
    if (labels := getattr(recipe, "token_labels", None)) is None:
        return
    made = "`dualvit token-labels MODEL DATA OUT` makes"
    if not labels.maps:
        raise InputError(f"token_labels.maps is missing; {made} the folder")
    if not Path(labels.maps).is_dir():
        raise MissingFileError(f"no label maps in {labels.maps}: {made} them")


def require_run_checkpoint(checkpoint: Path) -> None:
    """Check that a run's checkpoint is there.

    Raises:
        FileNotFoundError: there is none.
    """
    if not checkpoint.is_file():
        raise MissingFileError(f"no checkpoint at {checkpoint}; name a run's best.ckpt or last.ckpt")


def model_names() -> set[str]:
    """The networks that timm and this package register."""
    text = _models()
    ours = re.findall(r"^(\w+(?:, \w+)*) = entrypoints\(", text, re.M)
    return {*re.findall(r"^@register_model\s+def (\w+)", text, re.M), *", ".join(ours).split(", ")}


def trainer_settings() -> list[str]:
    """The arguments of Lightning's Trainer; none if its file does not show them."""
    text = _installed("lightning", "pytorch/trainer/trainer.py")
    signature = re.search(r"^class Trainer\b.*?def __init__\(\s*self,(.*?)\) -> None:", text, re.M | re.S)
    return re.findall(r"^\s+(\w+):", signature[1], re.M) if signature else []


def _models() -> str:
    ours = "\n".join(file.read_text() for file in (Path(__file__).parents[1] / "models").glob("*.py"))
    return f"{_installed('timm', 'models/*.py')}\n{ours}"


@cache
def _installed(package: str, files: str) -> str:
    """The text of files of an installed package, which is not imported."""
    spec = find_spec(package)
    places = (spec.submodule_search_locations if spec else None) or []
    return "\n".join(file.read_text(encoding="utf-8") for place in places for file in sorted(Path(place).glob(files)))


def _stands_in(text: str, name: str) -> bool:
    """Whether a text has a name as a word: outdated names, too, which timm still takes."""
    return not text or re.search(rf"\b{re.escape(name)}\b", text) is not None
