"""Predictions for files: predictions.json, and each picture with what was found drawn into it."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from dualvit.data.images import UnreadableError, open_rgb
from dualvit.data.listing import image_files
from dualvit.deploy.predictor import CONFIDENCE, Predictor
from dualvit.deploy.reading import Answer, mask_of
from dualvit.errors import InputError, line_of
from dualvit.files import cut_name, free_paths, writable, write_json
from dualvit.locks import only_writer
from dualvit.pictures.boxes import draw
from dualvit.pictures.captions import captioned
from dualvit.pictures.masks import LEGEND, class_colours, overlay

LONGEST_STEM = 100  # characters of a picture's name


def predict_folder(
    predictor: Predictor, paths: Iterable[Path], out: Path, confidence: float = CONFIDENCE
) -> Iterator[str]:
    """Write what a model says of images; yield a line for each image, and for each that is skipped.

    No file in `out` is overwritten. What a second run writes there has a number in its names.

    Args:
        predictor: The model.
        paths: Images, or folders of images.
        out: A folder; it is made.
        confidence: Objects with a lower score are left out.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: none of the images can be read.
        RuntimeError: another command is at work in `out`.
    """
    notes: list[str] = []
    files = image_files(paths, out, notes)
    yield from notes
    with only_writer(out, "dualvit predict"):
        (summary,) = free_paths(out, "predictions.json")
        rows: list[Answer] = []
        skipped: list[str] = []
        for file, answer, picture in _answers(predictor, files, confidence, skipped):
            name = cut_name(writable(file.stem), LONGEST_STEM)
            (target,) = free_paths(out, f"{name}.png")
            drawn(predictor, picture, answer).save(target)
            size = {"width": picture.width, "height": picture.height}
            rows.append({"image": str(file), "picture": target.name, **size, **answer})
            yield f"{said(answer)}; {target}"
        yield from (f"skipped: {line}" for line in skipped)
        if not rows:
            raise InputError(f"none of the {len(files)} images can be read")
        about = {"model": predictor.name, "task": predictor.task, "runtime": predictor.runtime}
        settings = {"precision": predictor.precision, "confidence": confidence, "classes": list(predictor.classes)}
        write_json(summary, {**about, **settings, "predictions": rows, "skipped": skipped})


def _answers(
    predictor: Predictor, files: Sequence[Path], confidence: float, skipped: list[str]
) -> Iterator[tuple[Path, Answer, Image.Image]]:
    """Predict as many pictures at once as the model takes; one that cannot be used is noted, and costs no other."""
    for first in range(0, len(files), predictor.batch):
        pictures: list[tuple[Path, Image.Image]] = []
        for file in files[first : first + predictor.batch]:
            try:
                picture = open_rgb(file)
                predictor.see(picture)
                pictures.append((file, picture))
            except UnreadableError as error:
                skipped.append(line if str(file) in (line := line_of(error)) else f"{file}: {line}")
        answers = predictor.predict([picture for _, picture in pictures], confidence)
        for (file, picture), answer in zip(pictures, answers, strict=True):
            yield file, answer, picture


def said(answer: Answer) -> str:
    """Return an answer in a few words.

    Example:
        >>> said({"objects": [{"name": "cat"}, {"name": "dog"}, {"name": "cat"}]})
        '2 cat, 1 dog'
    """
    if "classes" in answer:
        return ", ".join(f"{row['name']} {row['score']:.3f}" for row in answer["classes"][:3])
    if "regions" in answer:
        return ", ".join(f"{row['name']} {row['share']:.1%}" for row in answer["regions"][:5])
    names = [row["name"] for row in answer["objects"]]
    return ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names)) or "nothing found"


def drawn(predictor: Predictor, picture: Image.Image, answer: Answer) -> Image.Image:
    """Return a picture with its answer drawn into it."""
    if "classes" in answer:
        return captioned(picture, [(row["name"], row["score"]) for row in answer["classes"]])
    image = pil_to_tensor(picture)
    if "regions" in answer:
        return _regions(predictor.classes, image, answer["regions"])
    rows: list[dict[str, Any]] = sorted(answer["objects"], key=lambda row: -row["score"])
    objects = {
        "boxes": torch.tensor([row["box"] for row in rows]).reshape(-1, 4),
        "labels": torch.tensor([row["label"] for row in rows], dtype=torch.int64),
        "scores": torch.tensor([row["score"] for row in rows]),
    }
    if rows and "mask" in rows[0]:
        objects["masks"] = torch.from_numpy(np.stack([mask_of(row["mask"]) for row in rows]))[:, None].float()
    return draw(image, objects, predictor.classes)


def _regions(classes: tuple[str, ...], image: torch.Tensor, regions: Sequence[dict[str, Any]]) -> Image.Image:
    places = torch.zeros(tuple(image.shape[1:]), dtype=torch.int64)
    for row in regions:
        places[torch.from_numpy(mask_of(row["mask"]))] = row["label"]
    colours = class_colours(classes)
    shares = [(row["name"], row["share"]) for row in regions[:LEGEND]]
    return captioned(
        to_pil_image(overlay(image, places, classes)), shares, [colours[row["label"]] for row in regions[:LEGEND]]
    )
