"""Neck and head of a family of YOLO on a backbone of ours: the rows of the YAML that Ultralytics installs.

No row stands in this package: a name such as `yolo26s-dualvit-seg.yaml` is derived from the stock `yolo26-seg.yaml`.
Its backbone makes room for four rows, the model and its maps P3, P4 and P5, and its head's rows are numbered anew.
"""

from pathlib import Path
from typing import Any

import ultralytics

from dualvit.errors import InputError, StateError
from dualvit.families import FAMILIES, NAME, SUFFIXES, names
from dualvit.files import read_yaml

MODELS = Path(ultralytics.__file__).parent / "cfg" / "models"
MAPS = (1, 2, 3)  # rows of P3, P4, P5


def derive(name: str) -> dict[str, Any] | None:
    """Return the model YAML that a name stands for; None if the name is none of a known family.

    Its backbone is a mapping from scales to Dual-ViTs, or absent under a name with `-timm`.

    Raises:
        ValueError: a scale or a task that the package does not have of this family.
        RuntimeError: the installed Ultralytics is older than the family.

    Example:
        >>> derive("yolov8s-timm.yaml")["head"][0]
        [3, 1, 'nn.Upsample', ['None', 2, 'nearest']]
    """
    found = NAME.fullmatch(name)
    if found is None or found[1] not in FAMILIES:
        return None
    family, scale, kind, suffix = found.groups()
    known = FAMILIES[family]
    if scale and scale not in known.scales:
        raise InputError(f"{name}: {family} has no scale {scale!r}; it has {', '.join(known.scales)}")
    if suffix not in (allowed := [SUFFIXES[task] for task in known.tasks]):
        others = f", with {' '.join(allowed[1:])}" if allowed[1:] else ""
        raise InputError(
            f"{name}: on a timm backbone {family} has no {suffix}, but {family}{scale}-{kind}.yaml{others}; use one"
        )
    file = _file(family, scale or known.scales[0], suffix)
    if file is None:
        raise StateError(
            f"{name} needs ultralytics {known.since} or newer, and {ultralytics.__version__} is installed; "
            f"update it, or use yolov8n-{kind}{suffix}.yaml"
        )
    d = read_yaml(file)
    backbone = {"backbone": known.backbones()} if kind == "dualvit" else {}
    head = renumber(d["head"], len(d.pop("backbone")), name)
    return {**d, **backbone, "head": head, "scale": scale, "yaml_file": name}


def installed() -> list[str]:
    """Return the names that the installed Ultralytics has the rows for, each at its family's smallest scale."""
    return [name for family, known in FAMILIES.items() if _file(family, known.scales[0]) for name in names(family)]


def _file(family: str, scale: str, suffix: str = "") -> Path | None:
    """The stock YAML of a family, or of its scale where each has a file of its own."""
    files = (next(MODELS.glob(f"*/{stem}{suffix}.yaml"), None) for stem in (family, f"{family}{scale}"))
    return next(filter(None, files), None)


def renumber(head: list[Any], count: int, name: str) -> list[Any]:
    """Return a stock head's rows behind our four, its maps taken from MAPS.

    Args:
        head: Its rows.
        count: Rows of the stock backbone.
        name: For the message.

    Raises:
        RuntimeError: the head takes neither one map of the backbone, the last, nor three.
    """
    rows = [row[0] if isinstance(row[0], list) else [row[0]] for row in head]
    behind = [[index + number if index < 0 else index for index in row] for number, row in enumerate(rows, count)]
    taken = sorted({index for row in behind for index in row if index < count})
    if len(taken) not in (1, len(MAPS)):
        raise StateError(
            f"{name}: the head in ultralytics {ultralytics.__version__} takes {len(taken)} maps of its backbone, "
            "and 1 or 3 are known; use an older version"
        )
    places = dict(zip(taken, MAPS[-len(taken) :], strict=True))
    shift = len(MAPS) + 1 - count
    moved = [
        [places.get(at, index if index < 0 else at + shift) for index, at in zip(row, absolute, strict=True)]
        for row, absolute in zip(rows, behind, strict=True)
    ]
    return [[to if isinstance(row[0], list) else to[0], *row[1:]] for to, row in zip(moved, head, strict=True)]
