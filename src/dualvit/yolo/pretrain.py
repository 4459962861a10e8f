"""Ultralytics' models in `dualvit pretrain`: a YAML's backbone rows as a student, a checkpoint's as a teacher.

Importing this module lets pretraining know names that end in .yaml and .pt. A student ends in a bundle for `YOLO(...)`,
whose neck and head are as initialised.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dualvit.backbones.maps import AS_THEY_ARE, MAKERS, Moments, Written
from dualvit.errors import InputError
from dualvit.yolo.bundle import write_bundle
from dualvit.yolo.model import YOLO

SIDE = 128  # of the image that shows which row has which stride


class BackboneRows(nn.Module):
    """The backbone rows of a YOLO model: images (B, 3, H, W) to the maps of some of them.

    Args:
        rows: Of the model, as Ultralytics built them.
        picked: The numbers of those whose maps are asked for.
    """

    def __init__(self, rows: nn.ModuleList, picked: tuple[int, ...]) -> None:
        super().__init__()
        self.rows, self.picked = rows, picked

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = outputs(self.rows, images)
        return [maps[index] for index in self.picked]


def outputs(rows: nn.ModuleList, images: Tensor) -> list[Any]:
    """Return what each row gives, each from the rows that it names."""
    maps: list[Any] = []
    x: Any = images
    for row in rows:
        source: Any = row.f
        if source != -1:
            x = maps[source] if isinstance(source, int) else [x if index == -1 else maps[index] for index in source]
        x = row(x)
        maps.append(x)
    return maps


class YoloMaps:
    """`dualvit.backbones.maps.Maps` of the backbone of an Ultralytics model.

    Args:
        name: A model YAML, or a checkpoint.
        options: Of `dualvit.yolo.YOLO`.
        strides: Of the maps; each comes from the last row of the backbone that has it.

    Raises:
        ValueError: no row of the backbone has one of the strides.
    """

    channels_last = False

    def __init__(self, name: str, options: dict[str, Any], strides: tuple[int, ...]) -> None:
        self.name, self.options = name, options
        self.model: Any = YOLO(name, **options).model
        self.count = len(self.model.yaml["backbone"])
        with torch.no_grad():
            maps = outputs(self._rows().eval(), torch.zeros(1, 3, SIDE, SIDE))
        shapes = [tuple(one.shape) if isinstance(one, Tensor) and one.ndim == 4 else () for one in maps]
        found = {SIDE // shape[2]: index for index, shape in enumerate(shapes) if shape}
        if missing := [stride for stride in strides if stride not in found]:
            raise InputError(f"the backbone of {name} has no map at stride {missing[0]}; it has {sorted(found)}")
        self.picked = tuple(found[stride] for stride in strides)
        self.channels: tuple[int, ...] = tuple(shapes[index][1] for index in self.picked)

    def _rows(self) -> nn.ModuleList:
        return nn.ModuleList(list(self.model.model)[: max(self.count, 1)])

    def build(self, weights: str | None) -> nn.Module:
        """Return the rows of the model itself.

        Raises:
            ValueError: other weights are asked for than the model brings.
        """
        if weights not in (None, self.name):
            raise InputError(f"{self.name} brings its own weights or none; leave weights {weights} out")
        return BackboneRows(self._rows().float().requires_grad_(True).train(), self.picked)

    def moments(self) -> Moments:
        """Return that pictures are taken from 0 to 1."""
        return AS_THEY_ARE

    def undecayed(self, features: nn.Module) -> set[str]:
        """Return none: norms and biases are exempt by their shape."""
        return set()

    def write(self, features: nn.Module, target: Path, weights: str | None, about: Mapping[str, str]) -> Written:
        """Write the whole model as a bundle that `YOLO(...)` opens."""
        learnt = tuple(f"model.{name}" for name in features.rows.state_dict())  # type: ignore[union-attr]
        write_bundle(self.model.cpu().eval(), target, half=False, about=about)
        rest = tuple(name for name in self.model.state_dict() if name not in set(learnt))
        return Written(learnt, rest, f'YOLO("{target}") opens it, to be trained on')


MAKERS[".yaml"] = MAKERS[".pt"] = YoloMaps
