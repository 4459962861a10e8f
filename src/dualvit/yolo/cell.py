"""One training of a comparison through Ultralytics: equal settings, quiet, resumable at each epoch."""

import csv
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.data.utils import IMG_FORMATS, check_det_dataset

from dualvit.files import write_whole
from dualvit.tasks.settings import DetectRecipe
from dualvit.yolo.model import YOLO

NECKS = {"detect": "yolov8n-timm.yaml", "segment": "yolov8n-timm-seg.yaml"}  # where only a backbone is named
COLUMNS = {  # of results.csv
    "detect": {"mAP50-95": "metrics/mAP50-95(B)", "mAP50": "metrics/mAP50(B)"},
    "segment": {"mask mAP50-95": "metrics/mAP50-95(M)", "mask mAP50": "metrics/mAP50(M)"},
}
Report = Callable[[dict[str, Any]], None]


def open_model(name: str, options: Mapping[str, Any], task: str) -> YOLO:
    """The YOLO of an Ultralytics YAML, or YOLOv8's neck and head of scale n on a timm backbone.

    Raises:
        ValueError: the model is for another task.
    """
    if name.endswith((".yaml", ".yml")):
        model = YOLO(name, **options)
    else:
        model = YOLO(NECKS[task], backbone=name, backbone_args=dict(options))
    if model.task != task:
        raise ValueError(f"{name} is a model for {model.task}, and the task is {task}")
    return model


def network(name: str, options: Mapping[str, Any], task: str, classes: int) -> nn.Module:
    """The module that training would build for a data set of so many classes."""
    model = open_model(name, options, task).model
    built: nn.Module = type(model)({**model.yaml, "nc": classes}, verbose=False)
    return built


def read_data(path: str | Path) -> dict[str, int]:
    """How many classes and pictures a data.yaml names; nothing is fetched.

    Raises:
        FileNotFoundError: the file, a folder of it, or any picture in a folder is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no data set at {path}; name an Ultralytics data.yaml, or digits")
    try:
        data = check_det_dataset(str(path.resolve()), autodownload=False)
    except (FileNotFoundError, RuntimeError, SyntaxError, TypeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise FileNotFoundError(f"data {path}: {lines[0]}; correct `path`, `train` and `val` in it") from None
    counts = {split: sum(map(_pictures, _listed(data[split]))) for split in ("train", "val")}
    for split, count in counts.items():
        if not count:
            raise FileNotFoundError(f"data {path}: no images in {data[split]}; correct `{split}` in it")
    return {"classes": int(data["nc"]), **counts}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _pictures(place: str | Path) -> int:
    place = Path(place)
    if place.is_dir():
        return sum(1 for file in place.rglob("*") if file.suffix[1:].lower() in IMG_FORMATS)
    return sum(1 for line in place.read_text().splitlines() if line.strip()) if place.is_file() else 0


def history(folder: Path, task: str) -> list[dict[str, float]]:
    """The epochs of a run from its results.csv; of an epoch that was done twice the later one counts."""
    table = folder / "run" / "results.csv"
    rows: dict[int, dict[str, float]] = {}
    if table.exists():
        for row in csv.DictReader(table.open(), skipinitialspace=True):
            try:
                values = {key: float(row[column]) for key, column in COLUMNS[task].items()}
                rows[int(row["epoch"])] = {"epoch": int(row["epoch"]), **values, "seconds": float(row.get("time") or 0)}
            except (TypeError, ValueError):  # a line that a kill cut short
                continue
    return [rows[epoch] for epoch in sorted(rows)]


def train(
    folder: Path, entry: tuple[str, Mapping[str, Any]], task: str, data: str, recipe: DetectRecipe,
    arguments: Mapping[str, Any], epochs: int | None, seconds: float | None, threads: int, report: Report,
    start: Callable[[], None] = lambda: None,
) -> list[dict[str, float]]:  # fmt: skip
    """Train, or continue from the folder's last checkpoint.

    Args:
        folder: Takes Ultralytics' folder `run`.
        entry: The model's name and options.
        task: detect or segment.
        data: The data.yaml.
        recipe: The settings.
        arguments: Further ones of Ultralytics: imgsz, batch, device, seed, workers.
        epochs: The budget, or None where `seconds` is given.
        seconds: The budget in training time.
        threads: Of torch on the CPU.
        report: Called with what is known so far.
        start: Called when everything is in place and training begins.

    Returns:
        For each epoch: its number, the accuracies on the validation pictures, and seconds so far.
    """
    last = folder / "run" / "weights" / "last.pt"
    done = history(folder, task)
    epoch = _epoch_of(last)
    used = done[-1]["seconds"] if done else 0.0
    if epoch is not None and (epoch < 0 or (epochs and epoch + 1 >= epochs) or (seconds and used >= seconds)):
        return done
    if epoch is None:
        done, used = [], 0.0
        (folder / "run" / "results.csv").unlink(missing_ok=True)
    else:
        _end_last_line(folder / "run" / "results.csv")
    model = open_model(*entry, task) if epoch is None else YOLO(last)
    _watch(model, task, folder, used, threads, report, start)
    if epoch is not None:
        model.train(resume=True, device=arguments["device"])  # it may be another one by now
    else:
        settings = asdict(recipe)
        settings["lr0"] = settings.pop("lr")
        budget = {"epochs": epochs} if epochs else {"time": (seconds or 0) / 3600}
        model.train(
            data=data, **arguments, **budget, **settings, optimizer="AdamW", cos_lr=True, nbs=arguments["batch"],
            pretrained=False, patience=0, amp=False, plots=False, verbose=False, cache=True,
            project=str(folder.resolve()), name="run", exist_ok=True,
        )  # fmt: skip
    return history(folder, task)


def _end_last_line(table: Path) -> None:
    """Take away a line that a full disk cut short: Ultralytics would write the next one behind it."""
    text = table.read_bytes() if table.exists() else b""
    if not text.endswith(b"\n"):
        write_whole(table, text[: text.rfind(b"\n") + 1])


def _epoch_of(last: Path) -> int | None:
    """The epoch that a checkpoint ends, -1 in a finished one; None where there is none that can be read."""
    if not last.exists():
        return None
    try:
        return int(torch.load(last, map_location="cpu", weights_only=False)["epoch"])
    except Exception:  # torch raises many kinds for a file that a kill or a full disk cut short
        last.replace(last.with_suffix(".damaged"))
        return None


def _watch(
    model: YOLO, task: str, folder: Path, used: float, threads: int, report: Report, start: Callable[[], None]
) -> None:
    """Follow a training: its clock goes on from `used` seconds, and each epoch is reported."""
    begin = 0

    def on_start(trainer: Any) -> None:
        nonlocal begin
        begin = trainer.start_epoch
        if trainer.device.type == "cpu":
            torch.set_num_threads(threads)  # Ultralytics leaves one core free, which of two is half
        trainer.train_time_start = time.time() - used
        start()

    def on_epoch_start(trainer: Any) -> None:
        trainer.start_epoch = 0  # with a time budget, Ultralytics divides all the time by the epochs since this one

    def progress(trainer: Any) -> float:
        if trainer.args.time:
            return min((time.time() - trainer.train_time_start) / (3600 * trainer.args.time), 1.0)
        return (trainer.epoch + min(1.0, trainer.batches_seen / len(trainer.train_loader))) / trainer.epochs

    def on_batch(trainer: Any) -> None:
        first = getattr(trainer, "seen_epoch", None) != trainer.epoch
        trainer.batches_seen = 1 if first else trainer.batches_seen + 1
        trainer.seen_epoch = trainer.epoch
        report({"progress": progress(trainer), "seconds": time.time() - trainer.train_time_start})

    def on_epoch(trainer: Any) -> None:
        report({"progress": progress(trainer), "epochs": history(folder, task), "epoch_end": True})

    model.add_callback("on_train_start", on_start)
    model.add_callback("on_train_epoch_start", on_epoch_start)
    model.add_callback("on_train_batch_end", on_batch)
    model.add_callback("on_model_save", on_epoch)
