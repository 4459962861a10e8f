"""Label maps by a teacher: what a classifier would say if each place of its last map were the whole picture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dualvit.data.folders import read_folders
from dualvit.data.label_maps import INDEX, compact, place, write_index, write_map
from dualvit.errors import InputError
from dualvit.files import read_json
from dualvit.locks import only_writer
from dualvit.models.contract import Backbone
from dualvit.recipes.classify.evaluate import Look, open_source
from dualvit.recipes.loading import Skipped


def token_scores(network: Any, images: Tensor) -> Tensor:
    """Class probabilities at each place of a classifier's last map.

    Works with the three forms in which timm's `forward_features` answers: maps (B, C, h, w) and (B, h, w, C), and
    tokens (B, prefix + n, C) of a square grid. A network of ours that has the token-labelling head is asked by it.

    Returns:
        (B, classes, h, w).

    Raises:
        ValueError: features of another form.
    """
    features = network.forward_features(images)
    if isinstance(network, Backbone):
        pixels = features[:, 1:] if "token" in network.pools else features
        if network.aux_head is not None:
            return network.aux_head(pixels).softmax(-1).permute(0, 3, 1, 2)
        # A map of one pixel below the row of the class token, which the pixel takes too.
        return _each(network, pixels, lambda flat: flat[:, None, None].expand(-1, 2, 1, -1))
    if features.ndim == 4 and features.shape[1] == network.num_features:
        return _each(network, features.permute(0, 2, 3, 1), lambda flat: flat[:, :, None, None])
    if features.ndim == 4 and features.shape[3] == network.num_features:
        return _each(network, features, lambda flat: flat[:, None, None])
    prefix = int(getattr(network, "num_prefix_tokens", 0))
    if features.ndim == 3:
        tokens = features[:, prefix:]
        side = round(tokens.shape[1] ** 0.5)
        if side * side == tokens.shape[1]:
            grid = tokens.unflatten(1, (side, side))
            return _each(network, grid, lambda flat: flat[:, None].expand(-1, prefix + 1, -1))
    raise InputError(
        f"a {type(network).__name__} has features {tuple(features.shape)}, which are no map; take another teacher"
    )


def _each(network: Any, grid: Tensor, shaped: Callable[[Tensor], Tensor]) -> Tensor:
    """The head's answer to each of (B, h, w, C), as if it were a whole picture's features."""
    logits = network.forward_head(shaped(grid.flatten(0, 2)))
    return logits.softmax(-1).unflatten(0, grid.shape[:3]).permute(0, 3, 1, 2)


@torch.inference_mode()
def write_maps(look: Look, data: Path, out: Path, top: int = 5) -> dict[str, Any]:
    """Write a label map for each training picture of a data set; those that are there stay.

    Args:
        look: The teacher, of the data set's classes, and how it looks.
        data: With `train/CLASS/` and `val/CLASS/`.
        out: Folder of the maps.
        top: Classes kept at each place.

    Returns:
        What the index says: teacher, classes kept, and how many pictures' maps hold their own class at its best.

    Raises:
        ValueError: the teacher is of other classes, or none of the pictures can be read.
    """
    split = read_folders(data)
    source = open_source(look, split.classes)
    if source.classes is not None and source.classes != split.classes:
        raise InputError(
            f"{look.model} knows {len(source.classes)} classes ({', '.join(source.classes[:3])}, ...) and {data} has "
            f"{len(split.classes)} ({', '.join(split.classes[:3])}, ...); take a teacher of these classes"
        )
    before = read_json(out / INDEX) or {}
    if before and (before.get("teacher"), before.get("weights")) != (look.model, str(look.weights or "")):
        raise InputError(f"{out} holds the label maps of {before.get('teacher')}; give another folder")
    with only_writer(out, "dualvit token-labels"):
        (out / INDEX).unlink(missing_ok=True)  # until all maps are there again
        wanted = tuple((file, number) for number, (file, _) in enumerate(split.train))
        skipped = Skipped(out / "unreadable.txt", look.unreadable)
        skipped.clear()
        agree = done = 0
        for images, numbers in look.batches(wanted, source, skipped):
            maps = token_scores(source.network, images).cpu()
            for number, scores in zip(numbers.tolist(), maps, strict=True):
                file, label = split.train[number]
                write_map(place(out, data, file), compact(scores, top))
                agree += int(scores.mean((1, 2)).argmax()) == label
            done += len(images)
            shape = [min(top, maps.shape[1]), *maps.shape[2:]]
        about: dict[str, Any] = {"teacher": look.model, "weights": str(look.weights or "")}
        about |= {"top": min(top, len(split.classes)), "images": done, "agree": agree / done}
        about |= {"skipped": len(skipped.lines()), "notes": list(split.notes)}
        about["environment"] = look.about(data)["environment"]
        write_index(out, split.classes, about | {"shape": shape})
    return about
