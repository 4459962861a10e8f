"""Explanations of a few pictures, for the page that a training ends in."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from PIL import Image

from dualvit.data.images import open_rgb
from dualvit.errors import DualViTError, line_of
from dualvit.explain.attention import has_semantics, recorded
from dualvit.explain.methods import METHODS
from dualvit.explain.regions import best_stage
from dualvit.explain.show import boxes_picture, map_picture, region_picture, sheet
from dualvit.explain.subject import Found, Subject
from dualvit.pictures.differences import encoded

PICTURES, SECONDS = 3, 30.0  # what is explained at most, and how long
ASKED = 12  # pictures that may be looked at before there is one with an object
SIDE = 480  # pixels of the longer side of a picture
QUALITY = 85
BACK = 3  # a pass forward and one back, over one forward


def examples(
    opening: Callable[[], Subject], files: Sequence[Path], seconds: float = SECONDS
) -> tuple[list[tuple[str, bytes]], list[str]]:
    """Explain the surest object, or class, of a few pictures.

    Args:
        opening: Opens what is explained.
        files: Pictures, the most wanted first.
        seconds: After which no further picture is begun.

    Returns:
        A caption and a JPEG for each, and lines on what could not be explained.
    """
    try:
        subject = opening()
        return _examples(subject, files[:ASKED], time.monotonic() + seconds)
    except Exception as error:  # whatever a network raises, after a training that is done
        return [], [f"No explanations are shown: {line_of(error, 240)}"]


def _examples(subject: Subject, files: Sequence[Path], end: float) -> tuple[list[tuple[str, bytes]], list[str]]:
    shown: list[tuple[str, bytes]] = []
    lines: list[str] = []
    for file in files:
        if len(shown) == PICTURES or time.monotonic() > end:
            break
        try:
            if (one := _explained(subject, file, (end - time.monotonic()) / (PICTURES - len(shown)))) is not None:
                shown.append(one)
        except (DualViTError, OSError) as error:
            lines.append(f"{file.name} is not explained: {line_of(error, 240)}")
    if not shown and not lines:
        lines.append("No explanations are shown: the network found nothing in the pictures that were asked about.")
    return shown, lines


def _explained(subject: Subject, file: Path, seconds: float) -> tuple[str, bytes] | None:
    """What the network found in a picture, the regions of its semantics, and what made the surest object.

    Relevance is the most faithful map, and takes many passes; if these would take too long, LayerCAM takes one.
    """
    picture = open_rgb(file)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    view = subject.view(picture)
    dual = has_semantics(subject.network)
    began = time.monotonic()
    with torch.no_grad(), recorded(subject.network) if dual else nullcontext(()) as attentions:
        found = subject.found(subject.answers(subject.network(view.images))[0])
    if not found:
        return None
    surest, passes = found[0], BACK * METHODS["relevance"].cost(subject, view)
    method = METHODS["relevance" if passes * (time.monotonic() - began) < seconds else "layercam"]
    parts = [("found", boxes_picture(picture, view, found, subject.classes))] if surest.box else [("picture", picture)]
    if dual:
        stage = best_stage(attentions)
        parts.append((f"regions of the semantics, stage {stage}", region_picture(picture, view, attentions, stage)))
    values = method.map(subject, view, surest)
    parts.append((f"{method.name} of {_called(surest)}", map_picture(picture, view, values, surest)))
    return f"{file.name}: {_called(surest)}, by {method.name} ({method.unit})", encoded(sheet(parts), "JPEG", QUALITY)


def _called(found: Found) -> str:
    return f"{found.name} {found.score:.2f}"
