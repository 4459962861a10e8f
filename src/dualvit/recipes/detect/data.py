"""Pictures with boxes and masks, from COCO's layout or YOLO's."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from dualvit.data.coco import Coco, Picture, left_out, other_size, read_coco
from dualvit.data.images import open_rgb
from dualvit.data.outlines import decode, is_near
from dualvit.data.parts import held_out
from dualvit.data.yolo_layout import find_yaml, read_layout, read_yolo
from dualvit.errors import InputError
from dualvit.recipes.detect.config import DetectAugment, DetectRecipe, DetectSettings
from dualvit.recipes.loading import TaskData, UnreadableError

Sample = tuple[Tensor, dict[str, Tensor]]


class DetectData(TaskData):
    """Batches are (images, targets), lists: an image is uint8 (3, H, W), a target torchvision's dictionary.

    Attributes:
        train, val: What was read; with Mask R-CNN without the objects that have no mask.
        category_ids: What the data set calls each class.
    """

    recipe: DetectRecipe

    def __init__(self, recipe: DetectRecipe, out: Path | None) -> None:
        super().__init__(recipe, out)
        self.train, self.val = read_parts(recipe.data)
        self.classes, self.category_ids = self.train.classes, self.train.category_ids
        asked, known = (
            {(str(key), name) for key, name in zip(part.category_ids, part.classes, strict=True)}
            for part in (self.val, self.train)
        )
        if asked != known:
            raise InputError(
                f"{self.train.name} and {self.val.name} have different categories, such as {min(asked ^ known)}; "
                "give both the same ids and names"
            )
        if self.masks():
            self.train, self.val = only_masks(self.train), only_masks(self.val)
        self.notes = (*self.train.notes, *self.val.notes, *unlearnt(self.train, self.val))

    def train_data(self) -> Dataset[Sample]:
        return self._objects(self.train, "train", augmentation(self.recipe.augment))

    def val_data(self) -> Dataset[Sample]:
        return self._objects(self.val, "val", None)

    def val_files(self) -> list[Path]:
        return [picture.file for picture in self.val.pictures]

    def use_tests(self) -> None:
        described = find_yaml(self.recipe.data.root)
        if not described or not read_layout(described).content.get("test"):
            raise self.no_tests("a data.yaml with `test:`")
        part = read_yolo(described, "test")
        self.val = only_masks(part) if self.masks() else part

    def _objects(self, part: Coco, split: str, transform: v2.Transform | None) -> Dataset[Sample]:
        """The samples of a part; what was left out of it counts as files that cannot be read do."""
        self._require_objects(part, split)
        if not len(_labels(part)):
            use = "learn from" if split == "train" else "be scored by"
            first = f"; {part.unreadable[0]}" if part.unreadable else ""
            raise InputError(
                f"{part.name}: none of its {len(part.pictures)} images has an object to {use}{first}; "
                "give its annotations, or label files where data.yaml leads to"
            )
        # In validation, masks are scored against the json, not against targets.
        return Objects(part, self.masks() and part is self.train, transform, self.recipe.data.long_side)

    def _require_objects(self, part: Coco, split: str) -> None:
        """List the pictures whose labels cannot be read, and stop if no label file has an object."""
        self.skipped.add_all(part.unreadable)
        if not part.truth["annotations"] and (described := find_yaml(self.recipe.data.root)):
            layout = read_layout(described)
            layout.labels(split).read_all(layout.pairs(split)).require_some()

    def masks(self) -> bool:
        """Whether the detector learns masks."""
        return self.recipe.detector == "mask-rcnn"

    def collate(self, samples: list[Sample]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        images, targets = zip(*samples, strict=True)
        return list(images), list(targets)


def read_split(data: DetectSettings, split: str) -> Coco:
    """The training or the validation part of the data set that the settings name."""
    root = Path(data.root)
    if described := find_yaml(root):
        return read_yolo(described, split)
    if split == "train":
        return read_coco(root / data.train_json, root / data.train_images)
    return read_coco(root / data.val_json, root / data.val_images)


def read_parts(data: DetectSettings) -> tuple[Coco, Coco]:
    """Return the training and the validation part, which may be a share of the training part."""
    train = read_split(data, "train")
    if not (every := data.hold_out):
        return train, read_split(data, "val")
    first, second = (share(train, held_out(train.pictures, every, split)) for split in ("train", "val"))
    return first, replace(second, name=f"{train.name}, held out", notes=(), unreadable=())


def share(part: Coco, pictures: tuple[Picture, ...]) -> Coco:
    """Return some of a part's pictures, with the truth of these."""
    known = {picture.id for picture in pictures}
    truth = part.truth | {
        "images": [one for one in part.truth["images"] if one["id"] in known],
        "annotations": [one for one in part.truth["annotations"] if one["image_id"] in known],
    }
    return replace(part, pictures=pictures, truth=truth)


def unlearnt(train: Coco, val: Coco) -> list[str]:
    """A line for each class that has objects to validate on and none to learn from."""
    seen, asked = (np.bincount(_labels(part), minlength=len(train.classes)) for part in (train, val))
    return [
        f"class {name!r} has no objects in train and {asked[index]} in val: it cannot be learnt"
        for index, name in enumerate(train.classes)
        if not seen[index] and asked[index]
    ]


def only_masks(part: Coco) -> Coco:
    """Leave out the objects that have a box and no mask, which Mask R-CNN cannot learn.

    Raises:
        ValueError: no object has a mask.
    """
    kept: list[Picture] = []
    left: list[str] = []
    for picture in part.pictures:
        whole = [index for index, segment in enumerate(picture.segments) if segment is not None]
        left += [
            f"{part.name}: object {index + 1} of {picture.file.name} has a box and no mask; give it one, or "
            "detector=retinanet"
            for index, segment in enumerate(picture.segments)
            if segment is None
        ]
        segments = tuple(picture.segments[index] for index in whole)
        kept.append(replace(picture, boxes=picture.boxes[whole], labels=picture.labels[whole], segments=segments))
    if left and not any(picture.segments for picture in kept):
        raise InputError(
            f"{part.name}: none of its {len(left)} objects has a mask; Mask R-CNN needs masks: give such a data set, "
            "or detector=retinanet"
        )
    truth = part.truth | {"annotations": [one for one in part.truth["annotations"] if one.get("segmentation")]}
    notes = (*part.notes, *left_out(part.name, left))
    return replace(part, pictures=tuple(kept), truth=truth, notes=notes, unreadable=(*part.unreadable, *left))


def _labels(part: Coco) -> Any:
    return np.concatenate([picture.labels for picture in part.pictures])


class Objects(Dataset[Sample]):
    """Samples of torchvision's detectors: (image, target).

    A target has boxes (N, 4) in pixels, labels (N,), image_id, and masks (N, H, W) where asked for.
    """

    def __init__(self, coco: Coco, masks: bool, transform: v2.Transform | None, long_side: int = 0) -> None:
        self.coco, self.masks, self.transform, self.long_side = coco, masks, transform, long_side

    def __len__(self) -> int:
        return len(self.coco.pictures)

    def __getitem__(self, index: int) -> Sample:
        picture = self.coco.pictures[index]
        image = tv_tensors.Image(fitted(picture, self.long_side))
        size = picture.height, picture.width
        target: dict[str, Tensor] = {
            "boxes": tv_tensors.BoundingBoxes(picture.boxes, format="XYXY", canvas_size=size),
            "labels": torch.from_numpy(picture.labels),
            "image_id": torch.tensor(picture.id),
        }
        if self.masks:
            target["masks"] = tv_tensors.Mask(drawn(picture))
        if self.transform is not None:
            image, target = self.transform(image, target)
        return image.as_subclass(Tensor), {name: value.as_subclass(Tensor) for name, value in target.items()}


def fitted(picture: Picture, long_side: int = 0) -> Tensor:
    """The pixels that a picture's boxes are of, uint8 (3, H, W): upright or as stored, and of the json's size.

    Args:
        picture: What was read of it.
        long_side: As for `read_picture`.

    Raises:
        UnreadableError: it cannot be read or used, or differs from the json's size by more than a pixel.
    """
    image = read_picture(picture.file, long_side, picture.upright)
    height, width = image.shape[1:]
    said = picture.width, picture.height
    if not is_near((width, height), said):
        raise UnreadableError(other_size(picture.file, (width, height), said))
    return v2.functional.crop(image, 0, 0, picture.height, picture.width)  # which pads, too


def drawn(picture: Picture) -> Tensor:
    """The masks of a picture's objects, uint8 (N, H, W)."""
    size = picture.height, picture.width
    masks = [decode(segment, *size) for segment in picture.segments if segment is not None]
    return torch.from_numpy(np.stack(masks)) if masks else torch.zeros(0, *size, dtype=torch.uint8)


def read_picture(file: Path, long_side: int = 0, upright: bool = True) -> Tensor:
    """A picture, uint8 (3, H, W).

    Args:
        file: The picture.
        long_side: Pixels of its longer side at the most, once a detector has resized it; 0 if none does.
        upright: Turn it by its EXIF orientation.

    Raises:
        UnreadableError: it cannot be read, or nothing of its shorter side would be left.
    """
    image = open_rgb(file, upright=upright)
    if long_side and min(image.size) * long_side < max(image.size):
        raise UnreadableError(
            f"cannot use the picture {file}: it has {image.width}x{image.height} pixels, and at data.long_side="
            f"{long_side} its shorter side would have none; cut it into pieces"
        )
    return v2.functional.pil_to_tensor(image)


def augmentation(augment: DetectAugment) -> v2.Transform:
    """Mirrors and colours, boxes and masks with them."""
    jitter = augment.colour_jitter
    steps = [
        *([v2.RandomHorizontalFlip(augment.flip)] if augment.flip else []),
        *([v2.RandomVerticalFlip(augment.flip_vertical)] if augment.flip_vertical else []),
        *([v2.ColorJitter(jitter, jitter, jitter)] if jitter else []),
    ]
    return v2.Compose(steps or [v2.Identity()])
