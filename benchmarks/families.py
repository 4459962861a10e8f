"""Every family of YOLO, every task and five backbones: what builds, learns and answers alike as ONNX.

    python benchmarks/families.py

Each model is built at its smallest scale, makes two training steps on drawn digits through its own trainer, and is
exported with dynamic batch and size. `parity` is the largest disagreement of onnxruntime with torch over two batches of
two sizes, as in `dualvit.deploy.runtimes.disagreement`; `outputs` are the shapes of the second. The weights are random
but for the two steps: this says nothing of accuracy. Each finished model is written to docs/results/families.json, and
the same command goes on from there. Rows of several versions of Ultralytics stand beside each other.

    python benchmarks/families.py --timm

builds the first model of each of timm's files that fits under each family for detection, and runs it, on the meta
device: shapes without values. The table goes to docs/results/families-timm.json.
"""

import argparse
import contextlib
import logging
import shutil
import tempfile
import time
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from typing import Any

from dualvit.yolo import YOLO  # first: it keeps older Ultralytics from installing packages

# isort: split
import cv2
import numpy as np
import thop  # type: ignore[import-untyped]  # comes with ultralytics
import timm
import torch
import ultralytics
import yaml
from ultralytics.data.utils import img2label_paths
from ultralytics.utils import DEFAULT_CFG_DICT, LOGGER

from dualvit.backbones.timm_model import BackbonePlan, plan_backbone
from dualvit.deploy.runtimes import disagreement, open_runtime
from dualvit.drawn.digits import write_digits
from dualvit.errors import InputError
from dualvit.families import SUFFIXES
from dualvit.files import read_json, write_json
from dualvit.provenance import environment
from dualvit.yolo.choice import choice
from dualvit.yolo.export import answers
from dualvit.yolo.stock import installed

OUT = Path(__file__).resolve().parents[1] / "docs" / "results" / "families.json"
FOUR = ("yolov8", "yolo11", "yolo12", "yolo26")
BACKBONES = ("dualvit", "convnext_atto", "mobilenetv4_conv_small", "swin_tiny_patch4_window7_224",
             "tf_efficientnet_lite0")  # fmt: skip
SHAPES = ((1, 3, 160, 160), (2, 3, 128, 192))  # both have more than the 300 anchors of which an end-to-end head picks
SETTINGS = {
    "imgsz": 64, "batch": 4, "epochs": 1, "device": "cpu", "workers": 0, "plots": False, "amp": False, "verbose": False,
    "optimizer": "AdamW", "val": False, "warmup_epochs": 0, "lr0": 1e-4, "exist_ok": True, "cache": False,
}  # fmt: skip
STEPS = 2
ROW = ("score", 4)  # of an end-to-end row: box, score, class, and what the task adds
TRIES = 8  # models of a file of timm's
CLOSE = 1e-4  # scores that are as close may change places


def data_of(task: str, folder: Path) -> Path:
    """Draw digits with labels of a task, eight to train on; returns what `data=` takes."""
    data = write_digits(folder / task, images=10, size=64)
    if task == "classify":
        return data.parent / "classify"
    for file in map(Path, img2label_paths(list(map(str, data.parent.glob("images/*/*"))))):
        rows = [line.split() for line in file.read_text().splitlines()]
        file.write_text("".join(" ".join(map(str, relabel(task, row))) + "\n" for row in rows))
    if task == "pose":
        content = yaml.safe_load(data.read_text()) | {"kpt_shape": [4, 2]}
        data.write_text(yaml.safe_dump(content))
    return data


def relabel(task: str, row: list[str]) -> list[Any]:
    """The line of a polygon as that of its smallest rectangle (obb), or of its box with four keypoints (pose)."""
    points = np.array(row[1:], dtype=np.float32).reshape(-1, 2)
    corners = cv2.boxPoints(cv2.minAreaRect(points)).clip(0, 1)
    low, high = points.min(0), points.max(0)
    if task == "obb":
        return [row[0], *corners.flatten()]
    return [row[0], *(low + high) / 2, *(high - low), *corners.flatten()] if task == "pose" else row


class Done(Exception):
    """Ends a training after its steps."""


def study(name: str, backbone: str | None, data: Path, folder: Path) -> dict[str, Any]:
    """Build a model, train it for two steps, export it, and compare the file with torch.

    Args:
        name: Of a model YAML.
        backbone: A timm model; None for the YAML's own.
        data: Of the task.
        folder: Takes the run and the file.
    """
    model, losses = YOLO(name, **({"backbone": backbone} if backbone else {})), []

    def step(trainer: Any) -> None:
        losses.append(float(trainer.loss.detach()))
        if len(losses) == STEPS:
            raise Done

    model.add_callback("on_train_batch_end", step)
    with contextlib.suppress(Done):
        model.train(data=str(data), project=str(folder), name="run", **SETTINGS)
    parameters = sum(p.numel() for p in model.model.parameters())
    network = model.trainer.model.float().eval()
    model.model, network.args, network.task = network, {**DEFAULT_CFG_DICT, **model.overrides}, model.task
    network.pt_path = str(folder / "network.pt")
    spread(network)
    head: Any = network.model[-1]
    found = hasattr(head, "one2one_cv2")
    if found and not head.end2end:  # newer versions take this head only if they are told that there is no NMS
        head.end2end = True
    settings: dict[str, Any] = {"nms": False} if found else {}
    if ultralytics.__version__.startswith("8.2."):
        settings["opset"] = 17  # it would take 9 with newer torch
    file = Path(model.export(format="onnx", imgsz=SHAPES[0][2:], dynamic=True, device="cpu", **settings))
    run = open_runtime("onnxruntime", file, 1)
    apart, shapes = 0.0, []
    for shape in SHAPES:
        image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        expected = [one.numpy() for one in answers(network, image)]
        given = run(image.numpy())
        if found:
            given[0], expected[0] = matched(given[0], expected[0])
        apart, shapes = max(apart, disagreement(given, expected)), [list(one.shape) for one in given]
    return {"parameters": parameters, "losses": losses, "outputs": shapes, "parity": apart}


def spread(network: torch.nn.Module) -> None:
    """Draw the weights of the last layers of scores wider: those of a new head are all but equal, and none is first."""
    head: Any = network.model[-1]
    torch.manual_seed(0)
    for name in ("cv3", "one2one_cv3"):
        for layers in getattr(head, name, None) or ():
            torch.nn.init.normal_(layers[-1].weight, std=3.0)
            torch.nn.init.zeros_(layers[-1].bias)


def matched(given: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both answers of an end-to-end head, with each expected row in the place of the given row that is like it.

    Rows whose scores are equal but for rounding come in any order, and the last ones may be left out.
    """
    if given.shape != expected.shape:
        return given, expected
    out = expected.copy()
    for number, (rows, known) in enumerate(zip(given, expected, strict=True)):
        far = np.abs(rows[:, None] - known[None]).max(-1)  # (K, K)
        out[number] = known[far.argmin(1)]
        last = rows[:, ROW[1]] <= rows[-1, ROW[1]] + CLOSE
        out[number][last] = rows[last]
    return given, out


def of_timm(out: Path) -> None:
    """Build the first model of each of timm's files that fits under each family, on the meta device."""
    build = BackbonePlan.build
    BackbonePlan.build = lru_cache(1)(build)  # type: ignore[method-assign]  # one backbone under all families
    fitting: dict[str, list[str]] = {}
    refused: dict[str, str] = {}
    yolos = [name for name in installed() if name.endswith("-timm.yaml")]
    for module in timm.list_modules():
        for name in timm.list_models(module=module)[:TRIES]:
            try:
                plan_backbone(name)
            except InputError as error:
                refused[module] = str(error)
                continue
            fitting[name] = [yolo for yolo in yolos if choice(name, yolo, 96).gflops > 0]
            refused.pop(module, None)
            print(f"{module:24s} {name:40s} {len(fitting[name])} of {len(yolos)}", flush=True)
            break
    write_json(out, {"yolos": yolos, "fitting": fitting, "refused": refused, "environment": environment(False)})


def main() -> None:
    """Study all that is missing in the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--timm", action="store_true")
    args = parser.parse_args()
    out = args.out or (OUT.with_name("families-timm.json") if args.timm else OUT)
    if args.timm:
        of_timm(out)
        return
    torch.set_num_threads(1)
    LOGGER.setLevel(logging.ERROR)
    # Ultralytics 8.2 leaves it to torch which exporter is taken, and newer torch takes one that needs onnxscript.
    torch.onnx.export = partial(torch.onnx.export, dynamo=False)
    thop.profile = lambda *_, **__: (0, 0)  # Ultralytics would run each model on 640x640 pixels, to tell its FLOPs
    rows: list[dict[str, Any]] = (read_json(out) or {"rows": []})["rows"]
    names = [name for name in installed() if name.startswith(FOUR)]
    with tempfile.TemporaryDirectory() as folder:
        data = {task: data_of(task, Path(folder)) for task in SUFFIXES}
        for name, backbone in product(names, BACKBONES):
            if ("-dualvit" in name) != (backbone == "dualvit"):
                continue
            known = {"model": name, "backbone": backbone, "ultralytics": ultralytics.__version__}
            if any(known.items() <= row.items() for row in rows):
                continue
            place, start = Path(folder) / "run", time.perf_counter()
            task = YOLO(name, **({} if backbone == "dualvit" else {"backbone": backbone})).task
            place.mkdir()
            found = study(name, None if backbone == "dualvit" else backbone, data[task], place)
            shutil.rmtree(place)
            rows.append({**known, **found, "seconds": round(time.perf_counter() - start, 1)})
            write_json(out, {"steps": STEPS, "shapes": SHAPES, "rows": rows, "environment": environment(False)})
            print(f"{name:28s} {backbone:30s} {found['parity']:.1e} {found['outputs']}", flush=True)


if __name__ == "__main__":
    main()
