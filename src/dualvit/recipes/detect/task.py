"""Detection in training: torchvision's losses, COCO's AP, and predictions as json and pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dualvit.pictures.boxes import draw
from dualvit.recipes.detect.config import DetectRecipe
from dualvit.recipes.detect.data import DetectData, read_picture
from dualvit.recipes.detect.evaluate import as_coco, average_precision, gathered
from dualvit.recipes.detect.network import Detector
from dualvit.recipes.task import Task

Batch = tuple[list[Tensor], list[dict[str, Tensor]]]


class Detect(Task):
    """RetinaNet or Mask R-CNN; its AP is that of masks where it has some, of boxes otherwise.

    Attributes:
        category_ids: What predictions call each class; the data set's own, numbers or texts, kept with the weights.
    """

    metric = "AP"
    recipe: DetectRecipe
    network: Detector

    def __init__(self, recipe: DetectRecipe, classes: tuple[str, ...]) -> None:
        super().__init__(recipe, classes, Detector(recipe, len(classes)))
        self.category_ids: list[int | str] = list(range(1, len(classes) + 1))
        self.predictions: list[dict[str, Any]] = []
        self.seen: list[int] = []

    def setup(self, stage: str) -> None:
        data: DetectData = self.trainer.datamodule  # type: ignore[attr-defined]
        self.category_ids = list(data.category_ids)

    def get_extra_state(self) -> dict[str, Any]:
        """Beside the weights, since a prediction needs both."""
        return {"category_ids": self.category_ids}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """The counterpart of `get_extra_state`."""
        self.category_ids = list(state["category_ids"])

    def backbone(self) -> nn.Module:
        return self.network.feature_maps.body

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        images, targets = batch
        parts: Mapping[str, Tensor] = self.network([_as_float(image) for image in images], targets)
        return parts

    def validation_step(self, batch: Batch | None, batch_idx: int) -> dict[str, Any] | None:
        if batch is None:  # none of its files could be read
            return None
        images, targets = batch
        said = []
        for prediction, target in zip(self.network([_as_float(image) for image in images]), targets, strict=True):
            image_id = int(target["image_id"])
            self.seen.append(image_id)
            said.append(as_coco(prediction, image_id, range(len(self.classes))))  # as the truth's are numbered
            self.predictions += said[-1]
        return {"objects": said}

    def said(self, outputs: Any) -> list[dict[str, Any]]:
        return [{"objects": [_rounded(row) for row in rows]} for rows in outputs["objects"]]

    def scores(self) -> Mapping[str, float]:
        predictions, seen = gathered(self.predictions), gathered(self.seen)
        self.predictions, self.seen = [], []
        truth = self.trainer.datamodule.val.truth  # type: ignore[attr-defined]
        boxes = average_precision(truth, predictions, seen)
        if self.recipe.detector == "retinanet":
            return boxes
        return average_precision(truth, predictions, seen, "segm") | {f"box_{k}": v for k, v in boxes.items()}

    def no_predictions(self) -> dict[str, list[Any]]:
        categories = [{"id": i, "name": n} for i, n in zip(self.category_ids, self.classes, strict=True)]
        return {"images": [], "annotations": [], "categories": categories}

    def predict_one(self, file: Path, out: Path, name: str, content: dict[str, list[Any]]) -> str:
        """Find the objects in a picture; the JSON is in COCO's form."""
        image = read_picture(file, self.recipe.data.long_side)
        prediction = self.network([_as_float(image.to(self.device))])[0]
        number, first = len(content["images"]) + 1, len(content["annotations"]) + 1
        rows = as_coco(prediction, number, self.category_ids)
        content["annotations"] += [{"id": first + index, **row} for index, row in enumerate(rows)]
        height, width = image.shape[1:]
        picture = out / f"{name}.png"
        row = {"id": number, "file_name": str(file), "width": width, "height": height, "picture": picture.name}
        content["images"].append(row)
        kept = prediction["scores"] >= self.recipe.head.shown
        shown = {name: value[kept].cpu() for name, value in prediction.items()}
        draw(image, shown, self.classes).save(picture)
        return f"{_summary(shown['labels'].tolist(), self.classes)}; {picture}"


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"bbox": [round(value, 3) for value in row["bbox"]], "score": round(row["score"], 5)}


def _as_float(image: Tensor) -> Tensor:
    return image.float() / 255


def _summary(labels: list[int], classes: Sequence[str]) -> str:
    counts = [f"{labels.count(index)} {classes[index]}" for index in sorted(set(labels))]
    return ", ".join(counts) or "nothing found"
