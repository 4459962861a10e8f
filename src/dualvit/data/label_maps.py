"""Label maps for token labelling: a teacher's best classes at each place of a picture, and crops of them."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

from dualvit.data.images import UnreadableError
from dualvit.errors import InputError, MissingFileError
from dualvit.files import LONGEST_NAME, at_limit, cut_name, read_json, write_atomic, write_json

INDEX = "maps.json"
SMALL = 1 << 15  # classes that 16 bits can number


@dataclass(frozen=True)
class LabelMaps:
    """A folder of label maps, one file a picture, at the picture's own place below the data set's root.

    Args:
        folder: As `dualvit token-labels` writes it.
        root: The data set's root.
        classes: The data set's classes.

    Raises:
        FileNotFoundError: no label maps there.
        ValueError: they are of other classes.
    """

    folder: Path
    root: Path
    classes: tuple[str, ...]
    shape: tuple[int, ...] | None = field(init=False, default=None)  # of every map, if the folder says so

    def __post_init__(self) -> None:
        index = read_json(self.folder / INDEX)
        if index is None:
            raise MissingFileError(f"no label maps in {self.folder}: `dualvit token-labels MODEL DATA OUT` makes them")
        names, shape = index.get("classes"), index.get("shape")
        numbers = isinstance(shape, list) and len(shape) == 3 and all(type(n) is int and n > 0 for n in shape)
        if not (
            isinstance(names, list) and all(isinstance(name, str) for name in names) and (numbers or shape is None)
        ):
            raise InputError(
                f"{self.folder / INDEX} is not what `dualvit token-labels` wrote: its classes are no list of names, or "
                "its shape is not three numbers; make the label maps again"
            )
        object.__setattr__(self, "shape", None if shape is None else tuple(shape))
        theirs = tuple(names)
        if theirs != self.classes:
            odd = next((a for a, b in zip(theirs, self.classes, strict=False) if a != b), "")
            raise InputError(
                f"label maps in {self.folder} have {len(theirs)} classes and the data set {len(self.classes)}"
                + (f" (theirs has {odd[:60]!r})" if odd else "")
                + "; make them with a teacher of the data set's own classes"
            )

    def read(self, file: Path) -> tuple[Tensor, Tensor]:
        """The map of a picture: scores (K, h, w) in float16, and the classes they belong to.

        Raises:
            FileNotFoundError: the picture has no map.
            UnreadableError: the map is damaged.
            ValueError: it does not fit the classes.
        """
        path = place(self.folder, self.root, file)
        if not path.is_file():
            raise MissingFileError(f"no label map of {file} at {path}; run `dualvit token-labels` on this data set")
        try:
            maps = safetensors.torch.load_file(path)
            scores, classes = maps["scores"], maps["classes"]
        except (safetensors.SafetensorError, OSError, KeyError) as error:
            if at_limit(error):
                raise
            raise UnreadableError(f"cannot read the label map {path}: {error}; make it again") from None
        if why := self._misfit(scores, classes):
            raise InputError(f"{path} does not fit: {why}; make the label maps again")
        return scores, classes.long()

    def _misfit(self, scores: Tensor, classes: Tensor) -> str:
        """Why two tensors are no map of this folder; nothing if they are one."""
        if scores.dtype not in (torch.float16, torch.float32) or classes.dtype not in (torch.int16, torch.int32):
            return f"scores are {scores.dtype} and classes {classes.dtype}"
        if scores.ndim != 3 or not scores.numel() or scores.shape != classes.shape:
            return f"scores are {tuple(scores.shape)} and classes {tuple(classes.shape)}"
        low, high = int(classes.min()), int(classes.max())
        if low < 0 or high >= len(self.classes):
            return f"classes from {low} up to {high} of {len(self.classes)}"
        if len(scores) > len(self.classes) or (self.shape and scores.shape != self.shape):
            return f"it is {tuple(scores.shape)}, and maps here are {self.shape or f'of {len(self.classes)} classes'}"
        if not bool(torch.isfinite(scores).all()) or float(scores.min()) < 0 or float(scores.max()) > 1.001:
            return "scores are not all within 0 and 1"
        return ""


def place(folder: Path, root: Path, file: Path) -> Path:
    """Where the map of a picture lies.

    Example:
        >>> str(place(Path("maps"), Path("data"), Path("data/train/cat/1.jpg")))
        'maps/train/cat/1.jpg.safetensors'
    """
    inner, room = file.relative_to(root), LONGEST_NAME - len(".safetensors.part")
    name = inner.name
    if len(os.fsencode(name)) > room:
        digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
        name = f"{cut_name(name, room - len(digest) - 1)}-{digest}"
    return folder / inner.with_name(f"{name}.safetensors")


def compact(probabilities: Tensor, top: int) -> dict[str, Tensor]:
    """A map as it is kept.

    Args:
        probabilities: (classes, h, w).
        top: Classes to keep at each place, at most.

    Returns:
        `scores` (K, h, w) in float16, and `classes` (K, h, w) in 16 or 32 bits.
    """
    scores, classes = probabilities.float().topk(min(top, len(probabilities)), dim=0)
    small = torch.int16 if len(probabilities) <= SMALL else torch.int32
    return {"scores": scores.half().contiguous(), "classes": classes.to(small).contiguous()}


def write_map(path: Path, content: dict[str, Tensor]) -> None:
    """Write one map whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, safetensors.torch.save(content))


def write_index(folder: Path, classes: Sequence[str], about: dict[str, Any]) -> None:
    """Close a folder of maps: only one with this file in it is taken for complete."""
    write_json(folder / INDEX, {"classes": list(classes), **about})


def crop(scores: Tensor, classes: Tensor, boxes: Tensor, flipped: Tensor, count: int, size: tuple[int, int]) -> Tensor:
    """Dense targets of crops: the maps under the same crops and mirrors as the pictures.

    Args:
        scores: (B, K, h, w).
        classes: (B, K, h, w), below `count`.
        boxes: (B, 4), left, top, right and bottom of each crop as shares of the picture.
        flipped: (B,), whether it was mirrored after that.
        count: Classes.
        size: Rows and columns of the targets.

    Returns:
        (B, count, *size), which sums to 1 over the classes: what the K classes lack is shared out among them.
    """
    batch, _, height, width = scores.shape
    dense = scores.new_zeros(batch, count, height, width, dtype=torch.float32)
    dense.scatter_add_(1, classes, scores.float())
    scale = boxes.new_tensor([width, height, width, height], dtype=torch.float32)
    numbered = torch.cat([torch.arange(batch, device=boxes.device)[:, None].float(), boxes.float() * scale], dim=1)
    # aligned: a box of whole cells at the maps' own size gives back these very cells
    cropped = roi_align(dense, numbered, size, aligned=True)
    cropped = torch.where(flipped[:, None, None, None], cropped.flip(3), cropped)
    return F.normalize(cropped, p=1.0, dim=1)
