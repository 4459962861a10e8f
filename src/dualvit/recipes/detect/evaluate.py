"""COCO's average precision of predictions, by faster-coco-eval, and predictions in COCO's form."""

import copy
import logging
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

from torch import Tensor, distributed

from dualvit.data.outlines import encode

LABELS = {"AP": "AP_all", "AP50": "AP_50", "AP75": "AP_75", "APs": "AP_small", "APm": "AP_medium", "APl": "AP_large"}


def as_coco(prediction: dict[str, Tensor], image_id: int, category_ids: Sequence[int | str]) -> list[dict[str, Any]]:
    """Return a detector's prediction in the form of COCO's results: x, y, width, height; masks as run lengths."""
    boxes = prediction["boxes"].float().cpu()
    sides = boxes[:, 2:] - boxes[:, :2]
    labels, scores = prediction["labels"].tolist(), prediction["scores"].tolist()
    rows = [
        {"image_id": image_id, "category_id": category_ids[label], "bbox": [*corner, *side], "score": score}
        for corner, side, label, score in zip(boxes[:, :2].tolist(), sides.tolist(), labels, scores, strict=True)
    ]
    if "masks" in prediction and rows:
        for row, run in zip(rows, encode((prediction["masks"][:, 0] > 0.5).cpu().numpy()), strict=True):
            row["segmentation"] = run
    return rows


def average_precision(
    truth: dict[str, Any], predictions: Sequence[dict[str, Any]], image_ids: Iterable[int], what: str = "bbox"
) -> dict[str, float]:
    """AP from IoU 0.50 to 0.95, at 0.50, at 0.75, and of small, medium and large objects.

    Args:
        truth: COCO's json.
        predictions: COCO's results.
        image_ids: The images to score.
        what: bbox or segm.

    Returns:
        AP, AP50, AP75, APs, APm, APl, each from 0 to 1; -1 where there are no such objects.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    logging.getLogger("faster_coco_eval").setLevel(logging.ERROR)
    if not predictions:
        return dict.fromkeys(LABELS, 0.0)
    with redirect_stdout(StringIO()):
        objects = COCO(copy.deepcopy(truth))  # it writes into its arguments
        evaluator = COCOeval_faster(objects, objects.loadRes(copy.deepcopy(list(predictions))), what)
        evaluator.params.imgIds = sorted(image_ids)
        evaluator.run()
    return {name: float(evaluator.stats_as_dict[label]) for name, label in LABELS.items()}


def gathered(items: list[Any]) -> list[Any]:
    """The items of all processes."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return items
    parts: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(parts, items)
    return [item for part in parts for item in part]
