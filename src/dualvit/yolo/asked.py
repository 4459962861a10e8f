"""What a trained YOLO says of a few pictures that it is validated on, beside what is there."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from dualvit.data.coco import Picture, decode, encode
from dualvit.data.images import open_rgb
from dualvit.errors import MissingExtraError
from dualvit.report.drawing import classified
from dualvit.report.gallery import Asked, few
from dualvit.report.predictions import Answer, Found, Shown
from dualvit.report.training import short
from dualvit.yolo.model import YOLO

LEAST = 0.01  # confidence; the page counts objects from a higher one, which it finds
KEPT = 5  # classes of a classifier's answer
TASKS = {"detect": "detect", "pose": "detect", "segment": "segment", "obb": "segment", "classify": "classify"}
Array = np.ndarray[Any, Any]


def asked(trainer: Any, weights: Path) -> Asked:
    """Ask about a few of a trainer's validation pictures.

    Boxes stand for poses, and outlines for oriented boxes.

    Args:
        trainer: One that has trained.
        weights: The checkpoint that is asked.

    Raises:
        ModuleNotFoundError: outlines are to be compared, and faster-coco-eval is missing.
    """
    if TASKS[trainer.args.task] == "segment" and find_spec("faster_coco_eval") is None:
        raise MissingExtraError("outlines need faster-coco-eval; install dualvit[recipes]")
    dataset, names = trainer.test_loader.dataset, trainer.data["names"]
    model = YOLO(weights)
    settings: dict[str, Any] = {
        "imgsz": trainer.args.imgsz, "device": trainer.device, "conf": LEAST, "iou": trainer.args.iou,
        "verbose": False, "save": False,
    }  # fmt: skip
    if trainer.args.task == "classify":
        return _classes(model, settings, dataset.samples)
    classes = [str(names[index]) for index in range(len(names))]
    return _objects(model, settings, dataset.labels, classes, TASKS[trainer.args.task])


def _classes(model: YOLO, settings: Mapping[str, Any], samples: Sequence[Any]) -> Asked:
    names = [str(model.names[index]) for index in range(len(model.names))]
    files = [Path(sample[0]) for sample in samples]
    told = Asked("classify", names, len(files))
    told.panel = lambda number, answer: classified(open_rgb(files[number]), answer)
    for number in few(len(files)):
        shares = model.predict(str(files[number]), **settings)[0].probs.data.double().cpu().clamp(0, 1)
        best = {names[int(index)]: float(shares[index]) for index in shares.topk(min(KEPT, len(names))).indices}
        right = int(samples[number][1])
        told.images.append(Shown(number, short(files[number])))
        told.answers.append(Answer(number, names[right], float(shares[right]), best))
    return told


def _objects(
    model: YOLO, settings: Mapping[str, Any], labels: Sequence[Mapping[str, Any]], classes: Sequence[str], task: str
) -> Asked:
    told = Asked(task, classes, len(labels))
    for number in few(len(labels)):
        label, file = labels[number], Path(labels[number]["im_file"])
        (result,) = model.predict(str(file), **settings)
        height, width = map(int, result.orig_shape)
        told.images.append(Shown(number, short(file), width, height))
        told.places[number] = truth(number, label, (width, height), task == "segment")
        told.found += found(number, result, (width, height), task == "segment")
    return told


def truth(number: int, label: Mapping[str, Any], size: tuple[int, int], masks: bool) -> Picture:
    """Return what Ultralytics has read of a picture: boxes, and outlines if there are any.

    Args:
        number: Of the picture.
        label: An element of a data set's `labels`: shares of the picture's sides.
        size: The picture's width and height in pixels.
        masks: Whether outlines count.
    """
    scale = np.array(size, np.float64)
    boxes = np.asarray(label["bboxes"], np.float64).reshape(-1, 4) * np.tile(scale, 2)  # centre, width and height
    corners = np.hstack([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2])
    outlines: list[Any] = [None] * len(boxes)
    if masks and len(label["segments"]) == len(boxes):
        outlines = [[(np.asarray(points) * scale).ravel().tolist()] for points in label["segments"]]
    classes = np.asarray(label["cls"], np.float64).reshape(-1).astype(np.int64)
    file = Path(label["im_file"])
    return Picture(number, file, *size, corners.astype(np.float32), classes, tuple(outlines))


def found(number: int, result: Any, size: tuple[int, int], masks: bool) -> list[Found]:
    """Return what a result of Ultralytics says, in COCO's form; outlines become masks.

    Args:
        number: Of the picture.
        result: A detector's or a segmenter's, or one of poses or oriented boxes.
        size: The picture's width and height in pixels.
        masks: Whether outlines count.
    """
    said = result.boxes if result.boxes is not None else result.obb
    boxes: Array = said.xyxy.double().cpu().numpy().reshape(-1, 4)
    labels, scores = said.cls.int().tolist(), said.conf.double().clamp(0, 1).tolist()
    outlines: Sequence[Any] = [None] * len(boxes)
    if masks and result.obb is not None:
        outlines = list(said.xyxyxyxy.double().cpu().numpy())
    elif masks and result.masks is not None:
        outlines = result.masks.xy
    return [
        Found(
            number, labels[index], [float(x) for x in (*box[:2], *(box[2:] - box[:2]))], scores[index],
            _runs(outlines[index], size) if masks else None,
        )
        for index, box in enumerate(boxes)
    ]  # fmt: skip


def _runs(outline: Array | None, size: tuple[int, int]) -> dict[str, Any] | None:
    """The run lengths of what an outline encloses; None if it has fewer than three points."""
    if outline is None or len(outline) < 3:
        return None
    width, height = size
    inside = decode([np.asarray(outline, np.float64).ravel().tolist()], height, width)
    return encode(inside[None])[0]
