"""A YOLO checkpoint that is explained: its input as Ultralytics' predictor makes it, and what its outputs mean."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from ultralytics.data.augment import LetterBox
from ultralytics.utils import ops

from dualvit.data.images import middle
from dualvit.explain.subject import CONFIDENCE, Answers, Classifier, Found, Subject, View, boxes_of
from dualvit.yolo.groups import unwrap
from dualvit.yolo.model import YOLO

LEAST = 1e-7  # a score's distance from 0 and 1, so that its logit is a number


class YoloDetector:
    """A detector of YOLO: boxes, boxes with masks or poses, or oriented boxes.

    Args:
        model: Opened by `dualvit.yolo.YOLO`.
        image_size: The longer side in pixels; None takes the size that it was trained at.
    """

    detects = True

    def __init__(self, model: YOLO, image_size: int | None = None) -> None:
        self.network: nn.Module = unwrap(model.model).float().eval()
        self.task = str(model.task)
        names = model.names
        self.classes = tuple(str(names[index]) for index in range(len(names)))
        self.stride = int(max(self.network.stride))  # type: ignore[arg-type]
        self.image_size = image_size or trained_size(model, 640)

    def view(self, picture: Image.Image) -> View:
        """Resize the longer side, and fill up to whole strides, as `predict` does."""
        letterbox = LetterBox((self.image_size, self.image_size), auto=True, stride=self.stride)
        pixels = letterbox(image=np.ascontiguousarray(np.asarray(picture)))
        white = letterbox(image=np.full((picture.height, picture.width, 3), 255, np.uint8))[..., 0] == 255
        rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
        content = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None].float() / 255
        return View(images, content, picture.size)

    def answers(self, outputs: Any) -> list[Answers]:
        """Read all boxes and scores: (B, 4 + classes + more, N), or of NMS-free heads (B, N, 6 + more)."""
        dense = self._dense(outputs)
        count = len(self.classes)
        if getattr(self.network.model[-1], "end2end", False):  # type: ignore[index]
            boxes, top, labels = dense[..., :4], dense[..., 4], dense[..., 5].long()
            scores = F.one_hot(labels, count).to(top) * top[..., None]
        else:
            rows = dense.transpose(1, 2)
            boxes, scores = ops.xywh2xyxy(rows[..., :4]), rows[..., 4 : 4 + count]
            if self.task == "obb":
                corners = ops.xywhr2xyxyxyxy(torch.cat([rows[..., :4], rows[..., -1:]], dim=-1))
                boxes = torch.cat([corners.amin(-2), corners.amax(-2)], dim=-1)
        logits = scores.clamp(LEAST, 1 - LEAST).logit()
        return [Answers(*row) for row in zip(boxes, scores, logits, strict=True)]

    def found(self, answers: Answers, confidence: float = CONFIDENCE) -> list[Found]:
        """Return the boxes above a confidence, after suppression."""
        return boxes_of(answers, self.classes, confidence)

    def masks(self, outputs: Any, found: Sequence[Found]) -> list[Tensor]:
        """Return the prototypes, weighted for each object: logits at a quarter of the images' sides."""
        if self.task != "segment":
            return []
        head: Any = self.network.model[-1]  # type: ignore[index]
        dense, first = self._dense(outputs)[0], 4 + len(self.classes)
        if getattr(head, "end2end", False):
            dense, first = dense.T, 6
        maps = [part for part in _tensors(outputs) if part.ndim == 4 and part.shape[1] == head.nm]
        prototypes = max(maps, key=lambda part: part.shape[2])[0]  # (nm, h, w); the levels' own maps are smaller
        weights = dense[first : first + head.nm, [one.index for one in found]]  # (nm, found)
        return list(torch.einsum("kn,khw->nhw", weights, prototypes).unbind())

    def _dense(self, outputs: Any) -> Tensor:
        """The boxes with all that belongs to each; Ultralytics packs them, in ways that differ from task to task."""
        return next(_tensors(outputs))


def _tensors(outputs: Any) -> Iterator[Tensor]:
    """All tensors of nested tuples, lists and dictionaries, in order."""
    if isinstance(outputs, Tensor):
        yield outputs
        return
    for part in outputs.values() if isinstance(outputs, dict) else outputs or ():
        yield from _tensors(part)


class YoloClassifier(Classifier):
    """A classifier of YOLO, whose outputs are probabilities."""

    def __init__(self, model: YOLO, image_size: int | None = None) -> None:
        names = model.names
        classes = [str(names[index]) for index in range(len(names))]
        moments = ((0.0,) * 3, (1.0,) * 3)
        super().__init__(unwrap(model.model).float(), classes, image_size or trained_size(model, 224), 1.0, moments)

    def answers(self, outputs: Any) -> list[Answers]:
        """Take the probabilities, of a pair the first."""
        scores = outputs if isinstance(outputs, Tensor) else outputs[0]
        logits = scores.clamp(min=LEAST).log()
        return [Answers(None, *pair) for pair in zip(scores.split(1), logits.split(1), strict=True)]

    def view(self, picture: Image.Image) -> View:
        """Cut the middle out; of a very long picture its ends first."""
        return super().view(middle(picture))


def trained_size(model: YOLO, otherwise: int) -> int:
    """Return the longer side, in pixels, of the images that a model was trained with."""
    size = model.overrides.get("imgsz", otherwise)
    return int(size if isinstance(size, int) else max(size))


def open_yolo(checkpoint: Path, image_size: int | None = None) -> Subject:
    """Open a checkpoint of YOLO, ours or a stock one, of any task with boxes or classes.

    Raises:
        ValueError: it cannot be used.
    """
    return subject_of(YOLO(checkpoint), image_size)


def subject_of(model: YOLO, image_size: int | None = None) -> Subject:
    """Return what is explained of an open YOLO."""
    return YoloClassifier(model, image_size) if model.task == "classify" else YoloDetector(model, image_size)
