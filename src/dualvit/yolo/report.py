"""The page that a training of YOLO ends in: curves, scores of each class, the best and the worst predictions."""

import csv
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ultralytics.utils import DEFAULT_CFG_DICT, LOGGER

from dualvit.errors import line_of
from dualvit.explain.examples import ASKED as EXAMPLES
from dualvit.explain.examples import examples
from dualvit.provenance import environment
from dualvit.report.gallery import few, shown
from dualvit.report.page import Part, Table
from dualvit.report.training import LIMITS, Curve, Training, in_words, of_data, took, training_page
from dualvit.yolo.asked import asked
from dualvit.yolo.explained import open_yolo
from dualvit.yolo.groups import backbone_of, unwrap
from dualvit.yolo.yaml import OPTIONS

SCORES = {  # of results.csv: what a task is chosen by
    "detect": "metrics/mAP50-95(B)", "obb": "metrics/mAP50-95(B)", "segment": "metrics/mAP50-95(M)",
    "pose": "metrics/mAP50-95(P)", "classify": "metrics/accuracy_top1",
}  # fmt: skip
OF = {"(B)": "Scores of boxes", "(M)": "Scores of masks", "(P)": "Scores of poses", "": "Scores"}
PARTS = {"train": "training", "val": "validation"}
LOSSES = {"cls": "class", "dfl": "edges (DFL)", "seg": "mask", "kobj": "visible keypoints"}
FIRST = ("model", "data", "epochs", "time", "imgsz", "batch", "optimizer", "lr0", "seed", "device", "fraction")
HIDDEN = ("mode", "task", "save_dir", "cfg", "resume")
BOXES = {
    "pose": "The predictions above are judged and drawn by their boxes. Keypoints count in the scores alone.",
    "obb": "The predictions above are judged by the overlap of oriented boxes at 0.5, and not as mAP counts them.",
}


def write_report(trainer: Any) -> None:
    """Write report.html into the folder of a training that is done; what goes wrong is a line, and nothing else.

    Args:
        trainer: After its last validation.
    """
    try:
        file = training_page(training_of(trainer)).write(Path(trainer.save_dir))
    except Exception as error:  # a finished training never fails for its page
        LOGGER.warning(f"report.html was not written: {line_of(error, 240)}")
    else:
        LOGGER.info(f"report {file}")


def training_of(trainer: Any) -> Training:
    """Return what a trainer's page shows."""
    args = trainer.args
    network: Any = unwrap(trainer.model)
    rows, metric = epochs_of(Path(trainer.csv)), SCORES[args.task]
    scored = [row for row in rows if row.get(metric) == row.get(metric) and metric in row]
    best = max(scored, key=lambda row: row[metric])["epoch"] if scored else None
    weights = next((Path(file) for file in (trainer.best, trainer.last) if Path(file).exists()), None)
    score = float(trainer.metrics.get(metric, math.nan)) if trainer.metrics else math.nan
    train, val = (len(loader.dataset) for loader in (trainer.train_loader, trainer.test_loader))
    parts, lines = _predictions(trainer, weights)
    explained, unexplained = _explanations(trainer, weights)
    name = Path(str(network.yaml.get("yaml_file") or args.model)).stem  # of a resumed run, the latter is last.pt
    seconds = rows[-1].get("time") if rows else None
    of = weights.name if weights else "the last epoch"
    return Training(
        what="dualvit yolo train",
        title=f"{_called(network, name)} on {of_data(str(args.data))}",
        result=f"{_name(metric)} of {of}: {100 * score:.1f} % on {val} validation pictures, after "
               f"{len(rows)} epoch{'s' if len(rows) != 1 else ''} on {train} training pictures.",
        tiles=[
            (f"{100 * score:.1f} %", _name(metric)), (f"{best:g}" if best else "none", f"best epoch, of {len(rows)}"),
            (took(seconds or time.time() - trainer.train_time_start), "of training"),
            (f"{sum(one.numel() for one in network.parameters()) / 1e6:.2f} M", "parameters"),
        ],
        settings=_settings(args, network), every=[(key, in_words(value)) for key, value in sorted(vars(args).items())],
        history=rows, curves=_curves(rows), best=best, results=_results(trainer, of), predictions=parts,
        explanations=explained, environment=environment(trainer.device.type == "cuda"),
        origin=[("seed", str(args.seed)), ("given in", str(Path.cwd())), ("folder", str(trainer.save_dir))],
        limits=[*LIMITS, *([BOXES[args.task]] if args.task in BOXES else [])], lines=[*lines, *unexplained],
    )  # fmt: skip


def epochs_of(table: Path) -> list[dict[str, float]]:
    """Return the epochs of a results.csv; of an epoch that was done twice the later one counts."""
    rows: dict[float, dict[str, float]] = {}
    if table.exists():
        with table.open(newline="") as file:
            for read in csv.DictReader(file, skipinitialspace=True):
                try:
                    row = {key.strip(): float(value) for key, value in read.items()}
                    rows[row["epoch"]] = row
                except (TypeError, ValueError, KeyError, AttributeError):  # a line that a kill cut short
                    continue
    return [rows[epoch] for epoch in sorted(rows)]


def _predictions(trainer: Any, weights: Path | None) -> tuple[list[Part], list[str]]:
    """The pictures of predictions; or a line on why there are none."""
    if weights is None:
        return [], ["No predictions are shown, since no checkpoint was kept."]
    return shown(lambda: asked(trainer, weights))


def _explanations(trainer: Any, weights: Path | None) -> tuple[list[tuple[str, bytes]], list[str]]:
    """Explanations of a few validation pictures, evenly spread; and lines on what is not explained."""
    if weights is None:
        return [], []
    dataset = trainer.test_loader.dataset
    files = [sample[0] for sample in dataset.samples] if trainer.args.task == "classify" else dataset.im_files
    chosen = [Path(files[number]) for number in few(len(files), most=EXAMPLES)]
    return examples(lambda: open_yolo(weights, trainer.args.imgsz), chosen)


def _results(trainer: Any, of: str) -> list[Table]:
    """The scores of all classes together and of each one."""
    metrics = trainer.validator.metrics
    if trainer.args.task == "classify":
        return []
    heads = [key.removeprefix("metrics/") for key in metrics.keys if key.startswith("metrics/")]
    if all(head.endswith("(B)") for head in heads):
        heads = [head.removesuffix("(B)") for head in heads]
    names = trainer.data["names"]
    rows = [["all", *_percents(metrics.mean_results())]]
    if len(names) > 1:
        rows += [
            [str(names[int(c)]), *_percents(metrics.class_result(i))] for i, c in enumerate(metrics.ap_class_index)
        ]
    note = f"In percent, of {of}, on the validation pictures."
    return [Table(["class", *heads], rows, note=note)]


def _percents(values: Any) -> list[str]:
    return [f"{100 * float(value):.1f}" for value in values]


def _curves(rows: list[dict[str, float]]) -> list[Curve]:
    """The scores, and each loss in training and in validation."""
    names = list(dict.fromkeys(key for row in rows for key in row))
    groups: dict[str, dict[str, str]] = {}
    for name in sorted(names, key=lambda one: not one.startswith("metrics/")):
        kind, _, value = name.partition("/")
        if kind == "metrics":
            ending = next(mark for mark in OF if value.endswith(mark))
            groups.setdefault(OF[ending], {})[value.removesuffix(ending)] = name
        elif kind in PARTS:
            part = value.removesuffix("loss").rstrip("_")
            title = f"Loss: {LOSSES.get(part, part)}" if part else "Loss"
            groups.setdefault(title, {})[PARTS[kind]] = name
    return [Curve(title, lines, percent=title in OF.values()) for title, lines in groups.items()]


def _settings(args: Any, network: Any) -> list[tuple[str, str]]:
    """What a reader looks for first, and what differs from Ultralytics' defaults."""
    given: Mapping[str, Any] = vars(args)
    changed = [key for key in given if key in DEFAULT_CFG_DICT and given[key] != DEFAULT_CFG_DICT[key]]
    keys = [key for key in dict.fromkeys((*FIRST, *sorted(changed))) if key in given and key not in HIDDEN]
    pairs = [(key, in_words(given[key])) for key in keys if given[key] is not None]
    yaml, backbone = getattr(network, "yaml", {}), backbone_of(network)
    own = {"backbone": backbone.spec["name"]} if backbone is not None else {}
    own |= {key: yaml[key] for key in OPTIONS if yaml.get(key) and key != "backbone"}
    return pairs + [(key, in_words(value)) for key, value in own.items()]


def _called(network: Any, name: str) -> str:
    """The model's name, and that of its backbone if another one was put in."""
    backbone = backbone_of(network)
    return f"{name} on {backbone.spec['name']}" if backbone is not None and "-timm" in name else name


def _name(metric: str) -> str:
    return {"accuracy_top1": "top-1"}.get(metric[8:], metric[8:].replace("(M)", " of masks").replace("(P)", " of poses")
                                          .replace("(B)", ""))  # fmt: skip
