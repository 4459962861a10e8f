"""Names: the answer to an unknown one, short ones, the kind of place that one is, and those that are imported late."""

import importlib
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any

OF_YOLO = (".yaml", ".yml", ".safetensors")  # endings of YOLO's whole models; other names are timm's
START = "start"  # in a recipe, in place of a file of weights: that which the package ships


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """One line for a name that does not exist, with the nearest ones that do."""
    near = get_close_matches(name[:100], list(known), n=3)
    return f"unknown {kind} {name[:100]!r}" + (f"; did you mean {', '.join(near)}?" if near else "")


def shortened(label: str, longest: int = 40) -> str:
    """Return a label of at most so many characters: from a longer one, the middle is left out.

    Example:
        >>> shortened("dualvit_n"), shortened("a" * 30 + "b" * 30)
        ('dualvit_n', 'aaaaaaaaaaaaaaaaaaaaaaaa…bbbbbbbbbbbbbbb')
    """
    tail = longest * 3 // 8
    return label if len(label) <= longest else f"{label[: longest - tail - 1]}…{label[-tail:]}"


def is_shards(root: str) -> bool:
    """Whether a data set's root names tar files or a command that writes one, rather than a folder.

    Example:
        >>> is_shards("shards/train-{000..099}.tar"), is_shards("pipe:aws s3 cp s3://b/{0..9}.tar -"), is_shards("pets")
        (True, True, False)
    """
    return ".tar" in root or root.startswith("pipe:")


def lazily(package: str, **places: str) -> Callable[[str], Any]:
    """The `__getattr__` of a package that imports some of its names once they are asked for.

    Args:
        package: Its `__name__`.
        places: For each of the names, the module and the name there, as in `dualvit.weights.convert`.
    """

    def get(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, there = places[name].rpartition(".")
        return getattr(importlib.import_module(module), there)

    return get
