"""The page of a batch: how many pictures have an answer, why others have none, what was found, and some pictures."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from dualvit.batch.plan import OF_OBJECTS, read_items
from dualvit.batch.results import rows
from dualvit.batch.sources import BadPictureError, Source
from dualvit.command import command_line
from dualvit.names import shortened
from dualvit.pictures.boxes import draw
from dualvit.pictures.masks import BACKGROUND, overlay
from dualvit.report.page import Command, Facts, Figure, Figures, Page, Part, Section, Table, Words

if TYPE_CHECKING:
    from dualvit.batch.run import Done

SIDE, QUALITY = 640, 84  # pixels of the longer side of a picture, and of its JPEG
MOST = 30  # classes that the table has
COUNTED = {
    "classify": "pictures", "semantic": "pictures with it", "detect": "objects", "segment": "objects",
}  # fmt: skip
SURE = {"classify": "surest class", "semantic": "class", "detect": "class", "segment": "class"}


def page(folder: Path, done: "Done", environment: dict[str, Any]) -> Page:
    """Return the page of a batch that is complete.

    Args:
        folder: Of the batch.
        done: What came out.
        environment: Versions, commit and machine.
    """
    plan, counts = done.plan, done.counts
    figures = list(_figures(folder, done))
    sections: list[tuple[str, list[Part]]] = [
        ("", [Words([f"{image}: {message}" for image, _, message in counts.bad], "failed")] if counts.bad else []),
        ("Pictures without an answer", [_reasons(done)] if counts.reasons else []),
        ("What was found", [_classes(done)] if counts.classes else []),
        ("Some pictures", [Figures(figures)] if figures else []),
        ("How it was made", [Facts(_facts(done, environment))]),
        ("How to get it again", [Command(command_line())]),
    ]
    tiles = [(f"{counts.images:,}", "pictures"), (f"{counts.answered:,}", "with an answer")]
    tiles.append((f"{counts.reasons.total():,}", "without one, with a reason"))
    if plan.model.task in OF_OBJECTS:
        tiles.append((f"{counts.classes.total():,}", "objects"))
    shown = [Section(title, parts) for title, parts in sections if parts]
    return Page("dualvit batch", shortened(plan.settings.source, 60), f"{done}.", tiles, shown)


def _reasons(done: "Done") -> Table:
    total = done.counts.images
    lines = [
        [reason, f"{count:,}", f"{100 * count / total:.2g} %"] for reason, count in done.counts.reasons.most_common()
    ]
    return Table(["reason", "pictures", "of all"], lines, note="Each has a row, with the reason and a line on it.")


def _classes(done: "Done") -> Table:
    counts = done.counts.classes
    lines = [[name, f"{count:,}", f"{100 * count / counts.total():.3g} %"] for name, count in counts.most_common(MOST)]
    note = "" if len(counts) <= MOST else f"{len(counts) - MOST} more classes are in the rows."
    task = done.plan.model.task
    return Table([SURE[task], COUNTED[task], "share"], lines, note=note)


def _facts(done: "Done", environment: dict[str, Any]) -> list[tuple[str, str]]:
    plan, counts = done.plan, done.counts
    settings = plan.settings
    size = "the model's own" if settings.image_size is None else f"{settings.image_size} px"
    per = f"{1000 * counts.seconds / max(1, counts.images):.3g} ms per picture"
    return [
        ("pictures from", settings.source), ("model", f"{settings.model}, {plan.model.task}, {size}"),
        ("SHA-256", plan.model.digest), ("confidence", f"{settings.confidence:g}"),
        ("made by", "; ".join(f"{name}: {parts} parts" for name, parts in counts.machines.most_common())),
        ("parts", f"{done.parts} of {plan.part} pictures, {done.made} of them by this start"),
        ("seconds", f"{done.seconds:.1f} of this start; {counts.seconds:.1f} of all workers, {per}"),
        ("rows", str(done.file)), *(("note", line) for line in done.notes), ("list made", plan.date),
        ("versions", ", ".join(f"{name} {number}" for name, number in environment["versions"].items())),
        ("commit", str(environment["commit"] or "not in git")),
    ]  # fmt: skip


def _figures(folder: Path, done: "Done") -> Iterator[Figure]:
    """A few pictures with their answers; one that cannot be read any more is left out."""
    plan, source = done.plan, Source(done.plan.settings.source)
    for row in rows(folder, plan, done.counts.shown):
        item = read_items(folder, row["index"] // plan.part)[row["index"] % plan.part]
        try:
            image = source.open(item)
        except (BadPictureError, OSError, RuntimeError):
            continue
        buffer = io.BytesIO()
        drawn = _drawn(image, row, plan.model.classes)
        drawn.thumbnail((SIDE, SIDE))
        drawn.save(buffer, "JPEG", quality=QUALITY)
        words = _words(row)
        yield Figure(shortened(row["image"], 48), buffer.getvalue(), f"{row['image']}: {words}", [words])


def _words(row: dict[str, Any]) -> str:
    if row.get("classes") is not None:
        return ", ".join(f"{one['name']} {one['score']:.2f}" for one in row["classes"][:3])
    if row.get("regions") is not None:
        return ", ".join(f"{one['name']} {100 * one['share']:.0f} %" for one in row["regions"][:4])
    count = len(row["objects"])
    return f"{count} object{'s' * (count != 1)}" if count else "nothing found"


def _drawn(image: Image.Image, row: dict[str, Any], classes: tuple[str, ...]) -> Image.Image:
    """A picture with the boxes, masks or regions of its row."""
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)  # (3, H, W)
    if row.get("objects"):
        names = _padded(classes, row["objects"])
        found = {
            "boxes": torch.tensor([one["box"] for one in row["objects"]]),
            "labels": torch.tensor([one["label"] for one in row["objects"]]),
            "scores": torch.tensor([one["score"] for one in row["objects"]]),
        }
        if row["objects"][0].get("mask"):
            masks = np.stack([_mask(one["mask"]) for one in row["objects"]])[:, None]
            found["masks"] = torch.from_numpy(masks).float()
        return draw(pixels, found, names)
    if row.get("regions"):
        places = torch.zeros(pixels.shape[1:], dtype=torch.int64)
        for one in row["regions"]:
            places[torch.from_numpy(_mask(one["mask"]))] = one["label"] + 1
        return Image.fromarray(
            overlay(pixels, places, (BACKGROUND, *_padded(classes, row["regions"]))).permute(1, 2, 0).numpy()
        )
    return image


def _padded(classes: tuple[str, ...], answers: list[dict[str, Any]]) -> tuple[str, ...]:
    """Names for all labels that occur: a file may know fewer."""
    most = max(one["label"] for one in answers)
    return (*classes, *(str(label) for label in range(len(classes), most + 1)))


def _mask(runs: dict[str, Any]) -> "np.ndarray[Any, Any]":
    from dualvit.deploy.reading import mask_of

    return mask_of(runs)
