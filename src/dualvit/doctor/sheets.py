"""Pictures for the page: labels as the network sees them after augmentation, and what each finding is about."""

import base64
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from dualvit.data.coco import Coco, Picture
from dualvit.data.images import UnreadableError, open_rgb
from dualvit.doctor.findings import Finding, Report
from dualvit.doctor.labels import LEAST
from dualvit.doctor.run import Examination
from dualvit.doctor.sets import DataSet, Item
from dualvit.doctor.settings import recipe_of
from dualvit.errors import DualViTError
from dualvit.pictures.boxes import draw, draw_outline
from dualvit.pictures.captions import captioned, contact_sheet
from dualvit.pictures.masks import class_colours, overlay
from dualvit.pictures.palette import colours
from dualvit.seeds import seed_all

TILE, EXAMPLE = 360, 240  # pixels of a picture on a sheet, and of one beside a finding
EXAMPLES = 6  # of each kind of finding
DOUBTS = 24  # labels that are shown
MARGIN = 1.5  # how much of an object's side is shown around it
GREY = (127, 127, 127)
LOADABLE = (DualViTError, OSError, ValueError)


def embedded(image: Image.Image) -> str:
    """Return a picture as text that a page takes for the address of one."""
    buffer = BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


# ---- sheets


def sheet(examination: Examination, recipe: str | None, changes: Sequence[str], count: int) -> str | None:
    """Return training pictures with their labels, as a recipe's transforms hand them to the network.

    Args:
        examination: Of the data set.
        recipe: Its name or file; one for small sets is taken if it is left out.
        changes: Of its settings.
        count: Pictures.

    Returns:
        The sheet; None if no picture can be shown.
    """
    from dualvit.recipes.config import load_recipe

    data = examination.data
    items = examination.readable("train") or examination.readable()
    items = items[:: max(1, len(items) // max(count, 1))][:count]
    settings = load_recipe(recipe or recipe_of(data.task), (f"data.root={data.place}", *changes))
    makers: dict[str, Callable[..., Image.Image]] = {"classify": _classified, "semantic": _masked}
    make, tiles = makers.get(data.task, _boxed), []
    for number, item in enumerate(items):
        seed_all(f"doctor {number}")
        try:
            tile = make(data, item, settings, examination.report.image_size)
        except LOADABLE:  # what is wrong with it is a finding already
            continue
        tiles.append(ImageOps.pad(tile, (TILE, TILE), color=GREY))
    return embedded(contact_sheet(tiles, 3)) if tiles else None


def _boxed(data: DataSet, item: Item, recipe: Any, image_size: int) -> Image.Image:
    from dualvit.recipes.detect.data import Objects, augmentation

    picture = _picture(item)
    masks = data.task == "segment" and bool(picture.segments) and None not in picture.segments
    part = Coco(str(data.place), data.classes, (), (picture,), {}, ())
    image, target = Objects(part, masks, augmentation(recipe.augment))[0]
    height, width = image.shape[1:]
    factor = image_size / max(height, width)
    seen = F.resize(image, [max(round(height * factor), 1), max(round(width * factor), 1)], antialias=True)
    factor = TILE / max(height, width)
    size = [max(round(height * factor), 1), max(round(width * factor), 1)]
    objects = {"labels": target["labels"], "boxes": target["boxes"] * factor}
    if masks:
        objects["masks"] = F.resize(target["masks"], size, antialias=False)[:, None].float()
    return draw(F.resize(seen, size, antialias=True), objects, data.classes, TILE)


def _picture(item: Item) -> Picture:
    """A picture as recipes take it: boxes inside, and those left out that hold nothing."""
    with_size = open_rgb(item.file)
    size = torch.tensor([*with_size.size, *with_size.size])
    boxes = torch.tensor([thing.box for thing in item.things]).reshape(-1, 4).clamp(min=0).minimum(size)
    kept = (boxes[:, 2:] - boxes[:, :2] > LEAST).all(1)
    things = [thing for thing, keep in zip(item.things, kept.tolist(), strict=True) if keep]
    segments = tuple(
        thing.segmentation or (None if thing.outline is None else [thing.outline.reshape(-1).tolist()])
        for thing in things
    )
    labels = torch.tensor([thing.label for thing in things], dtype=torch.int64)
    return Picture(0, item.file, *with_size.size, boxes[kept].float().numpy(), labels.numpy(), segments)


def _classified(data: DataSet, item: Item, recipe: Any, image_size: int) -> Image.Image:
    from dualvit.backbones.maps import moments
    from dualvit.recipes.classify.transforms import TrainTransform

    mean, std = moments(recipe.network.name)
    image = TrainTransform(recipe.augment, recipe.data.image_size, mean, std).image(open_rgb(item.file))
    name = data.classes[item.label or 0]
    return captioned(
        F.to_pil_image(_shown(image, mean, std)), [(name, 1.0)], [colours(len(data.classes))[item.label or 0]]
    )


def _masked(data: DataSet, item: Item, recipe: Any, image_size: int) -> Image.Image:
    from dualvit.data.masks import read_mask, read_rgb
    from dualvit.recipes.semantic.data import TrainingTransform

    settings, picture = recipe.data, read_rgb(item.file)
    size = (picture.shape[1], picture.shape[2])
    read = read_mask(item.source, size, len(data.classes), settings.ignore_index, settings.reduce_zero_label)
    transform = TrainingTransform(settings, recipe.augment)
    image, mask = transform(tv_tensors.Image(picture), tv_tensors.Mask(read))
    mask = torch.where(mask == recipe.data.ignore_index, len(data.classes), mask)
    names = (*data.classes, "counts for nothing")
    shown = overlay(_shown(image, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD), mask, names)
    shares = [(names[index], float((mask == index).float().mean())) for index in mask.unique().tolist()][:4]
    swatches = [class_colours(names)[names.index(name)] for name, _ in shares]
    return captioned(F.to_pil_image(shown), shares, swatches)


def _shown(image: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """A normalised picture (3, H, W) as uint8."""
    plain = image * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None]
    return (255 * plain).clamp(0, 255).round().to(torch.uint8)


# ---- examples


def examples(examination: Examination) -> dict[str, list[str]]:
    """Return pictures of the first findings of each kind."""
    data, report = examination.data, examination.report
    by_file = {item.file: item for item in data.items}
    shown = {}
    for kind, found in report.groups().items():
        tiles = [tile for one in found[: 2 * EXAMPLES] if (tile := _example(one, by_file, data)) is not None]
        if tiles:
            shown[kind] = [embedded(tile) for tile in tiles[:EXAMPLES]]
    return shown


def _example(finding: Finding, by_file: dict[Path, Item], data: DataSet) -> Image.Image | None:
    """The picture of a finding: its objects close by, or several pictures side by side; None if there is none."""
    pictures = [picture for file in finding.files[:2] if (picture := _opened(file)) is not None]
    if not pictures:
        return None
    if len(finding.files) > 1:
        return contact_sheet([ImageOps.pad(one, (EXAMPLE, EXAMPLE), color=GREY) for one in pictures], 2)
    item = by_file.get(finding.files[0])
    if item is None or not finding.boxes:
        pictures[0].thumbnail((EXAMPLE, EXAMPLE))
        return pictures[0]
    things = [thing for thing in item.things if thing.box in finding.boxes]
    labels = [thing.label for thing in things]
    outlines = [thing.outline for thing in things] if finding.kind == "crossing" else []
    return _close_by(pictures[0], [thing.box for thing in things], labels, data.classes, outlines)


def _opened(file: Path) -> Image.Image | None:
    try:
        return open_rgb(file)
    except UnreadableError:
        return None


def _close_by(
    image: Image.Image, boxes: Sequence[Sequence[float]], labels: Sequence[int], classes: Sequence[str],
    outlines: Sequence[Any] = (),
) -> Image.Image | None:  # fmt: skip
    """Objects with what is around them, in a square of EXAMPLE pixels."""
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    if not len(corners) or not bool(torch.isfinite(corners).all()):
        return None
    reach = torch.tensor([*image.size, *image.size]).float()
    corners = corners.maximum(-0.25 * reach).minimum(1.25 * reach)
    left, top = corners[:, :2].min(0).values.tolist()
    right, bottom = corners[:, 2:].max(0).values.tolist()
    side = min(max(2 * MARGIN * max(right - left, bottom - top), 48), 1.5 * max(image.size))
    x, y = round((left + right - side) / 2), round((top + bottom - side) / 2)
    factor = EXAMPLE / side
    part = image.crop((x, y, x + round(side), y + round(side))).resize((EXAMPLE, EXAMPLE), Image.Resampling.BICUBIC)
    if outlines:
        for outline in outlines:
            points = [((px - x) * factor, (py - y) * factor) for px, py in outline.tolist()]
            draw_outline(part, points, colours(1)[0])
        return part
    placed = ((corners - torch.tensor([x, y, x, y])) * factor).clamp(0, EXAMPLE - 1)
    return draw(F.pil_to_tensor(part), {"boxes": placed, "labels": torch.tensor(labels)}, classes, EXAMPLE)


def doubted(report: Report) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a picture of each of the first doubts, with the doubt: the label, and what the model sees."""
    lists = (report.doubts.get("labels", [])[:DOUBTS], report.doubts.get("overlooked", [])[: DOUBTS // 2])
    for doubt in (one for many in lists for one in many):
        image = _opened(Path(doubt["file"]))
        if image is None:
            continue
        pairs = [(doubt["box"], f"label: {doubt['label']}"), (doubt["seen_box"], f"model: {doubt['sees']}")]
        drawn = [(box, name) for box, name in pairs if box is not None]
        if not drawn:
            yield embedded(ImageOps.pad(image, (EXAMPLE, EXAMPLE), color=GREY)), doubt
            continue
        names = [name for _, name in drawn]
        tile = _close_by(image, [box for box, _ in drawn], list(range(len(drawn))), names)
        if tile is not None:
            yield embedded(tile), doubt
