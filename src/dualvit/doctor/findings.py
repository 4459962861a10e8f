"""What can be wrong with a data set: the kinds, how grave each is, and what helps."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

FAULT, WARNING = "fault", "warning"


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    Attributes:
        level: fault, which takes accuracy or stops a training; or warning, which may be meant so.
        title: In a heading.
        remedy: What to do.
    """

    level: str
    title: str
    remedy: str


KINDS = {
    "unreadable": Kind(FAULT, "Pictures that cannot be read", "Repair or remove them."),
    "bomb": Kind(FAULT, "Pictures beyond the limit of pixels", "Cut them into tiles, or make them smaller."),
    "absent": Kind(FAULT, "Pictures that are named and not there", "Copy them to their place, or correct the names."),
    "no-split": Kind(FAULT, "A part of the data set that is missing", "Give pictures to train on and to validate on."),
    "no-labels": Kind(
        FAULT, "A part without any object", "Look where the label files are expected; nothing would be learnt."
    ),
    "bad-label": Kind(FAULT, "Labels that cannot be used", "Correct the line or the entry."),
    "bad-mask": Kind(FAULT, "Masks that cannot be used", "Make the mask as large as its picture, an index per pixel."),
    "label-without-picture": Kind(
        FAULT, "Labels without a picture", "Give label and picture the same name, or remove the label."
    ),
    "size-differs": Kind(
        FAULT, "Pictures of another size than their annotations say", "Write the picture's size into the json."
    ),
    "outside": Kind(
        FAULT, "Objects outside of their picture", "Clip them; many of them mean labels of another picture."
    ),
    "empty": Kind(FAULT, "Objects without an area", "Remove them, or draw them anew."),
    "duplicate-object": Kind(FAULT, "Objects that are labelled twice", "Keep one of each pair."),
    "two-classes": Kind(FAULT, "One object with two classes", "Keep the right one of each pair."),
    "crossing": Kind(FAULT, "Outlines that cross themselves", "Put the points in order; the mask has holes else."),
    "duplicate-across": Kind(
        FAULT, "The same picture in two parts", "Keep it in one part; the score of the other is too good else."
    ),
    "near-across": Kind(
        FAULT, "Almost the same picture in two parts", "Keep pictures of one scene in one part."
    ),
    "duplicate-disagrees": Kind(
        FAULT, "The same picture with different labels", "Keep the copy with the right labels."
    ),
    "only-in-val": Kind(FAULT, "Classes without an object to learn from", "Move some pictures into the training part."),
    "duplicate-within": Kind(WARNING, "The same picture twice in a part", "Keep one of them."),
    "near-within": Kind(
        WARNING, "Almost the same picture twice in a part", "Keep one, unless they differ in what you want to learn."
    ),
    "picture-without-label": Kind(
        WARNING, "Pictures without labels", "Fine if nothing is in them; else give them their label file or entry."
    ),
    "same-label-file": Kind(WARNING, "Pictures that share a label file", "Give each picture a name of its own."),
    "not-a-picture": Kind(WARNING, "Files that no reader takes for a picture", "Convert them to jpg or png, or leave."),
    "without-outline": Kind(
        WARNING, "Objects with a box alone, among outlines", "Outline them; Mask R-CNN leaves them out."
    ),
    "tiny": Kind(
        WARNING, "Objects that are tiny at this image size", "Train at a larger image size, or on tiles."
    ),
    "rotated": Kind(
        WARNING, "Pictures that a flag turns (EXIF orientation)",
        "Nothing, if the labels are of the upright picture; save them upright for tools that do not know the flag.",
    ),
    "extreme": Kind(
        WARNING, "Pictures of an extreme size or shape", "Cut or remove them; resized, little is left of them."
    ),
    "no-objects": Kind(WARNING, "Classes without any object", "Remove the class, or label it."),
    "only-in-train": Kind(WARNING, "Classes that are not validated", "Move some pictures into the validation part."),
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: Of `KINDS`.
        message: In one line, with the file and the value.
        files: What it is about, the first to be shown.
        split: train, val or test; or none.
        boxes: The objects in question, x1, y1, x2, y2 in pixels of the upright picture.
    """

    kind: str
    message: str
    files: tuple[Path, ...] = ()
    split: str = ""
    boxes: tuple[tuple[float, float, float, float], ...] = ()

    def plain(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        boxes = [[round(float(value), 2) for value in box] for box in self.boxes if np.isfinite(box).all()]
        return {"message": self.message, "files": list(map(str, self.files)), "split": self.split, "boxes": boxes}


@dataclass(frozen=True)
class Histogram:
    """Counts in bins.

    Attributes:
        title: What is counted.
        labels: Of the bins.
        counts: One per bin.
    """

    title: str
    labels: tuple[str, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Report:
    """All that the doctor found.

    Attributes:
        data: The data set, as it was named.
        layout: yolo, coco, folders or masks.
        task: detect, segment, pose, classify or semantic.
        image_size: At which objects are called tiny.
        splits: Of each part the pictures, those with objects, and the objects.
        classes: Of each class the objects in each part; of masks, the pictures that it is in.
        findings: In the order of `KINDS`.
        histograms: Of pictures and of objects.
        seconds: That it took.
        doubts: With a model, what it doubts, as `doubts.ranked` says.
        notes: What was not looked at, and why.
    """

    data: str
    layout: str
    task: str
    image_size: int
    splits: dict[str, dict[str, int]]
    classes: dict[str, dict[str, int]]
    findings: tuple[Finding, ...]
    histograms: tuple[Histogram, ...]
    seconds: float = 0.0
    doubts: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def groups(self) -> dict[str, list[Finding]]:
        """Return the findings of each kind that occurs, faults first."""
        return {kind: found for kind in KINDS if (found := [one for one in self.findings if one.kind == kind])}

    def count(self, level: str) -> int:
        """Return how many findings are of a level."""
        return sum(KINDS[one.kind].level == level for one in self.findings)

    def status(self, strict: bool) -> int:
        """Return the exit status: 1 if there is a fault, or with `strict` a warning; else 0."""
        return int(self.count(FAULT) > 0 or (strict and self.count(WARNING) > 0))

    def plain(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        groups = [
            {"kind": kind, "level": KINDS[kind].level, "title": KINDS[kind].title, "remedy": KINDS[kind].remedy}
            | {"count": len(found), "places": [one.plain() for one in found]}
            for kind, found in self.groups().items()
        ]
        histograms = {one.title: dict(zip(one.labels, one.counts, strict=True)) for one in self.histograms}
        return {
            "data": self.data, "layout": self.layout, "task": self.task, "image_size": self.image_size,
            "faults": self.count(FAULT), "warnings": self.count(WARNING), "splits": self.splits,
            "classes": self.classes, "findings": groups, "histograms": histograms, "doubts": self.doubts,
            "notes": list(self.notes), "seconds": round(self.seconds, 2),
        }  # fmt: skip

    def __str__(self) -> str:
        """Return it as text: a line per kind, and the first three places of each."""
        lines = []
        for kind, found in self.groups().items():
            lines.append(f"{KINDS[kind].level} {kind}: {len(found)}  {KINDS[kind].title}. {KINDS[kind].remedy}")
            lines += [f"  {one.message}" for one in found[:3]]
            lines += [f"  ... and {len(found) - 3} more"] if len(found) > 3 else []
        for doubt in self.doubts.get("labels", [])[:3]:
            where = doubt["place"] or doubt["file"]
            lines.append(
                f"doubted {doubt['kind']}: {where} says {doubt['label']}, confidence {doubt['confidence']:.3f}"
            )
        lines += [f"note: {note}" for note in self.notes]
        pictures = sum(numbers["pictures"] for numbers in self.splits.values())
        counted = ((self.count(FAULT), "fault"), (self.count(WARNING), "warning"), (pictures, "picture"))
        lines.append("{} and {} in {}".format(*(f"{n} {word}{'s' * (n != 1)}" for n, word in counted)))
        return "\n".join(lines)


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings in the order of their kinds; of a kind, as they came."""
    order = {kind: number for number, kind in enumerate(KINDS)}
    return tuple(sorted(findings, key=lambda one: order[one.kind]))
