"""The families of YOLO whose neck and head stand on a timm backbone. A new family is a row of the table here."""

import re
from dataclasses import dataclass

SUFFIXES = {"detect": "", "segment": "-seg", "classify": "-cls", "pose": "-pose", "obb": "-obb"}  # of names, by task
KINDS = {"dualvit": "Dual-ViT", "timm": "any timm backbone"}
NAME = re.compile(rf"(yolov?\d+)([a-z]?)-({'|'.join(KINDS)})((?:-\w+)*)\.yaml")


@dataclass(frozen=True)
class Family:
    """A family of YOLO.

    Attributes:
        since: The Ultralytics from which on it has the family; no older one is supported than 8.2.103.
        scales: Their letters, from small to large.
        tasks: What the package has it for.
    """

    since: str
    scales: str = "nsmlx"
    tasks: tuple[str, ...] = tuple(SUFFIXES)

    def backbones(self) -> dict[str, str]:
        """Return the Dual-ViT of each scale.

        Example:
            >>> Family("8.3.0").backbones()["s"]
            'dualvit_t'
        """
        return {scale: f"dualvit_{DUALVIT[scale]}" for scale in self.scales}


DUALVIT = {"t": "n", "n": "n", "s": "t", "m": "s", "b": "s", "c": "b", "l": "b", "e": "l", "x": "l"}  # by YOLO's scale
FAMILIES = {
    "yolov8": Family("8.2.103"),
    "yolov9": Family("8.2.103", "tsmce", ("detect",)),
    "yolov10": Family("8.2.103", "nsmblx", ("detect",)),
    "yolo11": Family("8.3.0"),
    "yolo12": Family("8.3.78"),
    "yolo26": Family("8.4.0"),
}


def names(family: str) -> list[str]:
    """Return the names of a family's files at its smallest scale.

    Example:
        >>> names("yolov10")
        ['yolov10n-dualvit.yaml', 'yolov10n-timm.yaml']
    """
    known = FAMILIES[family]
    start = f"{family}{known.scales[0]}"
    return [f"{start}-{kind}{SUFFIXES[task]}.yaml" for kind in KINDS for task in known.tasks]
