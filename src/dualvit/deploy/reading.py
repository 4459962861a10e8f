"""What the outputs of a network mean: classes, boxes and masks in pixels of the picture, as JSON holds them.

| task | answer to a picture |
|---|---|
| classify | `{"classes": [{"label": 2, "name": "cat", "score": 0.91}, ...]}`, the five surest |
| detect | `{"objects": [{"label": 0, "name": "raccoon", "score": 0.83, "box": [x1, y1, x2, y2]}, ...]}` |
| segment | the same, each with `"mask": {"size": [height, width], "counts": [...]}`, COCO's run lengths |
| semantic | `{"regions": [{"label": 0, "name": "sky", "share": 0.4, "mask": {...}}, ...]}`, the largest first |
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import batched_nms, box_convert

from dualvit.deploy.metadata import Metadata
from dualvit.deploy.seeing import Seen
from dualvit.errors import StateError

TOP = 5  # classes of a picture that an answer holds
OVERLAP = 0.7  # IoU above which the less sure of two boxes of a class goes; Ultralytics' own
CANDIDATES, OBJECTS = 30_000, 300  # the most boxes before and after that; Ultralytics' own
Answer = dict[str, Any]
Read = Callable[[Metadata, Sequence[Tensor], Seen, float], Answer]


def read(about: Metadata, outputs: Sequence[Tensor], seen: Seen, confidence: float) -> Answer:
    """Return what a network says of one picture.

    Args:
        about: Of the network.
        outputs: For this picture, without the axis of the batch.
        seen: The picture as the network saw it.
        confidence: Objects with a lower score are left out.

    Raises:
        RuntimeError: an output that decides is not finite.
    """
    return _reader(about)(about, outputs, seen, confidence)


def require_finite(values: Tensor, about: Metadata) -> Tensor:
    """Return the values.

    Raises:
        RuntimeError: one of them is NaN or infinite.
    """
    if not bool(torch.isfinite(values).all()):
        raise StateError(f"{about.name} answers with NaN or infinite values; its weights or its precision are broken")
    return values


def name_of(about: Metadata, label: int) -> str:
    """Return the name of a class, or its number if nobody knows its name."""
    return about.classes[label] if label < len(about.classes) else str(label)


def _classes(about: Metadata, outputs: Sequence[Tensor], seen: Seen, confidence: float) -> Answer:
    scores = require_finite(outputs[0].float(), about).softmax(0)
    return top_classes(about, scores)


def _probabilities(about: Metadata, outputs: Sequence[Tensor], seen: Seen, confidence: float) -> Answer:
    """Of a classifier of YOLO, whose last layer has a softmax."""
    return top_classes(about, require_finite(outputs[0].float(), about))


def top_classes(about: Metadata, scores: Tensor) -> Answer:
    """Return the surest classes of scores (classes,)."""
    best = scores.topk(min(TOP, len(scores)))
    rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return {"classes": [{"label": label, "name": name_of(about, label), "score": _round(s)} for label, s in rows]}


def _regions(about: Metadata, outputs: Sequence[Tensor], seen: Seen, confidence: float) -> Answer:
    from dualvit.deploy.opening import best_classes

    width, height = seen.size
    places = best_classes(require_finite(outputs[0].float(), about), (height, width)).numpy()
    counts = np.bincount(places.ravel())
    regions = [
        {
            "label": int(label),
            "name": name_of(about, int(label)),
            "share": _round(counts[label] / places.size),
            "mask": run_lengths(places == label),
        }
        for label in np.argsort(-counts, kind="stable")
        if counts[label]
    ]
    return {"size": [height, width], "regions": regions}


def _dense(about: Metadata, outputs: Sequence[Tensor], seen: Seen, confidence: float) -> Answer:
    """YOLO's boxes at all places, (4 + classes + coefficients, N): those that are sure, without the doubles."""
    rows = outputs[0].float().T  # (N, 4 + classes + coefficients)
    count = len(about.classes)
    scores, labels = require_finite(rows[:, 4 : 4 + count], about).max(1)
    keep = (scores >= confidence).nonzero()[:, 0]
    keep = keep[scores[keep].argsort(descending=True, stable=True)][:CANDIDATES]
    boxes = box_convert(require_finite(rows[keep, :4], about), "cxcywh", "xyxy")
    kept = batched_nms(boxes, scores[keep], labels[keep], OVERLAP)[:OBJECTS]
    chosen = keep[kept]
    return _found(about, seen, boxes[kept], scores[chosen], labels[chosen], rows[chosen, 4 + count :], outputs[1:])


def _free(about: Metadata, outputs: Sequence[Tensor], seen: Seen, confidence: float) -> Answer:
    """The boxes of a head without suppression, (300, 6 + coefficients)."""
    rows = require_finite(outputs[0].float(), about)
    rows = rows[rows[:, 4] >= confidence]
    rows = rows[rows[:, 4].argsort(descending=True, stable=True)][:OBJECTS]
    return _found(about, seen, rows[:, :4], rows[:, 4], rows[:, 5].long(), rows[:, 6:], outputs[1:])


def _found(
    about: Metadata, seen: Seen, boxes: Tensor, scores: Tensor, labels: Tensor, coefficients: Tensor,
    others: Sequence[Tensor],
) -> Answer:  # fmt: skip
    """Objects of YOLO; masks are sums of prototypes, each cut off at its box."""
    boxes = seen.boxes(boxes)
    objects = _objects(about, boxes, scores, labels)
    if about.task != "segment" or not objects:
        return {"objects": objects}
    prototypes = others[0].float()  # (M, H / 4, W / 4)
    kept = []
    for row, box, values in zip(objects, boxes.tolist(), coefficients, strict=True):
        logits = torch.tensordot(values, prototypes, 1)
        logits = F.interpolate(logits[None, None], tuple(seen.image.shape[1:]), mode="bilinear")[0, 0]
        mask = within(seen.map(logits) > 0, box)
        if mask.any():  # as in Ultralytics, an object without a pixel is none
            kept.append({**row, "mask": run_lengths(mask.numpy())})
    return {"objects": kept}


def within(mask: Tensor, box: Sequence[float]) -> Tensor:
    """Return a mask (H, W) without what lies outside of a box in its pixels."""
    rows, columns = (torch.arange(side) for side in mask.shape)
    inside = ((rows >= box[1]) & (rows < box[3]))[:, None] & (columns >= box[0]) & (columns < box[2])
    return mask & inside


def _torchvision(about: Metadata, outputs: Sequence[Tensor], seen: Seen, confidence: float) -> Answer:
    """The boxes of torchvision's detectors, after suppression."""
    names = about.outputs if "boxes" in about.outputs else ("boxes", "labels", "scores", "masks")
    values: Mapping[str, Tensor] = dict(zip(names, outputs, strict=False))
    scores = require_finite(values["scores"].float(), about)
    keep = (scores >= confidence).nonzero()[:, 0]
    keep = keep[scores[keep].argsort(descending=True, stable=True)]
    boxes = seen.boxes(values["boxes"][keep].float())
    objects = _objects(about, boxes, scores[keep], values["labels"][keep] - about.first_label)
    if "masks" in values:
        for row, mask in zip(objects, values["masks"][keep], strict=True):
            row["mask"] = run_lengths((seen.map(mask.reshape(mask.shape[-2:]).float()) > 0.5).numpy())
    return {"objects": objects}


def _objects(about: Metadata, boxes: Tensor, scores: Tensor, labels: Tensor) -> list[Answer]:
    return [
        {
            "label": label,
            "name": name_of(about, label),
            "score": _round(score),
            "box": [round(value, 2) for value in box],
        }
        for box, score, label in zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True)
    ]


def _round(share: float) -> float:
    return round(float(share), 5)


def run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return a mask (height, width) as COCO's run lengths: column by column, first of what is not in it.

    Example:
        >>> run_lengths(np.array([[False, True], [True, True]]))
        {'size': [2, 2], 'counts': [1, 3]}
    """
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat.size and flat[0] else counts}


def mask_of(runs: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return the mask (height, width) of what `run_lengths` wrote.

    Example:
        >>> mask_of({"size": [2, 2], "counts": [1, 3]}).tolist()
        [[False, True], [True, True]]
    """
    counts = runs["counts"]
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape(runs["size"], order="F")


def _reader(about: Metadata) -> Read:
    if about.head == "logits":
        return _regions if about.task == "semantic" else _classes
    if about.task == "classify":
        return _probabilities
    return {"yolo": _dense, "yolo-free": _free, "torchvision": _torchvision}[about.head]
