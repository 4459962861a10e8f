"""The examination: each picture is looked at once, each label is held against its picture, and nothing is written."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from dualvit.data.images import SIDEWAYS
from dualvit.data.outlines import is_near
from dualvit.doctor import labels
from dualvit.doctor.duplicates import exact_groups, near_groups
from dualvit.doctor.findings import Finding, Histogram, Report, in_order
from dualvit.doctor.layouts import left_out, open_set
from dualvit.doctor.looks import Look, look_at
from dualvit.doctor.sets import DataSet, Item
from dualvit.errors import DualViTError

SMALL, LONG = 32, 10  # pixels of a side, and times its breadth, from which a picture is extreme
SIDES = (4, 8, 16, 32, 64, 128, 256)  # bounds of the bins of objects' sides
RATIOS = (0.25, 0.5, 0.67, 0.8, 1.25, 1.5, 2, 4)  # bounds of the bins of width over height
NUMBERS = (1, 2, 4, 8, 16, 32, 64)  # bounds of the bins of objects per picture
ALIKE = 0.5  # IoU from which the boxes of two labels of one picture agree
SIZES = 7  # sizes of pictures that have a bin of their own
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class MaskSettings:
    """How masks are read, as `data` of a semantic recipe says.

    Attributes:
        classes: Their names; where left out, those that the data set gives.
        ignore: The index of pixels without a class.
        reduce_zero: 0 marks such pixels, too, and 1 is the first class.
    """

    classes: tuple[str, ...] = ()
    ignore: int = 255
    reduce_zero: bool = False


@dataclass(frozen=True)
class Examination:
    """What an examination saw.

    Attributes:
        report: What it found.
        data: The data set, objects in pixels.
        looks: At each picture, in the order of the data set's items.
    """

    report: Report
    data: DataSet
    looks: tuple[Look, ...]

    def readable(self, split: str | None = None) -> list[Item]:
        """Return the pictures that can be read, of one part or of all."""
        pairs = zip(self.data.items, self.looks, strict=True)
        return [item for item, look in pairs if not look.fault and split in (None, item.split)]


def examine(
    place: Path,
    image_size: int = 640,
    names: dict[str, tuple[str, str]] | None = None,
    masks: MaskSettings | None = None,
    progress: Progress = lambda done, total: None,
) -> Examination:
    """Examine a data set; it is only read.

    Args:
        place: A data.yaml, or a folder in any layout that the package knows.
        image_size: The longer side at which the network will see a picture.
        names: Of COCO's layout, for train and val the json and the folder of pictures, if they have other names.
        masks: How masks are read.
        progress: Is told how many pictures were looked at, and of how many.

    Raises:
        FileNotFoundError: nothing is there that the package can read.
        ValueError: a file that describes the whole set cannot be used.
    """
    start, masks = time.perf_counter(), masks or MaskSettings()
    data = open_set(place, names, masks.classes)
    looks = look_at([item.file for item in data.items], progress)
    findings = [*data.findings, *left_out(data.items), *_pictures(data, looks)]
    for item, look in zip(data.items, looks, strict=True):
        if data.shares and not look.fault:
            labels.in_pixels(item, look.width, look.height)
        size = _size(item, look)
        if not look.fault or (item.said and not data.shares):
            findings += labels.check(item, size, data.classes, image_size)
        if data.task == "segment":
            findings += labels.without_outline(item)
    counts, read = _counts(data), None
    if data.layout == "masks":
        counts, read = _masks(data, looks, masks, findings)
    splits = _splits(data, counts, read)
    findings += [*_classes(data, counts, splits), *_duplicates(data, looks)]
    report = Report(
        str(place), data.layout, data.task, image_size, splits,
        {name: {split: counts[split][index] for split in data.splits} for index, name in enumerate(data.classes)},
        in_order(findings), tuple(_histograms(data, looks, image_size)), time.perf_counter() - start,
    )  # fmt: skip
    return Examination(report, data, tuple(looks))


def _size(item: Item, look: Look) -> tuple[int, int]:
    """Width and height of what the boxes are of."""
    return item.said or (look.width, look.height)


def _pictures(data: DataSet, looks: Sequence[Look]) -> Iterator[Finding]:
    """What is wrong with the pictures, each file once."""
    seen: set[Path] = set()
    for item, look in zip(data.items, looks, strict=True):
        if item.file in seen:
            continue
        seen.add(item.file)
        about: Any = ((item.file,), item.split)
        if look.fault:
            yield Finding(look.fault, look.reason, *about)
            continue
        width, height = look.width, look.height
        if look.orientation > 1:
            yield Finding(
                "rotated", f"{item.file} has orientation {look.orientation}: upright {width}x{height}", *about
            )
        if min(width, height) < SMALL or max(width, height) > LONG * min(width, height):
            yield Finding("extreme", f"{item.file} has {width}x{height} pixels", *about)
        stored = (height, width) if look.orientation in SIDEWAYS else (width, height)
        said = item.said
        if said and not (is_near(said, (width, height)) or is_near(said, stored)):
            what = f"has {width}x{height} pixels, and {item.source.name} says {said[0]}x{said[1]}"
            yield Finding("size-differs", f"{item.file} {what}", *about)


# ---- classes


def _counts(data: DataSet) -> dict[str, Counter[int]]:
    """Objects, or pictures, of each class in each part."""
    counts: dict[str, Counter[int]] = {split: Counter() for split in data.splits}
    for item in data.items:
        counts[item.split].update(thing.label for thing in item.things)
        if item.label is not None:
            counts[item.split][item.label] += 1
    return counts


def _classes(
    data: DataSet, counts: dict[str, Counter[int]], splits: dict[str, dict[str, int]]
) -> Iterator[Finding]:  # fmt: skip
    what = "pictures" if data.task in ("classify", "semantic") else "objects"
    bare = [split for split in data.splits if not splits[split]["labelled"]]
    for split in bare:
        files = [item.source for item in data.of(split)]
        message = f"none of the {len(files)} pictures of {split} has an object; the first is expected in {files[0]}"
        yield Finding("no-labels", message, split=split)
    for index, name in enumerate(data.classes):
        train, val = (counts[split][index] if split in counts else None for split in ("train", "val"))
        if not any(counts[split][index] for split in data.splits):
            yield Finding("no-objects", f"class {name!r} has no {what} in {', '.join(data.splits)}")
        elif train == 0 and "train" not in bare:
            message = f"class {name!r} has no {what} in train and {val or 'some'} elsewhere: it cannot be learnt"
            yield Finding("only-in-val", message, split="train")
        elif val == 0 and "val" not in bare:
            yield Finding(
                "only-in-train", f"class {name!r} has {train or 'some'} {what} in train and none in val", split="val"
            )


def _masks(
    data: DataSet, looks: Sequence[Look], settings: MaskSettings, findings: list[Finding]
) -> tuple[dict[str, Counter[int]], dict[str, int]]:
    """Read all masks: the pictures that each class is in, and how many masks of each part hold more than background."""
    from dualvit.data.masks import read_mask

    def classes_in(pair: tuple[Item, Look]) -> set[int] | Finding | None:
        item, look = pair
        if look.fault or not item.source.is_file():
            return None
        size = (look.height, look.width)
        try:
            mask = read_mask(item.source, size, len(data.classes), settings.ignore, settings.reduce_zero)
        except (DualViTError, OSError) as error:
            return Finding("bad-mask", str(error), (item.file,), item.split)
        return set(np.unique(mask.numpy().astype(np.int32)).tolist())

    counts: dict[str, Counter[int]] = {split: Counter() for split in data.splits}
    read: dict[str, int] = dict.fromkeys(data.splits, 0)
    ignoring = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pairs = list(zip(data.items, looks, strict=True))
        for item, found in zip(data.items, pool.map(classes_in, pairs), strict=True):
            if isinstance(found, Finding):
                findings.append(found)
            elif found is not None:
                ignoring += settings.ignore in found
                counts[item.split].update(found - {settings.ignore})
                read[item.split] += bool(found - ({settings.ignore} if settings.reduce_zero else {settings.ignore, 0}))
    if ignoring and len(data.classes) == 2 and not any(count[1] for count in counts.values()):
        message = (
            f"class {data.classes[1]!r} is in no mask, and {ignoring} masks hold {settings.ignore}, which counts for "
            f"nothing: give masks of 0 and 1, or `--set data.ignore_index=256` and 1 in the place of {settings.ignore}"
        )
        findings.append(Finding("bad-mask", message, (data.items[0].source,)))
    return counts, read


def _splits(data: DataSet, counts: dict[str, Counter[int]], read: dict[str, int] | None) -> dict[str, dict[str, int]]:
    splits = {}
    for split in data.splits:
        items = data.of(split)
        labelled = sum(bool(item.things) or item.label is not None for item in items)
        objects = {} if data.task in ("classify", "semantic") else {"objects": counts[split].total()}
        splits[split] = {"pictures": len(items), "labelled": read[split] if read else labelled} | objects
    return splits


# ---- duplicates


def _duplicates(data: DataSet, looks: Sequence[Look]) -> Iterator[Finding]:
    """Groups of pictures that are the same or almost the same; a file that two parts name is one of them."""
    copies = {look.digest: group for group in exact_groups(looks) for look in (looks[group[0]],)}
    for group in copies.values():
        items = [data.items[index] for index in group]
        yield _group("duplicate", items, "have the same bytes")
        if not all(_agree(items[0], item) for item in items[1:]):
            names = " and ".join(str(item.file) for item in items[:3])
            labelled = " and ".join(_says(data, item) for item in items[:3])
            about = tuple(item.file for item in items)
            yield Finding("duplicate-disagrees", f"{names} are one picture, labelled {labelled}", about)
    for group in near_groups(looks):
        whole = sorted({other for index in group for other in copies.get(looks[index].digest, [index])})
        yield _group("near", [data.items[index] for index in whole], "are almost the same")


def _group(kind: str, items: Sequence[Item], what: str) -> Finding:
    parts = sorted({item.split for item in items}, key=lambda split: [item.split for item in items].index(split))
    firsts = [next(item for item in items if item.split == split) for split in parts] if len(parts) > 1 else items
    names = " and ".join(str(item.file) for item in firsts[:3])
    more = f", and {len(items) - len(firsts[:3])} more," if len(items) > len(firsts[:3]) else ""
    shown = [*firsts, *(item for item in items if item not in firsts)]
    place = "across" if len(parts) > 1 else "within"
    return Finding(f"{kind}-{place}", f"{names}{more} {what}", tuple(item.file for item in shown), "+".join(parts))


def _agree(a: Item, b: Item) -> bool:
    """Whether two labels of one picture say the same, as two people who label it would."""
    if a.label != b.label or sorted(one.label for one in a.things) != sorted(one.label for one in b.things):
        return False
    boxes = [np.array([one.box for one in item.things]).reshape(-1, 4) for item in (a, b)]
    return bool(not a.things or (labels.ious(*boxes).max(1) >= ALIKE).all())


def _says(data: DataSet, item: Item) -> str:
    return data.classes[item.label] if item.label is not None else f"with {len(item.things)} objects"


# ---- histograms


def _histograms(data: DataSet, looks: Sequence[Look], image_size: int) -> Iterator[Histogram]:
    good = [(item, look) for item, look in zip(data.items, looks, strict=True) if not look.fault]
    if not good:
        return
    sizes = Counter((look.width, look.height) for _, look in good)
    common = sizes.most_common(SIZES)
    rest = sum(sizes.values()) - sum(count for _, count in common)
    labels_ = [f"{width}x{height}" for (width, height), _ in common] + (["other"] if rest else [])
    yield Histogram("sizes of pictures", tuple(labels_), (*(count for _, count in common), *([rest] if rest else [])))
    yield _binned("width over height of pictures", [look.width / look.height for _, look in good], RATIOS)
    if data.task in ("classify", "semantic"):
        return
    sides = [
        (max(one.box[2] - one.box[0], 0) * max(one.box[3] - one.box[1], 0)) ** 0.5 * image_size / max(_size(item, look))
        for item, look in good for one in item.things
    ]  # fmt: skip
    yield _binned(f"sides of objects in pixels at image size {image_size}", sides, SIDES)
    ratios = [
        (one.box[2] - one.box[0]) / (one.box[3] - one.box[1])
        for item, _ in good for one in item.things if one.box[3] > one.box[1] and one.box[2] > one.box[0]
    ]  # fmt: skip
    yield _binned("width over height of objects", ratios, RATIOS)
    yield _binned("objects per picture", [len(item.things) for item, _ in good], NUMBERS)


def _binned(title: str, values: Sequence[float], bounds: Sequence[float]) -> Histogram:
    """Counts below the first bound, from each bound on, and from the last one on."""
    counts = Counter(np.searchsorted(bounds, values, side="right").tolist())
    names = [f"< {bounds[0]:g}", *(f"{a:g} to {b:g}" for a, b in pairwise(bounds))]
    names.append(f"{bounds[-1]:g} and more")
    if bounds == NUMBERS:
        names = ["0", *(f"{a}" if b == a + 1 else f"{a} to {b - 1}" for a, b in pairwise(NUMBERS)), names[-1]]
    return Histogram(title, tuple(names), tuple(counts[index] for index in range(len(names))))
