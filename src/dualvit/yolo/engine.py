"""One training of a comparison through Ultralytics: equal settings, quiet, resumable at each epoch.

What a training goes on from is a file of our own with plain tensors: Ultralytics' checkpoints are pickles, and a
folder of results may come from elsewhere. Checkpoints of an earlier process are not opened.
"""

import copy
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dualvit import archives
from dualvit.data.coco import Coco
from dualvit.data.yolo_layout import find_yaml, read_layout
from dualvit.errors import InputError, MissingFileError
from dualvit.files import atomic
from dualvit.names import OF_YOLO
from dualvit.progress import Listener, Row
from dualvit.seeds import digest
from dualvit.stored import StoredError, check_weights
from dualvit.yolo.checks import read_data as read_data_yaml
from dualvit.yolo.checks import require_data, require_labels
from dualvit.yolo.data import pairs_of
from dualvit.yolo.export import export_onnx
from dualvit.yolo.groups import unwrap
from dualvit.yolo.model import YOLO, quiet
from dualvit.yolo.predictions import content_of, truth_of, validated
from dualvit.yolo.report import epochs_of

STATE = "state.ckpt"
NECKS = {"detect": "yolov8n-timm.yaml", "segment": "yolov8n-timm-seg.yaml"}  # where only a backbone is named
COLUMNS = {  # of results.csv
    "detect": {"mAP50-95": "metrics/mAP50-95(B)", "mAP50": "metrics/mAP50(B)"},
    "segment": {"mask mAP50-95": "metrics/mAP50-95(M)", "mask mAP50": "metrics/mAP50(M)"},
}
FIXED = {  # arguments of Ultralytics that are the same in every comparison
    "cos_lr": True, "pretrained": False, "patience": 0, "amp": False, "plots": False,
    "verbose": False, "cache": True, "name": "run", "exist_ok": True, "mode": "train",
}  # fmt: skip


def open_model(name: str, options: Mapping[str, Any], task: str) -> YOLO:
    """The YOLO of an Ultralytics YAML or a file of weights, or YOLOv8's neck and head of scale n on a timm backbone.

    Raises:
        ValueError: the model is for another task.
    """
    if name.endswith(OF_YOLO):
        model = YOLO(name, **options)
    else:
        model = YOLO(NECKS[task], backbone=name, backbone_args=dict(options))
    if model.task != task:
        raise InputError(f"{name} is a model for {model.task}, and the task is {task}")
    return model


class YoloEngine:
    """One model with its settings, in the hands of Ultralytics: what a comparison trains.

    Args:
        name: An Ultralytics YAML, a file of `YOLO.save_weights` to train on from, or a timm name.
        options: Of `dualvit.yolo.YOLO`, or of the timm model.
        task: detect or segment.
        arguments: Of Ultralytics' training: data, epochs or time (hours), imgsz, batch, seed, device, workers and more.
        threads: Of torch on the CPU.
    """

    def __init__(
        self, name: str, options: Mapping[str, Any], task: str, arguments: Mapping[str, Any], threads: int = 1
    ) -> None:
        self.name, self.options, self.task = name, options, task
        self.arguments, self.threads = arguments, threads
        self.skipped: list[str] = []  # what cannot be read stops a training of YOLO
        self.digests: dict[str, str] = {}

    def counts(self) -> tuple[int, int, int, list[str]]:
        """Return how many classes the data set has, how many pictures to train and validate on, and no notes."""
        return *read_data(self.arguments["data"], self.task), []

    def tests(self) -> int:
        """Return how many pictures the test split has.

        Raises:
            ValueError: there is none, or its labels cannot be read.
        """
        data = self.arguments["data"]
        found = read_data_yaml(data, "test") if read_layout(find_yaml(data) or data).content.get("test") else {}
        if not found:
            raise InputError(f"{data} has no test split, and score is test; give it `test:`, or score: val")
        require_labels(data, found, "test", self.task, every=True)
        return len(pairs_of(data, found, "test"))

    def constant(self, split: str) -> float:
        """Return what one answer for every picture scores: nothing."""
        return 0.0

    def network(self, classes: int) -> nn.Module:
        """Build the module that training would build for a data set of so many classes."""
        return network(self.name, self.options, self.task, classes)

    def scored(self, folder: Path, classes: int) -> nn.Module:
        """Build the module with the weights that the last epoch of the cell in the folder was scored with.

        Raises:
            FileNotFoundError: there are none.
            ValueError: they are of another model.
        """
        state = read_state(folder / STATE)
        if state is None:
            raise MissingFileError(f"no weights at {folder / STATE}")
        built = self.network(classes)
        try:
            built.load_state_dict(state["ema"])
        except RuntimeError:
            raise InputError(f"{folder / STATE} is of another model than {self.name}") from None
        return built

    def export(self, network: nn.Module, image: Tensor, file: Path) -> list[Tensor]:
        """Write a module as ONNX, as Ultralytics' own exporter does; return what the file must answer to the image."""
        return export_onnx(open_model(self.name, self.options, self.task), network, image, file)

    def train(self, folder: Path, listener: Listener) -> list[Row]:
        """Train, or continue from the folder's last state.

        Args:
            folder: Takes Ultralytics' folder `run`, and the state.
            listener: Is told the share that is done, the seconds so far, and the epochs once one is on disk.

        Returns:
            A row per epoch: its number, the accuracies on the validation pictures, and seconds so far.
        """
        state = read_state(folder / STATE)
        done: list[Row] = state["history"] if state else []
        used = done[-1]["seconds"] if done else 0.0
        epochs, hours = self.arguments.get("epochs"), self.arguments.get("time")
        if state and ((epochs and state["epoch"] + 1 >= epochs) or (hours and used >= 3600 * hours)):
            self.digests = {"weights": digest(state["ema"]), "batch": ""}
            return list(done)
        model = open_model(self.name, self.options, self.task)

        def rows() -> list[Row]:
            """Of earlier processes, and of this one, whose results.csv is new."""
            later = history(folder, self.task)
            first = min((new["epoch"] for new in later), default=math.inf)
            return [row for row in done if row["epoch"] < first] + later

        _watch(model, folder, state, rows, self.threads, listener)
        trainer = model.task_map[self.task]["trainer"](
            overrides={**model.overrides, **self.arguments, **FIXED, "nbs": self.arguments["batch"],
                       "project": str(folder.resolve())},
            _callbacks=model.callbacks,
        )  # fmt: skip
        trainer.model = trainer.get_model(cfg=model.model.yaml, weights=model.model if model.ckpt else None)
        trainer.final_eval = lambda: None  # it would open best.pt, which may be of an earlier process
        first = _first_batch(trainer) if state is None else {}
        trainer.train()
        self.digests = {"weights": digest(trainer.ema.ema.state_dict()), "batch": first.get("digest", "")}
        return rows()

    def predict(self, folder: Path, split: str) -> tuple[dict[str, float], dict[str, Any]]:
        """Ask the last epoch's weights, the averaged ones that are scored, about each picture of a split.

        Args:
            folder: Of a training that is done.
            split: val or test.

        Returns:
            The scores, and the images, categories and annotations in COCO's form.

        Raises:
            FileNotFoundError: the folder has no weights.
            ValueError: they are of another model.
        """
        truth = truth_of(self.arguments["data"], split)
        model = open_model(self.name, self.options, self.task)
        model.model = self.scored(folder, len(truth.classes))
        model.model.names = dict(enumerate(truth.classes))
        validator = validated(model, split, self.arguments, self.threads, keep=True)
        content = content_of(validator, truth)
        if split != "val" and self.task == "segment":  # where results are kept, masks are compared at another size
            validator = validated(model, split, self.arguments, self.threads, keep=False)
        scores = validator.metrics.results_dict
        return {name: float(scores[column]) for name, column in COLUMNS[self.task].items()}, content

    def truth(self, split: str) -> Coco:
        """Read what is really in the pictures of a split."""
        return truth_of(self.arguments["data"], split)


def _first_batch(trainer: Any) -> dict[str, str]:
    """Return where the digest of the first batch will be."""
    prepare, found = trainer.preprocess_batch, dict[str, str]()

    def look(batch: Any) -> Any:
        if not found:
            found["digest"] = digest(batch["img"])
        return prepare(batch)

    trainer.preprocess_batch = look
    return found


def network(name: str, options: Mapping[str, Any], task: str, classes: int) -> nn.Module:
    """Build the module that training would build for a data set of so many classes.

    What it was filled with is not told: that is of the YAML's own number of classes.
    """
    with quiet():
        model = open_model(name, options, task).model
    built: nn.Module = type(model)({**model.yaml, "nc": classes}, verbose=False)
    return built


def read_data(path: str | Path, task: str = "detect") -> tuple[int, int, int]:
    """Return how many classes a data.yaml names, and pictures to train and validate on; nothing is fetched.

    Raises:
        FileNotFoundError: the file, a folder of it, or any picture in a folder is missing.
        ValueError: its labels cannot be read, are for another task, or there are none.
    """
    path = Path(path)
    if not path.exists():
        raise MissingFileError(f"no data set at {path}; name an Ultralytics data.yaml, or digits")
    require_data(path, task)
    data = read_data_yaml(path)
    for split in ("train", "val"):
        require_labels(path, data, split, task, every=True)
    train, val = (len(pairs_of(path, data, split)) for split in ("train", "val"))
    return int(data["nc"]), train, val


def history(folder: Path, task: str) -> list[Row]:
    """The epochs of a run from its results.csv; of an epoch that was done twice the later one counts."""
    rows: list[Row] = []
    for row in epochs_of(folder / "run" / "results.csv"):
        if set(COLUMNS[task].values()) <= set(row):
            values = {key: row[column] for key, column in COLUMNS[task].items()}
            rows.append({"epoch": int(row["epoch"]), **values, "seconds": row.get("time", 0.0)})
    return rows


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
        raise InputError(f"{file} is no state of a cell; delete it, and the cell begins anew")
    for part in ("model", "ema"):
        try:
            check_weights(state[part])
        except (StoredError, AttributeError):
            raise InputError(f"{file} holds weights that are no numbers; delete it, and the cell begins anew") from None
    return state


def _is_row(row: Any) -> bool:
    numbers = isinstance(row, dict) and all(isinstance(value, int | float) for value in row.values())
    return numbers and {"epoch", "seconds"} <= set(row) and all(map(math.isfinite, row.values()))


def write_state(file: Path, trainer: Any, history: list[Row]) -> None:
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
        raise InputError(f"{where} does not fit this model ({line}); delete it, and the cell begins anew") from None
    trainer.scheduler.last_epoch = trainer.start_epoch - 1


def _watch(
    model: YOLO, folder: Path, state: dict[str, Any] | None, rows: Callable[[], list[Row]], threads: int,
    listener: Listener,
) -> None:  # fmt: skip
    """Follow a training from `state`, its clock on from there; each epoch's `rows` are kept and told."""
    used = state["history"][-1]["seconds"] if state and state["history"] else 0.0

    def tell(trainer: Any, done: list[Row] | None = None) -> None:
        seconds = time.time() - trainer.train_time_start
        if trainer.args.time:
            share = min(seconds / (3600 * trainer.args.time), 1.0)
        else:
            share = (trainer.epoch + min(1.0, trainer.batches_seen / len(trainer.train_loader))) / trainer.epochs
        listener(share, seconds, done)

    def on_ready(trainer: Any) -> None:
        if state is not None:
            restore(trainer, state, folder / STATE)

    def on_start(trainer: Any) -> None:
        if trainer.device.type == "cpu":
            torch.set_num_threads(threads)  # Ultralytics leaves one core free, which of two is half
        trainer.train_time_start = time.time() - used
        listener(0.0, used, None)

    def on_epoch_start(trainer: Any) -> None:
        trainer.start_epoch = 0  # with a time budget, Ultralytics divides all the time by the epochs since this one
        trainer.batches_seen = 0

    def on_batch(trainer: Any) -> None:
        trainer.batches_seen += 1
        tell(trainer)

    def on_epoch(trainer: Any) -> None:
        known = rows()
        write_state(folder / STATE, trainer, known)
        tell(trainer, known)

    model.add_callback("on_pretrain_routine_end", on_ready)
    model.add_callback("on_train_start", on_start)
    model.add_callback("on_train_epoch_start", on_epoch_start)
    model.add_callback("on_train_batch_end", on_batch)
    model.add_callback("on_model_save", on_epoch)
