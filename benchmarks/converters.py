"""How far the files of Ultralytics' converters are from eager PyTorch: raw outputs, and boxes after NMS.

    python benchmarks/converters.py best.pt=yolov8n-dualvit yolov8n.pt=yolov8n --pictures raccoon/images/val \\
        --format ncnn --format coreml --out docs/results/converters.json

Each file runs as Ultralytics' own users run it, by its `AutoBackend`. A row takes the place of an older one of the same
model and format, so that formats whose packages do not fit into one environment go into one file by several calls.
CoreML runs on a Mac alone: elsewhere its row has the names and shapes that the file itself says.
"""

import argparse
import contextlib
import json
import os
import shutil
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from ultralytics.data.augment import LetterBox
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.utils import nms

from dualvit.command import command_line
from dualvit.deploy.parity import paired
from dualvit.errors import line_of
from dualvit.files import write_json
from dualvit.provenance import environment
from dualvit.yolo import YOLO
from dualvit.yolo.evidence import evidenced
from dualvit.yolo.export import IOU, as_exported, tensors

PACKAGES = {
    "ncnn": ("ncnn", "pnnx"), "coreml": ("coremltools", "numpy"), "paddle": ("paddlepaddle", "x2paddle"),
    "saved_model": ("tensorflow", "onnx2tf", "tf_keras"),
}  # fmt: skip
SAMPLE = "calibration_image_sample_data_20x128x128x3_float32.npy"  # that the exporter to TensorFlow would download
LEASTS = (0.25, 0.001)  # scores: the second if no picture has a box above the first


def measure(model: str, name: str, form: str, pictures: list[Path], side: int, boxes: int) -> dict[str, Any]:
    """Return the row of a model's file in one format, or why there is none."""
    row: dict[str, Any] = {"model": name, "format": form, "evidence": boxes, "side": side}
    row["packages"] = {one: metadata.version(one) for one in PACKAGES[form]}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        own = shutil.copy(model, "network" + Path(model).suffix)
        np.save(SAMPLE, np.random.default_rng(0).random((20, 128, 128, 3), dtype=np.float32))
        try:
            started = time.monotonic()
            file = YOLO(own).export(format=form, imgsz=side, device="cpu", evidence=boxes or False)
            row["seconds"] = round(time.monotonic() - started)
            row |= described(file) if form == "coreml" else compared(YOLO(own), file, pictures, side, boxes)
        except Exception as error:  # each converter and runtime has kinds of its own
            row["failed"] = f"{type(error).__name__}: {line_of(error, 200)}"
    return row


def described(file: str) -> dict[str, Any]:
    """Return what a CoreML file says of its outputs: a program whose shapes fit together, and which nobody ran."""
    import coremltools  # type: ignore[import-not-found]

    spec = coremltools.models.MLModel(str(file), skip_model_load=True).get_spec()
    shapes = {one.name: list(one.type.multiArrayType.shape) for one in spec.description.output}
    return {"ran": False, "outputs": shapes}


def compared(model: YOLO, file: str, pictures: list[Path], side: int, boxes: int) -> dict[str, Any]:
    """Return the errors of a file on pictures: `error` is the largest |difference| / (1 + |expected|) per output."""
    network = as_exported(model.model.float())
    runtime = AutoBackend(file, device=torch.device("cpu"))
    errors: list[float] = []
    kept: list[tuple[Tensor, Tensor]] = []
    for picture in pictures:
        image = seen(picture, side)
        with torch.no_grad(), evidenced(network, boxes) if boxes else contextlib.nullcontext():
            expected = tensors(network(image))
        out = runtime(image)
        answers = [torch.from_numpy(np.array(one)) for one in (out if isinstance(out, list | tuple) else [out])]
        shapes = [tuple(one.shape) for one in answers]
        if shapes != [tuple(one.shape) for one in expected]:
            return {"ran": True, "failed": f"outputs of shapes {shapes}"}
        far = [float(((a - e).abs() / (1 + e.abs())).max()) for a, e in zip(answers, expected, strict=True)]
        errors = [max(pair) for pair in zip(far, errors or far, strict=True)]
        kept.append((expected[0], answers[0]))
    return {"ran": True, "pictures": len(pictures), "errors": errors} | matched(kept, len(model.names))


def matched(kept: list[tuple[Tensor, Tensor]], classes: int) -> dict[str, Any]:
    """Return how many boxes after NMS both have, and how many of them are partners."""
    for least in LEASTS:
        pairs = [[nms.non_max_suppression(o.clone(), least, IOU, nc=classes)[0][:, :6] for o in two] for two in kept]
        if total := sum(max(map(len, two)) for two in pairs):
            break
    return {"least_score": least, "boxes": total, "partners": sum(len(paired(*two)) for two in pairs)}


def seen(picture: Path, side: int) -> Tensor:
    """Return a picture as the network sees it, (1, 3, side, side)."""
    pixels: Any = cv2.imread(str(picture))
    pixels = LetterBox((side, side), auto=False)(image=pixels)[..., ::-1].transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(pixels))[None].float() / 255


def main() -> None:
    """Measure, print a line for each row, and write JSON after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="FILE=NAME")
    parser.add_argument("--format", dest="forms", action="append", choices=PACKAGES, required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=16, help="pictures")
    parser.add_argument("--imgsz", type=int, default=192)
    parser.add_argument("--evidence", type=int, default=0, help="boxes that the file explains")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    os.environ |= {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"}
    pictures = [one.resolve() for one in sorted(args.pictures.iterdir())[: args.limit]]
    for model, _, name in (one.partition("=") for one in args.models):
        for form in args.forms:
            row = measure(
                str(Path(model).resolve()), name or Path(model).stem, form, pictures, args.imgsz, args.evidence
            )
            print(json.dumps(row), flush=True)
            if args.out:
                keep(args.out, row | {"command": command_line(), "environment": environment(cuda=False)})


def keep(file: Path, row: dict[str, Any]) -> None:
    """Write a row into a file of results, in place of one of the same model, format and outputs."""
    key = ("model", "format", "evidence")
    rows = json.loads(file.read_text())["results"] if file.exists() else []
    rows = [one for one in rows if any(one[part] != row[part] for part in key)]
    write_json(file, {"results": sorted([*rows, row], key=lambda one: [str(one[part]) for part in key])})


if __name__ == "__main__":
    main()
