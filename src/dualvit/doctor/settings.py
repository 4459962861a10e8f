"""What a recipe says of how a data set is read: names of COCO's files, classes of masks. It needs no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dualvit.data.yolo_layout import find_yaml
from dualvit.doctor.run import MaskSettings

RECIPES = {"classify": "laptop-classify", "semantic": "laptop-semantic", "segment": "laptop-masks"}
Names = dict[str, tuple[str, str]]


def recipe_of(task: str) -> str:
    """Return the recipe that stands for a task if none is named."""
    return RECIPES.get(task, "laptop-detect")


def settings_of(
    place: Path, recipe: str | None, changes: Sequence[str]
) -> tuple[Names | None, MaskSettings | None]:  # fmt: skip
    """Return the names of COCO's files, and how masks are read, as a recipe with changes says; else nothing.

    Raises:
        ValueError: an unknown recipe or setting.
    """
    if recipe is None and not changes:
        return None, None
    from dualvit.recipes.config import load_recipe

    coco = any(change.partition("=")[0].endswith(("_json", "_images")) for change in changes)
    masks = (place / "images").is_dir() and find_yaml(place) is None and not coco
    loaded = load_recipe(recipe or recipe_of("semantic" if masks else "detect"), (f"data.root={place}", *changes))
    data: Any = loaded.data  # of the type of the recipe's task
    if loaded.task == "detect":
        return {"train": (data.train_json, data.train_images), "val": (data.val_json, data.val_images)}, None
    if loaded.task == "semantic":
        return None, MaskSettings(data.classes, data.ignore_index, data.reduce_zero_label)
    return None, None
