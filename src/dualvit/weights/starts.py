"""The starts that the package ships: weights of small networks, learnt from a teacher on freely licensed pictures.

A file `shipped/NAME.safetensors` is a backbone under timm's name, or a whole YOLO model under the name of its YAML.
Its metadata are its licence trail: teacher, pictures, commands and versions. `benchmarks/make_starts.py` makes them.
"""

import json
from pathlib import Path
from typing import Any

import safetensors

from dualvit.errors import InputError
from dualvit.weights.read import CheckpointError

FOLDER = Path(__file__).parent / "shipped"
MAKE = "benchmarks/make_starts.py makes it anew"


def start_names() -> tuple[str, ...]:
    """Return the names of the networks and YOLO models that a start is shipped for."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.safetensors")))


def start_file(name: str) -> Path:
    """Return the file of a network's start.

    Raises:
        ValueError: none is shipped for this name.
    """
    if name not in start_names():
        there = ", ".join(start_names()) or "none at all"
        raise InputError(f"no start is shipped for {name}; there are {there}; give weights=FILE, or leave start out")
    return FOLDER / f"{name}.safetensors"


def start_trail(name: str) -> dict[str, Any]:
    """Return what a start's file says about itself: teacher, pictures, commands, versions, licences.

    Raises:
        ValueError: there is no such start, or its file says nothing.
    """
    path = start_file(name)
    try:
        with safetensors.safe_open(path, "pt") as file:
            trail: dict[str, Any] = json.loads((file.metadata() or {})["start"])
    except (safetensors.SafetensorError, KeyError, ValueError):
        raise CheckpointError(f"{path} has no licence trail; {MAKE}") from None
    return trail


def misfit(name: str, what: str) -> CheckpointError:
    """Return the error of a start that is another network's, with the version that it was made by."""
    try:
        made = start_trail(name).get("versions", {}).get("dualvit", "an unknown version")
    except InputError:
        made = "an unknown version"
    return CheckpointError(f"the start {name} (made by dualvit {made}) does not fit this network: {what}; {MAKE}")
