"""One picture explained: what was found, the regions of the semantics, and a map per object and method."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from dualvit.data.images import LONGEST, open_rgb
from dualvit.errors import InputError, line_of
from dualvit.explain.attention import Attention, has_semantics, recorded
from dualvit.explain.choosing import Wanted, chosen
from dualvit.explain.curves import Evidence, evidence
from dualvit.explain.methods import Method
from dualvit.explain.profiles import Profile, profiles
from dualvit.explain.regions import best_stage, shares
from dualvit.explain.relevance import Relevance, relevance_of
from dualvit.explain.show import boxes_picture, map_picture, region_picture, sheet
from dualvit.explain.subject import Found, Subject, View, target_of

Progress = Callable[[int, int, str], None]
SMALLEST = 16  # pixels of a picture's shorter side
DRAWN = 960  # pixels of the longer side that is drawn on


@dataclass(frozen=True)
class ObjectMap:
    """Where the evidence for one object lies, by one method.

    Attributes:
        number: The object's place in `Explanation.found`; 0 of a target of your own.
        found: The object, the class, or the target.
        method, unit: What made the map, and what one unit of it is.
        values: (H, W) of `Explanation.view.images`, on the raw scale; below 0 is evidence against it.
        passes, seconds: What it took.
        evidence: Shares in, near and far from the box; None without a box, or without evidence.
        relevance: What crosses each stage, if the method is relevance.
    """

    number: int
    found: Found
    method: str
    unit: str
    values: Tensor
    passes: int
    seconds: float
    evidence: Evidence | None
    relevance: Relevance | None = None

    @property
    def key(self) -> str:
        """Its name in a file of maps."""
        return f"{self.method}-{self.number}"

    def plain(self) -> dict[str, Any]:
        """Return all but the map as JSON holds it."""
        values = self.values.double()
        about: dict[str, Any] = {
            "map": self.key, "unit": self.unit, "sum": float(values.sum()),
            "for": float(values.clamp(min=0).sum()), "against": float(values.clamp(max=0).sum()),
            "largest": float(values.max()), "passes": self.passes, "seconds": round(self.seconds, 3),
            "evidence": None if self.evidence is None else asdict(self.evidence),
        }  # fmt: skip
        if self.relevance is not None:
            flows = self.relevance.flows
            about["rise"], about["lost"] = self.relevance.rise, self.relevance.lost
            about["stages"] = [
                {
                    "stage": flow.stage, "pixels": float(flow.pixels.sum()), "semantics": float(flow.semantics.sum()),
                    "taken": flow.taken, "total": flow.total,
                }
                for flow in flows
            ]  # fmt: skip
        return about


@dataclass(frozen=True)
class Explanation:
    """What a network saw in one picture.

    Attributes:
        picture: Upright, RGB.
        view: It as the network sees it; `view.on_picture(map)` brings a map to the picture.
        classes: All that the network knows.
        found: Its objects, or the classes of a classifier, the surest first.
        maps: Per object that was asked for, and method.
        attention: Each attention between pixels and semantics; empty without semantics.
        profiles: Of each block: entropy, reach and layer scales.
        stage: Whose regions are drawn; None without semantics.
        notes: What could not be explained, a line each.
        lacks: So many of the first notes are on the network, and the same for each picture.
    """

    picture: Image.Image
    view: View
    classes: tuple[str, ...]
    found: tuple[Found, ...]
    maps: tuple[ObjectMap, ...]
    attention: tuple[Attention, ...] = ()
    profiles: tuple[Profile, ...] = ()
    stage: int | None = None
    notes: tuple[str, ...] = ()
    lacks: int = 0

    def map(self, method: str, number: int = 0) -> Tensor:
        """Return the map of an object by a method, on the picture: (height, width).

        Raises:
            ValueError: there is no such map.
        """
        for one in self.maps:
            if (one.method, one.number) == (method, number):
                return self.view.on_picture(one.values)
        raise InputError(f"no map {method}-{number}; there are {', '.join(one.key for one in self.maps) or 'none'}")

    def regions(self, stage: int | None = None) -> Tensor:
        """Return which semantic token each pixel of the picture consults most: (height, width).

        Raises:
            ValueError: the network has no semantics, or no such stage.
        """
        stage = self.stage if stage is None else stage
        if stage is None:
            raise InputError("the network has no semantics of Dual-ViT, and so no regions")
        _, view = _drawn(self.picture, self.view, larger=False)  # so that a large picture takes little memory
        labels = torch.stack([view.on_picture(one) for one in shares(self.attention, stage)]).argmax(0)
        size = (self.picture.height, self.picture.width)
        return F.interpolate(labels[None, None].float(), size, mode="nearest")[0, 0].long()

    def sheet(self) -> Image.Image:
        """Return all of it as one picture: a row per object, a column per method."""
        small, view = _drawn(self.picture, self.view)
        boxed = any(one.box for one in self.found)
        first = boxes_picture(small, view, self.found, self.classes) if boxed else small
        rows = [[(f"{len(self.found)} found" if boxed else _classes(self.found), first)]]
        if self.stage is not None:
            regions = region_picture(small, view, self.attention, self.stage)
            rows[0].append((f"regions of the semantics, stage {self.stage}", regions))
        for number in dict.fromkeys(one.number for one in self.maps):
            rows.append([])
            for one in self.maps:
                if one.number == number:
                    words = f"{number} {_called(one.found)}: {one.method}, {one.unit}"
                    rows[-1].append((words, map_picture(small, view, one.values, one.found)))
        columns = max(map(len, rows))
        if columns == 1:
            return sheet([part for row in rows for part in row])
        blank = Image.new("RGB", rows[0][0][1].size, "#ffffff")
        return sheet([part for row in rows for part in [*row, *[("", blank)] * (columns - len(row))]], columns)

    def plain(self) -> dict[str, Any]:
        """Return all but pictures and maps as JSON holds it; boxes are in pixels of the picture."""
        return {
            "size": list(self.picture.size),
            "images": list(self.view.images.shape[2:]),
            "content": list(self.view.content),
            "stage": self.stage,
            "objects": [
                {
                    "number": number, "name": one.name, "score": one.score,
                    "box": one.box and [round(side, 2) for side in self.view.box_on_picture(one.box)],
                    "methods": {each.method: each.plain() for each in self.maps if each.number == number},
                }
                for number, one in enumerate(self.found)
            ],
            "profiles": [asdict(one) for one in self.profiles],
            "notes": list(self.notes),
        }  # fmt: skip


def explain(
    subject: Subject,
    picture: Image.Image | Path | str,
    wanted: Wanted | None = None,
    progress: Progress = lambda done, total, what: None,
) -> Explanation:
    """Explain what a network says of a picture.

    Args:
        subject: Of `open_subject`, or any network in a `Classifier`.
        picture: A file, or an RGB picture.
        wanted: Which objects, by which methods; the surest three objects by the usual methods if left out.
        progress: Called with (done, total, what) before each map.

    Raises:
        ValueError: the picture cannot be read or is too small, the object or the class is not there, or no method
            fits the network.

    Example:
        >>> import dualvit
        >>> from dualvit.explain import Classifier
        >>> subject = Classifier(dualvit.create_model("dualvit_n", num_classes=2), ("cat", "dog"), 64)
        >>> picture = Image.effect_noise((96, 64), 80).convert("RGB")
        >>> found = explain(subject, picture, Wanted("relevance", label="dog"))
        >>> found.maps[0].found.name, found.map("relevance", found.maps[0].number).shape
        ('dog', torch.Size([64, 96]))
    """
    wanted = wanted or Wanted()
    picture = picture.convert("RGB") if isinstance(picture, Image.Image) else open_rgb(Path(picture))
    _require_size(picture)
    methods, lacks = wanted.methods_for(subject)
    view, dual = subject.view(picture), has_semantics(subject.network)
    with torch.no_grad(), recorded(subject.network) if dual else nullcontext(list[Attention]()) as attentions:
        outputs = subject.network(view.images)
    found, numbers, more = chosen(subject, outputs, wanted)
    stage = None
    if attentions:
        stage = best_stage(attentions) if wanted.stage is None else wanted.stage
        shares(attentions, stage)  # says so if there is no such stage
    elif wanted.stage is not None:
        more.append("a stage is of semantics, and this network has none")
    maps, failed = _maps(subject, view, [(number, found[number]) for number in numbers], methods, progress)
    rows = profiles(subject.network, attentions) if attentions else []
    return Explanation(
        picture, view, subject.classes, tuple(found), tuple(maps), tuple(attentions), tuple(rows), stage,
        (*lacks, *more, *failed), len(lacks),
    )  # fmt: skip


def _maps(
    subject: Subject, view: View, objects: Sequence[tuple[int, Found]], methods: Sequence[Method], progress: Progress
) -> tuple[list[ObjectMap], list[str]]:
    """Make all maps; a method that fails on an object is a line, unless all do."""
    maps: list[ObjectMap] = []
    failed: list[str] = []
    total = len(objects) * len(methods)
    for number, found in objects:
        for method in methods:
            progress(len(maps) + len(failed), total, f"{method.name} of {number} {found.name}")
            try:
                maps.append(_map(subject, view, number, found, method))
            except (ValueError, RuntimeError, ModuleNotFoundError) as error:
                failed.append(f"{method.name} of {number} {found.name} failed: {line_of(error, 240)}")
    if failed and not maps:
        raise InputError(failed[0])
    progress(total, total, "drawing")
    return maps, failed


def _map(subject: Subject, view: View, number: int, found: Found, method: Method) -> ObjectMap:
    start, relevance = time.perf_counter(), None
    if method.name == "relevance":
        relevance = relevance_of(subject.network, view.images, target_of(subject, found))
        method = replace(method, run=lambda *_: relevance.image)
    values = method.map(subject, view, found)
    lies = evidence(values, found.box) if found.box is not None else None
    seconds, passes = time.perf_counter() - start, method.cost(subject, view)
    return ObjectMap(number, found, method.name, method.unit, values, passes, seconds, lies, relevance)


def _require_size(picture: Image.Image) -> None:
    width, height = picture.size
    if min(width, height) < SMALLEST:
        raise InputError(
            f"the picture has {width}x{height} pixels; give one of {SMALLEST}x{SMALLEST} or more, since less shows "
            "nothing that could be explained"
        )
    if max(width, height) > LONGEST * min(width, height):
        raise InputError(
            f"the picture has {width}x{height} pixels, and one side may have {LONGEST} times the pixels of the other "
            "at most; cut it into pieces"
        )


def _drawn(picture: Image.Image, view: View, larger: bool = True) -> tuple[Image.Image, View]:
    """A picture at the size that it is drawn at, and its view."""
    factor = DRAWN / max(picture.size)
    factor = factor if larger else min(factor, 1.0)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.LANCZOS), replace(view, size=size)


def _called(found: Found) -> str:
    return f"{found.name} {found.score:.2f}"


def _classes(found: Sequence[Found]) -> str:
    return ", ".join(map(_called, found[:3]))
