"""A tiny data set in COCO's layout: rectangles on noise, with ids that have gaps, a crowd, and an empty image."""

import json

import numpy as np
import pytest
from PIL import Image

RECTANGLES = [[(8, 8, 24, 16)], [(30, 20, 20, 24), (4, 30, 16, 16)], [], [(10, 10, 40, 30)]]


def write_split(root, split, first_id):
    images, annotations = [], []
    folder = root / f"{split}2017"
    folder.mkdir()
    for index, rectangles in enumerate(RECTANGLES):
        pixels = np.random.default_rng(index).integers(0, 60, (48, 64, 3), np.uint8)
        image = {"id": first_id + 10 * index, "file_name": f"{index}.png", "width": 64, "height": 48}
        for number, (x, y, w, h) in enumerate(rectangles):
            pixels[y : y + h, x : x + w, number] = 220
            annotations.append({
                "id": len(annotations), "image_id": image["id"], "category_id": (5, 90)[number],
                "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0,
                "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
            })  # fmt: skip
        Image.fromarray(pixels).save(folder / image["file_name"])
        images.append(image)
    crowd = {"size": [48, 64], "counts": [100, 50, 48 * 64 - 150]}
    annotations.append({
        "id": 99, "image_id": first_id + 20, "category_id": 5, "bbox": [2, 0, 3, 48], "area": 50, "iscrowd": 1,
        "segmentation": crowd,
    })  # fmt: skip
    categories = [{"id": 90, "name": "tall"}, {"id": 5, "name": "wide"}]
    (root / "annotations").mkdir(exist_ok=True)
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / f"annotations/instances_{split}2017.json").write_text(json.dumps(content))


@pytest.fixture
def coco(tmp_path):
    """The folder of the data set."""
    root = tmp_path / "coco"
    root.mkdir()
    write_split(root, "train", 100)
    write_split(root, "val", 500)
    return root


@pytest.fixture
def small(coco):
    """Changes that make any recipe of detection small."""
    return [
        f"data.root={coco}", "network.name=dualvit_n", "head.channels=16", "head.rois=16", "data.short_side=64",
        "data.long_side=96", "data.batch=2", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false",
    ]  # fmt: skip
