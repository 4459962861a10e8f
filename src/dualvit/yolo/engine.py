"""One training of a comparison through Ultralytics: equal settings, quiet, resumable at each epoch.

What a training goes on from is a file of our own with plain tensors: Ultralytics' checkpoints are pickles, and a
folder of results may come from elsewhere. Checkpoints of an earlier process are not opened.
"""

import copy
import csv
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.data.utils import IMG_FORMATS, check_det_dataset

from dualvit import archives
from dualvit.compare.settings import DetectRecipe
from dualvit.files import atomic
from dualvit.stored import StoredError, check_weights
from dualvit.yolo.model import YOLO
from dualvit.yolo.trainers import unwrap

STATE = "state.ckpt"
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
    state = read_state(folder / STATE)
    done = state["history"] if state else []
    used = done[-1]["seconds"] if done else 0.0
    if state and ((epochs and state["epoch"] + 1 >= epochs) or (seconds and used >= seconds)):
        return list(done)
    model = open_model(*entry, task)
    settings = asdict(recipe)
    settings["lr0"] = settings.pop("lr")
    budget = {"epochs": epochs} if epochs else {"time": (seconds or 0) / 3600}

    def rows() -> list[dict[str, float]]:
        """Of earlier processes, and of this one, whose results.csv is new."""
        later = history(folder, task)
        return [row for row in done if row["epoch"] < min((new["epoch"] for new in later), default=math.inf)] + later

    _watch(model, folder, state, rows, used, threads, report, start)
    trainer = model.task_map[task]["trainer"](
        overrides={
            **model.overrides, "data": data, **arguments, **budget, **settings, "optimizer": "AdamW", "cos_lr": True,
            "nbs": arguments["batch"], "pretrained": False, "patience": 0, "amp": False, "plots": False,
            "verbose": False, "cache": True, "project": str(folder.resolve()), "name": "run", "exist_ok": True,
            "mode": "train",
        },
        _callbacks=model.callbacks,
    )  # fmt: skip
    trainer.model = trainer.get_model(cfg=model.model.yaml, weights=None)
    trainer.final_eval = lambda: None  # it would open best.pt, which may be of an earlier process
    trainer.train()
    return rows()


def read_state(file: Path) -> dict[str, Any] | None:
    """What a training goes on from; None if there is none, or only a damaged one, which is put aside.

    Raises:
        ValueError: the file is whole, and holds something else.
        OSError: it cannot be read.
    """
    try:
        state = archives.load(file)
    except FileNotFoundError:
        return None
    except archives.DamagedError:
        print(f"{file} is damaged, and is now {archives.set_aside(file)}", flush=True)
        return None
    kinds: dict[str, Any] = dict.fromkeys(("epoch", "epochs", "updates"), int) | {"history": list}
    kinds |= dict.fromkeys(("optimizer", "model", "ema", "stopper"), dict) | {"best_fitness": (float, type(None))}
    whole_state = isinstance(state, dict) and all(isinstance(state.get(key, ...), kind) for key, kind in kinds.items())
    if not whole_state or any(not _is_row(row) for row in state["history"]):
        raise ValueError(f"{file} is no state of a cell; delete it, and the cell begins anew")
    for part in ("model", "ema"):
        try:
            check_weights(state[part])
        except (StoredError, AttributeError):
            raise ValueError(f"{file} holds weights that are no numbers; delete it, and the cell begins anew") from None
    return state


def _is_row(row: Any) -> bool:
    numbers = isinstance(row, dict) and all(isinstance(value, int | float) for value in row.values())
    return numbers and {"epoch", "seconds"} <= set(row) and all(map(math.isfinite, row.values()))


def write_state(file: Path, trainer: Any, history: list[dict[str, float]]) -> None:
    """Keep a trainer's state after an epoch, and the epochs so far."""
    stopper = {key: value for key, value in vars(trainer.stopper).items() if isinstance(value, int | float)}
    best = trainer.best_fitness
    state = {
        "epoch": trainer.epoch, "epochs": trainer.epochs, "best_fitness": None if best is None else float(best),
        "history": history, "updates": trainer.ema.updates, "stopper": stopper,
        "optimizer": trainer.optimizer.state_dict(), "model": unwrap(trainer.model).state_dict(),
        "ema": trainer.ema.ema.state_dict(),
    }  # fmt: skip
    with atomic(file) as out:
        archives.save(state, out)


def restore(trainer: Any, state: dict[str, Any], where: Path) -> None:
    """Set a trainer that is about to begin to where another one was.

    Raises:
        ValueError: the state is of another model.
    """
    try:
        unwrap(trainer.model).load_state_dict(state["model"])
        trainer.ema.ema.load_state_dict(state["ema"])
        trainer.resume, trainer.epochs = True, state["epochs"]
        trainer.resume_training(
            {
                "epoch": state["epoch"], "best_fitness": state["best_fitness"], "updates": state["updates"],
                "optimizer": state["optimizer"], "stopper": state["stopper"], "ema": copy.deepcopy(trainer.ema.ema),
            }
        )  # fmt: skip
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        line = " ".join(str(error).split())[:160]
        raise ValueError(f"{where} does not fit this model ({line}); delete it, and the cell begins anew") from None
    trainer.scheduler.last_epoch = trainer.start_epoch - 1


def _watch(
    model: YOLO, folder: Path, state: dict[str, Any] | None, rows: Callable[[], list[dict[str, float]]], used: float,
    threads: int, report: Report, start: Callable[[], None],
) -> None:  # fmt: skip
    """Follow a training from `state`, its clock on from `used` seconds; each epoch's `rows` are kept and reported."""

    def on_ready(trainer: Any) -> None:
        if state is not None:
            restore(trainer, state, folder / STATE)

    def on_start(trainer: Any) -> None:
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
        known = rows()
        write_state(folder / STATE, trainer, known)
        report({"progress": progress(trainer), "epochs": known, "epoch_end": True})

    model.add_callback("on_pretrain_routine_end", on_ready)
    model.add_callback("on_train_start", on_start)
    model.add_callback("on_train_epoch_start", on_epoch_start)
    model.add_callback("on_train_batch_end", on_batch)
    model.add_callback("on_model_save", on_epoch)
