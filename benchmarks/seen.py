"""Do boxes that overlap get maps of their own, and do the regions of the semantics carve objects out?

    python benchmarks/seen.py demo/run/weights/last.pt demo/digits/data.yaml

Pairs: of two found boxes that overlap, each gets its map of relevance, and Pearson's r is taken over the pixels of
either box. They may find two labelled objects, or be two readings of one. Regions: around each labelled outline, what
Otsu's threshold separates from the edge of the crop is held against the pixels that consult the same token most. The
best token's IoU stands beside that of the whole box, and beside that of a network with new weights. The table goes to
docs/results/seen.json.
"""

import argparse
import statistics
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.ops import box_iou

from dualvit.data.coco import Picture, decode
from dualvit.data.images import open_rgb
from dualvit.data.yolo_layout import read_yolo
from dualvit.explain import Wanted, explain, open_subject
from dualvit.explain.explanation import Explanation
from dualvit.explain.randomised import networks
from dualvit.explain.relevance import relevance
from dualvit.explain.subject import Subject
from dualvit.files import read_json, write_json
from dualvit.progress import working
from dualvit.provenance import environment

OUT = Path(__file__).resolve().parents[1] / "docs" / "results" / "seen.json"
Array = NDArray[Any]
WIDER = 0.25  # of a box's sides, on each side
OVERLAP = 0.05  # IoU from which two boxes are a pair


def pairs(subject: Subject, found: Explanation, labelled: Array) -> Iterator[dict[str, Any]]:
    """Yield, of each pair of found boxes that overlap, IoU, correlation of the maps, and whether it is two objects."""
    maps: dict[int, Array] = {}
    objects = [object_of(found.view.box_on_picture(one.box), labelled) for one in found.found if one.box is not None]
    for places in combinations(range(len(found.found)), 2):
        boxes = torch.tensor([found.found[place].box for place in places])
        if (overlap := float(box_iou(boxes[:1], boxes[1:]))) < OVERLAP:
            continue
        for place in places:
            if place not in maps:
                maps[place] = relevance(subject, found.view, found.found[place]).double().numpy()
        either = np.zeros(maps[places[0]].shape, bool)
        for left, top, right, bottom in boxes.clamp(min=0).round().int().tolist():
            either[top:bottom, left:right] = True
        r = np.corrcoef(*(maps[place][either] for place in places))[0, 1]
        two = None not in (of := [objects[place] for place in places]) and of[0] != of[1]
        yield {"iou": round(overlap, 3), "r": round(float(r), 3), "two objects": two}


def object_of(box: Sequence[float], labelled: Array) -> int | None:
    """Return which labelled object (N, 4) a box finds: that of the largest IoU, if it is 0.5 or more."""
    if not len(labelled):
        return None
    overlaps = box_iou(torch.tensor([box], dtype=torch.float64), torch.from_numpy(labelled).double())[0]
    return int(overlaps.argmax()) if float(overlaps.max()) >= 0.5 else None


def object_in(crop: Array) -> Array:
    """Return the mask of what stands out of a crop's edge, by Otsu's threshold: (H, W, 3) to (H, W)."""
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    bright = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[1] > 0
    edge = np.concatenate((bright[0], bright[-1], bright[:, 0], bright[:, -1]))
    return ~bright if edge.mean() > 0.5 else bright


def iou(one: Array, two: Array) -> float:
    """Return the IoU of two masks."""
    return float((one & two).sum() / max(1, (one | two).sum()))


def carved(picture: Image.Image, regions: Array, labelled: Picture) -> Iterator[tuple[float, float]]:
    """Yield, per object, the IoU of what stands out within its outline with the best region, and with its box."""
    whole, limit = np.asarray(picture), np.array(picture.size)
    for box, segment in zip(labelled.boxes, labelled.segments, strict=True):
        corner, end = box[:2], box[2:]
        wide = (end - corner) * WIDER
        (left, top), (right, bottom) = ((edge.clip(0, limit)).astype(int) for edge in (corner - wide, end + wide + 1))
        crop = slice(top, bottom), slice(left, right)
        frame = np.zeros(regions.shape, np.uint8)
        cv2.rectangle(frame, corner.astype(int).tolist(), end.astype(int).tolist(), 1, cv2.FILLED)
        within = frame if segment is None else decode(segment, *regions.shape)
        seen, near = object_in(whole[crop]) & (within[crop] > 0), regions[crop]
        yield max(iou(near == token, seen) for token in np.unique(near)), iou(frame[crop] > 0, seen)


def main() -> None:
    """Measure, print, and write the JSON; what it holds of other data stays."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a checkpoint of a detector on a Dual-ViT")
    parser.add_argument("data", type=Path, help="data.yaml, whose validation pictures are asked about")
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--json", type=Path, default=OUT)
    args = parser.parse_args()
    subject = open_subject(args.model)
    unlearned = next(networks(subject, 1, 0))[1]
    pictures = read_yolo(args.data, "val").pictures[: args.pictures]
    found_pairs: list[dict[str, Any]] = []
    best: dict[str, list[tuple[float, float]]] = {"learned": [], "new weights": []}
    with working(args.data.parent.name) as progress:
        for number, labelled in enumerate(pictures):
            progress(number, len(pictures))
            picture = open_rgb(labelled.file)
            for name, network in (("learned", subject), ("new weights", unlearned)):
                try:
                    explained = explain(network, picture, Wanted("layercam", most=1))
                except ValueError:  # nothing was found, and so nothing is explained
                    continue
                if network is subject:
                    found_pairs += [
                        {"picture": labelled.file.name} | one for one in pairs(subject, explained, labelled.boxes)
                    ]
                best[name] += carved(picture, explained.regions().numpy(), labelled)
    row: dict[str, Any] = {"pictures": len(pictures), "pairs": found_pairs}
    for name, two in (("pairs of two objects", True), ("pairs of one object, or of none", False)):
        values = [one["r"] for one in found_pairs if one["two objects"] is two]
        row[name] = {"pairs": len(values), "below 0.6": sum(r < 0.6 for r in values)}
    for name, scores in best.items():
        row[f"regions, {name}"] = {
            "objects": len(scores),
            "best region": round(statistics.mean(score for score, _ in scores), 3) if scores else None,
            "box": round(statistics.mean(score for _, score in scores), 3) if scores else None,
        }
    print(row)
    known = read_json(args.json) if args.json.is_file() else {}
    write_json(args.json, known | {args.data.parent.name: row | environment(False)})


if __name__ == "__main__":
    main()
