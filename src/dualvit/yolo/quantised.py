"""A YOLO checkpoint that `dualvit quantise` exports, and files of it that Ultralytics' own validator scores."""

import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from ultralytics.data.augment import LetterBox, classify_transforms
from ultralytics.models import yolo

from dualvit.data.folders import read_folders
from dualvit.data.images import open_rgb
from dualvit.errors import InputError
from dualvit.yolo.checks import read_data, require_data, require_labels
from dualvit.yolo.data import pairs_of
from dualvit.yolo.explained import trained_size
from dualvit.yolo.export import describe, export_onnx
from dualvit.yolo.model import YOLO
from dualvit.yolo.predictions import VALIDATORS

Array = np.ndarray[Any, Any]
Run = Callable[[Array], list[Array]]
SURE = 0.25  # score from which a box counts that has no match
SEEN = 0.05  # score from which a place of the outputs counts
MASKS = 50  # places whose masks are compared, the surest
MEASURES = {
    "detect": {"mAP50-95": "metrics/mAP50-95(B)"},
    "segment": {"mAP50-95 of masks": "metrics/mAP50-95(M)", "mAP50-95 of boxes": "metrics/mAP50-95(B)"},
    "classify": {"top-1": "metrics/accuracy_top1"},
}


class ClassificationValidator(yolo.classify.ClassificationValidator):
    """Ultralytics' classification validator, which keeps the best class of each picture as a box around all of it."""

    results: list[tuple[str, dict[str, Any]]]

    def init_metrics(self, model: Any) -> None:
        """Begin anew."""
        super().init_metrics(model)
        self.results = []

    def update_metrics(self, preds: Tensor, batch: dict[str, Any]) -> None:
        """Add a batch's results; pictures come in the order of the data set."""
        super().update_metrics(preds, batch)
        files = self.dataloader.dataset.samples
        for scores in preds:
            best = int(scores.argmax())
            row = {"category_id": best, "bbox": [0, 0, 1, 1], "score": float(scores[best])}
            self.results.append((str(files[len(self.results)][0]), row))


SCORERS = {**VALIDATORS, "classify": ClassificationValidator}


class YoloSubject:
    """A checkpoint of YOLO with a data set.

    Args:
        checkpoint: .pt or .safetensors.
        data: A data.yaml; of a classifier, a folder with train and val.
        image_size: Both sides in pixels; None takes the size that it was trained at.

    Raises:
        FileNotFoundError: one of them is not there.
        ValueError: the model is for another task or for other classes, or the labels cannot be read.
    """

    def __init__(self, checkpoint: Path, data: Path, image_size: int | None) -> None:
        logging.getLogger("ultralytics").setLevel(logging.WARNING)
        self.model, self.data = YOLO(checkpoint), data
        self.task, self.name = str(self.model.task), checkpoint.stem
        if self.task not in MEASURES:
            raise InputError(f"{checkpoint} is a model for {self.task}; give one of task {', '.join(MEASURES)}")
        classify = self.task == "classify"
        self.counted, self.sure = ("pictures", 0.0) if classify else ("boxes", SURE)
        own = list(self.model.names.values())
        theirs = self._read_folders() if classify else self._read_labels()
        if own != theirs:
            raise InputError(
                f"the model knows {', '.join(own[:5])} ({len(own)}), and {data} has {', '.join(theirs[:5])} "
                f"({len(theirs)}); give the data set that it was trained for"
            )
        self.classes = len(own)
        self.image_size = image_size or trained_size(self.model, 224 if classify else 640)
        if self.image_size % 32:
            raise InputError(f"image size {self.image_size} is no multiple of 32; give one such as 640")

    def _read_folders(self) -> list[str]:
        """Read a data set of folders by class; Ultralytics' own check would divide one without train anew."""
        folders = read_folders(self.data)
        self.files = {split: sorted(file for file, _ in getattr(folders, split)) for split in ("train", "val")}
        return list(folders.classes)

    def _read_labels(self) -> list[str]:
        """Read a data set of labels, each of the validation split."""
        require_data(self.data, self.task)
        content = read_data(self.data)
        require_labels(self.data, content, "val", self.task, every=True)
        self.files = {
            split: sorted(Path(picture) for picture, _ in pairs_of(self.data, content, split))
            for split in ("train", "val")
        }
        return list(content["names"].values())

    def describe(self) -> dict[str, Any]:
        """Return what the file says of itself, as `dualvit.deploy.metadata.Metadata` takes it."""
        return describe(self.model, self.image_size)

    def export(self, file: Path) -> dict[str, str]:
        """Write the network as ONNX for one picture; return the metadata that Ultralytics' formats have."""
        import onnx

        size = self.image_size
        export_onnx(self.model, self.model.model, torch.zeros(1, 3, size, size), file)
        held = onnx.load(file, load_external_data=False)
        return {one.key: one.value for one in held.metadata_props}

    def training_files(self) -> list[Path]:
        """Return the pictures of the training split, in the order of their names."""
        return self.files["train"]

    def example(self) -> Array:
        """Return a picture of the validation split, as `picture` does."""
        return self.picture(self.files["val"][0])

    def picture(self, file: Path) -> Array:
        """Return a picture as the validator has it, (1, 3, H, H), from 0 to 1: in a square with grey margins.

        Of a classifier it is the centre.
        """
        image, size = open_rgb(file), self.image_size
        if self.task == "classify":
            return np.asarray(classify_transforms(size)(image)[None].numpy(), dtype=np.float32)
        pixels = np.asarray(image)
        share = size / max(pixels.shape[:2])
        height, width = (min(size, int(np.ceil(side * share))) for side in pixels.shape[:2])
        scaled = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
        square = LetterBox((size, size), auto=False, scaleup=False)(image=scaled)
        return np.ascontiguousarray(square.transpose(2, 0, 1)[None], dtype=np.float32) / 255  # (1, 3, H, H)

    def score(self, run: Run) -> tuple[dict[str, float], dict[str, list[dict[str, Any]]]]:
        """Return accuracies of a file on the validation split by their names, and its COCO results by picture."""
        made: list[Any] = []

        def make(args: dict[str, Any], _callbacks: Any) -> Any:
            made.append(SCORERS[self.task](args=args, _callbacks=_callbacks))
            return made[0]

        network, self.model.model = self.model.model, FileNetwork(run, self.model.model)
        try:
            with tempfile.TemporaryDirectory() as folder:
                self.model.val(
                    validator=make, data=str(self.data), imgsz=self.image_size, batch=1, rect=False, device="cpu",
                    workers=0, save_json=True, plots=False, verbose=False, project=folder, name="val", exist_ok=True,
                )  # fmt: skip
        finally:
            self.model.model = network
        found: dict[str, list[dict[str, Any]]] = {}
        for file, row in made[0].results:
            found.setdefault(file, []).append(row)
        told = made[0].metrics.results_dict
        return {name: float(told[key]) for name, key in MEASURES[self.task].items()}, found

    def error(self, before: Sequence[Array], after: Sequence[Array]) -> float:
        """Return how far outputs for a picture are from those of another file.

        It is the mean error of scores plus that of boxes and of masks (1 - IoU), over places where one of both sees
        something; of a classifier, the largest difference of a probability.

        Args:
            before: Outputs of a picture; the first is (1, 4 + classes + ..., places), boxes as centre and size, or
                (1, classes).
            after: Likewise.
        """
        if self.task == "classify":
            return float(np.abs(before[0] - after[0]).max())
        boxes, scores = zip(*(self._split(outputs[0][0]) for outputs in (before, after)), strict=True)
        most = np.maximum(scores[0].max(0), scores[1].max(0))
        seen = most >= SEEN
        if not seen.any():
            return 0.0
        shift = np.abs(scores[0] - scores[1]).max(0)[seen]
        far = float((shift + 1 - overlap(boxes[0][:, seen], boxes[1][:, seen])).mean())
        if self.task != "segment":
            return far
        surest = np.argsort(-most)[: min(MASKS, seen.sum())]
        first, second = (self._masks(outputs, surest) for outputs in (before, after))
        both, either = ((first & second).sum((1, 2)), (first | second).sum((1, 2)))
        return far + float((1 - (both + (either == 0)) / np.maximum(either, 1)).mean())

    def _split(self, output: Array) -> tuple[Array, Array]:
        return output[:4], output[4 : 4 + self.classes]

    def _masks(self, outputs: Sequence[Array], places: Array) -> Array:
        """The masks of places, within their boxes, of the size of the prototypes: (places, H, W)."""
        rows, prototypes = outputs[0][0][:, places], outputs[1][0]
        masks = np.einsum("ck,chw->khw", rows[4 + self.classes :], prototypes) > 0
        scale = prototypes.shape[-1] / self.image_size
        for axis, side in ((0, masks.shape[2]), (1, masks.shape[1])):
            pixel, centre, half = np.arange(side), rows[axis] * scale, rows[axis + 2] * scale / 2
            inside = np.abs(pixel + 0.5 - centre[:, None]) <= half[:, None]  # (places, side)
            masks &= inside[:, None, :] if axis == 0 else inside[:, :, None]
        return np.asarray(masks)


def overlap(first: Array, second: Array) -> Array:
    """Return the IoU of boxes, place by place: (4, N) and (4, N), centres and sizes, to (N,).

    Example:
        >>> float(overlap(np.array([[1.0], [1], [2], [2]]), np.array([[2.0], [1], [2], [2]])).round(2)[0])
        0.33
    """
    low = np.maximum(first[:2] - first[2:] / 2, second[:2] - second[2:] / 2)
    high = np.minimum(first[:2] + first[2:] / 2, second[:2] + second[2:] / 2)
    both = np.clip(high - low, 0, None).prod(0)
    return both / np.maximum(first[2:].prod(0) + second[2:].prod(0) - both, 1e-9)


class FileNetwork(nn.Module):
    """What Ultralytics' validator takes for a network, and which is a file in a runtime.

    Args:
        run: A picture to outputs.
        network: That the file was made of.
    """

    def __init__(self, run: Run, network: Any) -> None:
        super().__init__()
        self.run, self.stride, self.names, self.yaml = run, network.stride, network.names, network.yaml
        self.task, self.end2end = getattr(network, "task", None), False

    def forward(self, image: Tensor, **_: Any) -> Any:
        outputs = [torch.from_numpy(value) for value in self.run(image.numpy())]
        return outputs[0] if len(outputs) == 1 else outputs

    def __deepcopy__(self, memo: dict[int, Any]) -> "FileNetwork":
        return self  # a runtime has no copies, and passes do not change it

    def fuse(self, **_: Any) -> "FileNetwork":
        """Return itself: the file is fused."""
        return self
