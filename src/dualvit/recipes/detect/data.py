"""Pictures with boxes and masks, from COCO's layout or YOLO's."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from dualvit.data.coco import Coco, Picture, decode, read_coco
from dualvit.data.images import open_rgb
from dualvit.data.yolo_layout import read_yolo
from dualvit.errors import InputError
from dualvit.recipes.detect.config import DetectAugment, DetectRecipe, DetectSettings
from dualvit.recipes.loading import TaskData, UnreadableError

Sample = tuple[Tensor, dict[str, Tensor]]


class DetectData(TaskData):
    """Batches are (images, targets), lists: an image is uint8 (3, H, W), a target torchvision's dictionary.

    Attributes:
        train, val: What was read.
        category_ids: What the data set calls each class.
    """

    recipe: DetectRecipe

    def __init__(self, recipe: DetectRecipe, out: Path | None) -> None:
        super().__init__(recipe, out)
        self.train, self.val = (read_split(recipe.data, split) for split in ("train", "val"))
        self.classes, self.category_ids = self.train.classes, self.train.category_ids
        if (self.val.classes, self.val.category_ids) != (self.classes, self.category_ids):
            differing = set(zip(self.val.category_ids, self.val.classes, strict=True)) ^ set(
                zip(self.category_ids, self.classes, strict=True)
            )
            raise InputError(
                f"{self.train.name} and {self.val.name} have different categories, such as {min(differing)}; "
                "give both the same ids and names"
            )
        for note in (*self.train.notes, *self.val.notes, *unlearnt(self.train, self.val)):
            rank_zero_info(note)

    def train_data(self) -> Dataset[Sample]:
        if not len(_labels(self.train)):
            raise InputError(
                f"{self.train.name}: none of its {len(self.train.pictures)} images has an object to learn from; "
                "give its annotations, or label files where data.yaml leads to"
            )
        return Objects(self.train, self.masks(), augmentation(self.recipe.augment), self.recipe.data.long_side)

    def val_data(self) -> Dataset[Sample]:
        # Masks are scored against the json, not against targets.
        return Objects(self.val, False, None, self.recipe.data.long_side)

    def masks(self) -> bool:
        """Whether the detector learns masks."""
        return self.recipe.detector == "mask-rcnn"

    def collate(self, samples: list[Sample]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        images, targets = zip(*samples, strict=True)
        return list(images), list(targets)


def read_split(data: DetectSettings, split: str) -> Coco:
    """The training or the validation part of the data set that the settings name."""
    root = Path(data.root)
    if root.is_dir() and (root / "data.yaml").is_file():
        root = root / "data.yaml"
    if root.suffix in (".yaml", ".yml"):
        return read_yolo(root, split)
    if split == "train":
        return read_coco(root / data.train_json, root / data.train_images)
    return read_coco(root / data.val_json, root / data.val_images)


def unlearnt(train: Coco, val: Coco) -> list[str]:
    """A line for each class that has objects to validate on and none to learn from."""
    seen, asked = (np.bincount(_labels(part), minlength=len(train.classes)) for part in (train, val))
    return [
        f"class {name!r} has no objects in train and {asked[index]} in val: it cannot be learnt"
        for index, name in enumerate(train.classes)
        if not seen[index] and asked[index]
    ]


def _labels(part: Coco) -> Any:
    return np.concatenate([picture.labels for picture in part.pictures])


class Objects(Dataset[Sample]):
    """Samples of torchvision's detectors: (image, target).

    A target has boxes (N, 4) in pixels, labels (N,), image_id, and masks (N, H, W) where asked for.

    Raises:
        ValueError: masks are asked for, and an object has none.
    """

    def __init__(self, coco: Coco, masks: bool, transform: v2.Transform | None, long_side: int = 0) -> None:
        self.coco, self.masks, self.transform, self.long_side = coco, masks, transform, long_side
        bare = [picture for picture in coco.pictures if masks and None in picture.segments]
        if bare:
            raise InputError(
                f"{coco.name}: an object in {bare[0].file.name} has a box and no mask; "
                "Mask R-CNN needs masks: give such a data set, or detector=retinanet"
            )

    def __len__(self) -> int:
        return len(self.coco.pictures)

    def __getitem__(self, index: int) -> Sample:
        picture = self.coco.pictures[index]
        image = tv_tensors.Image(read_picture(picture.file, self.long_side))
        size = picture.height, picture.width
        if image.shape[1:] != size:
            height, width = image.shape[1:]
            raise UnreadableError(
                f"{picture.file} has {width}x{height} pixels, and its annotations say {size[1]}x{size[0]}"
            )
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


def drawn(picture: Picture) -> Tensor:
    """The masks of a picture's objects, uint8 (N, H, W)."""
    size = picture.height, picture.width
    masks = [decode(segment, *size) for segment in picture.segments if segment is not None]
    return torch.from_numpy(np.stack(masks)) if masks else torch.zeros(0, *size, dtype=torch.uint8)


def read_picture(file: Path, long_side: int = 0) -> Tensor:
    """A picture, uint8 (3, H, W).

    Args:
        file: The picture.
        long_side: Pixels of its longer side at the most, once a detector has resized it; 0 if none does.

    Raises:
        UnreadableError: it cannot be read, or nothing of its shorter side would be left.
    """
    image = open_rgb(file)
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
