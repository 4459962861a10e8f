"""What a user gives: named where it is missing, and looked for here before Ultralytics looks on the network."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

import ultralytics.data.utils as data_utils
import ultralytics.engine.trainer as engine_trainer
from ultralytics import __version__
from ultralytics.engine.tuner import Tuner
from ultralytics.utils import DATASETS_DIR, DEFAULT_CFG_DICT, LOGGER, SETTINGS
from ultralytics.utils.checks import check_file, check_yolov5u_filename
from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES, GITHUB_ASSETS_STEMS

from dualvit.data.yolo_labels import SHOWN, Labels, Pair, first, read_rows
from dualvit.data.yolo_layout import find_yaml, images_of
from dualvit.errors import DualViTError, InputError, MissingExtraError, MissingFileError
from dualvit.families import SUFFIXES
from dualvit.yolo.data import BOX, pairs_of
from dualvit.yolo.patches import yaml_names

OUTLINES = {"segment": "polygons (class x y x y ...)", "obb": "four corners (class x y x y x y x y)"}


def require_given(mode: str, task: str, missing: Iterable[str]) -> None:
    """Stop where a mode lacks what Ultralytics would replace by a model or data set of its own.

    Args:
        mode: train, val, predict and so on.
        task: Whose models and data the message names.
        missing: Some of model, data and source.

    Raises:
        ValueError: there is any; with an example of each.
    """
    names = list(missing)
    if not names:
        return
    ours = [name for name in yaml_names() if _task_of(name) == task]
    examples = {
        "model": f"yolov8n-dualvit{SUFFIXES.get(task, '')}.yaml" if mode == "train" else "best.pt",
        "data": "FOLDER" if task == "classify" else "data.yaml",
        "source": "video.mp4" if mode == "track" else "FOLDER",
    }
    line = f"{mode} needs {' and '.join(f'{name}=' for name in names)}, such as " + " ".join(
        f"{name}={examples[name]}" for name in names
    )
    if "model" in names and ours:
        line += f"; for {task} there are {', '.join(ours)} (scales n s m l x), and checkpoints such as best.pt"
    if "data" in names:
        line += "; a small data set is made by: dualvit data digits FOLDER"
    raise InputError(line)


def _task_of(name: str) -> str:
    return next((task for task, suffix in SUFFIXES.items() if suffix and f"{suffix}." in name), "detect")


def require_checkpoint(weights: str | Path) -> None:
    """Stop where a checkpoint is neither here, nor a URL, nor one of Ultralytics' own names, which it fetches.

    A path with a folder is never fetched: who gives one means a file of theirs.

    Raises:
        FileNotFoundError: with the nearest names.
    """
    path = Path(weights)
    if "://" in str(weights) or path.exists() or (Path(SETTINGS["weights_dir"]) / path).exists():
        return
    if len(path.parts) == 1:
        name = str(check_yolov5u_filename(path.name, verbose=False))  # yolov5n.pt is yolov5nu.pt by now
        if name in GITHUB_ASSETS_NAMES or name in GITHUB_ASSETS_STEMS:
            return
    raise MissingFileError(f"no checkpoint at {weights}; {_remedy(path)}")


def require_teacher(weights: Any, task: str) -> None:
    """Stop where Ultralytics cannot learn from a teacher, or not from this one.

    Raises:
        ValueError: an Ultralytics without distillation, a task that it does not teach, or a file that is no checkpoint.
        FileNotFoundError: no such checkpoint.
    """
    if "distill_model" not in DEFAULT_CFG_DICT:
        raise InputError(f"distill_model needs a newer Ultralytics than {__version__}; leave it out, or update it")
    pretraining = "dualvit pretrain --teacher"
    if task == "classify":
        raise InputError(f"distill_model: Ultralytics teaches no task classify; leave it out, or use: {pretraining}")
    if not isinstance(weights, str | Path):
        return
    if Path(weights).suffix not in (".pt", ".safetensors"):
        raise InputError(
            f"distill_model={weights} is no trained YOLO; give its .pt or .safetensors, and let other networks teach "
            f"by: {pretraining}"
        )
    require_checkpoint(weights)


def require_trainable(settings: Mapping[str, Any]) -> None:
    """Stop where a training asks for what this machine or this Ultralytics lacks.

    Raises:
        ModuleNotFoundError: `quantize=8` without nvidia-modelopt.
        ValueError: several data sets, and an Ultralytics that takes one.
    """
    if str(settings.get("quantize")).lower() in ("8", "int8") and find_spec("modelopt") is None:
        raise MissingExtraError(
            "quantize=8 trains by nvidia-modelopt, which is not installed; install it, or leave it out"
        )
    data = settings.get("data")
    if isinstance(data, list | tuple):
        if not hasattr(engine_trainer, "MultiTrainer"):
            raise InputError(
                f"data=[...] needs a newer Ultralytics than {__version__}; train on one set after the other"
            )
        if not data:
            raise InputError("data=[] names no data set; give at least one, such as data.yaml")


def require_tuner() -> None:
    """Stop where trials of `tune` would go by the stock command line, which does not know our models.

    Raises:
        ValueError: an Ultralytics that is too old.
    """
    if "model" not in signature(Tuner.__init__).parameters:
        raise InputError(
            f"tune needs a newer Ultralytics than {__version__}, whose trials would lose the options of these models; "
            "update it, or find a rate by: dualvit compare with sweep: true"
        )


def require_rows(indices: Iterable[Any], model: Any) -> None:
    """Stop where embeddings are asked of a row that gives no single map.

    Raises:
        ValueError: with the rows that give one.
    """
    last = len(model) - 2  # behind it comes the head
    for index in indices:
        if type(index) is not int or not 0 <= index <= last:
            raise InputError(f"embed: {index!r} is no row before the head; give rows from 0 to {last}")
        if type(model[index]).__name__ == "TimmBackbone":
            raise InputError(
                f"embed: row {index} gives three maps at once; give {index + 1}, {index + 2} or {index + 3}"
            )


def _remedy(path: Path) -> str:
    beside = [file.name for file in path.parent.iterdir() if not file.is_dir()] if path.parent.is_dir() else []
    known: Iterable[str] = [*beside, *yaml_names(), *GITHUB_ASSETS_NAMES] if len(path.parts) == 1 else beside
    if near := get_close_matches(path.name, list(known), n=3):
        return f"did you mean {', '.join(str(path.with_name(name)) for name in near)}?"
    return "give the .pt or .safetensors file of a run, or a model such as yolov8n-dualvit.yaml or yolov8n.pt"


def require_data(data: str | Path, task: str) -> None:
    """Stop where a data set that is named by its path is not there, or is for another task.

    Data sets that Ultralytics knows by name (coco8.yaml, cifar10) are left to it.

    Raises:
        FileNotFoundError: with what to give instead.
        ValueError: a folder of classes where a data.yaml is needed, or the reverse.
    """
    path = Path(data)
    if "://" in str(data):
        return
    classes = "a folder with train and val, and in each a folder for each class"
    if path.exists():
        described = find_yaml(path) is not None
        labelled = described or all((path / name).is_dir() for name in ("images", "labels"))
        if task == "classify" and labelled and not (path / "train").is_dir():
            raise InputError(f"data {data} is for detection and its like; task classify needs {classes}")
        if task != "classify" and path.is_dir() and not described:
            raise InputError(f"data {data} is a folder without a data.yaml, which task {task} needs; give its path")
        return
    if task == "classify":
        if len(path.parts) > 1 and not (DATASETS_DIR / path).exists():
            raise MissingFileError(f"no data set at {data}; give {classes}")
    elif not check_file(str(data), download=False, hard=False):
        raise MissingFileError(
            f"no data set at {data}; give the path of a data.yaml, or make one with: dualvit data digits FOLDER"
        )


def is_here(data: str | Path) -> bool:
    """Whether a data set is on this machine, and need not be fetched by its name."""
    return Path(data).exists() or (DATASETS_DIR / data).exists()


@contextmanager
def one_line(data: str | Path) -> Iterator[None]:
    """Within it, what Ultralytics says of a data YAML's folders is one line with the remedy."""
    try:
        yield
    except (RuntimeError, FileNotFoundError) as error:
        told = error.__cause__ or error
        if isinstance(told, DualViTError):
            raise told from None
        lines = [line.strip() for line in str(told).splitlines() if line.strip()]
        raise MissingFileError(
            f"data {data}: {lines[0] if lines else error}; make its folders, or correct `path`, `train` and `val` in it"
        ) from error


def read_data(data: str | Path, split: str = "") -> dict[str, Any]:
    """Return what Ultralytics reads of a data.yaml, or of a folder with one; nothing is fetched.

    Raises:
        FileNotFoundError: its folders are missing.
        ValueError: its classes or places are wrong.
    """
    options = {"split": split} if split and "split" in signature(data_utils.check_det_dataset).parameters else {}
    with one_line(data):
        found: dict[str, Any] = data_utils.check_det_dataset(str(data), autodownload=False, **options)
    return found


def require_labels(
    name: str | Path, data: dict[str, Any], split: str, task: str, every: bool = False, single: bool = False
) -> None:
    """Stop where the labels of a split are for another task, or there are none to learn from or to score.

    Args:
        name: Of the data set, for the message.
        data: What Ultralytics read of its YAML.
        split: train, val or test.
        task: Of the model.
        every: Look at every label file, and not only at the first that has objects.
        single: All classes count as one.

    Raises:
        ValueError: with the file; one cannot be read; or there are no labels.
    """
    shape = data.get("kpt_shape")
    if task == "pose" and not shape:
        raise InputError(
            f"data {name} has no kpt_shape, so its labels hold no keypoints, and task pose needs them; "
            "add it, such as kpt_shape: [17, 3], or use task detect"
        )
    if not data.get(split):
        return
    labels, pairs = labels_of(name, data, split, single), pairs_of(name, data, split)
    for picture, file in pairs:
        if labels.objects and not every:
            labels.glance(picture, file)
        elif labels.read(picture, file):
            _require_kind(name, file, task, shape)
    labels.require_some()
    if every:
        require_readable(name, split, labels.unreadable, len(pairs))
    for note in (*labels.notes(), *_other_formats(name, data, split, pairs)):
        LOGGER.warning(note)


def labels_of(name: str | Path, data: dict[str, Any], split: str, single: bool = False) -> Labels:
    """Return a reader of the label files of what Ultralytics read of a data.yaml."""
    shape = data.get("kpt_shape")
    return Labels(f"data {name}", split, None if single else len(data["names"]), shape[0] * shape[1] if shape else 0)


def require_readable(name: str | Path, split: str, lost: Sequence[str], total: int) -> None:
    """Stop where pictures or labels cannot be read, which Ultralytics leaves out.

    Raises:
        ValueError: there is any; with the first of them.
    """
    if lost:
        raise InputError(
            f"data {name}: {len(lost)} of {total} {split} images or their labels cannot be read: "
            f"{'; '.join(lost[:SHOWN])}{'; ...' if len(lost) > SHOWN else ''}; repair or remove them"
        )


def _other_formats(name: str | Path, data: dict[str, Any], split: str, pairs: Sequence[Pair]) -> list[str]:
    """A line on images that recipes read and Ultralytics does not list."""
    places = data[split] if isinstance(data[split], list) else [data[split]]
    known = {str(picture) for picture, _ in pairs}
    others = [str(file) for place in places for file in images_of(Path(place)) if str(file) not in known]
    count = f"data {name} {split}: {len(others)} of {len(others) + len(pairs)} images have"
    return [f"{count} a format that Ultralytics leaves out: {first(others, len(others))}"] if others else []


def _require_kind(name: str | Path, file: Path, task: str, shape: Any) -> None:
    """Hold the lines of a label file to what a task needs."""
    posed = BOX + shape[0] * shape[1] if shape else 0
    numbers = {len(words) for _, words in read_rows(file)}
    if task in OUTLINES and numbers & {BOX, posed}:
        kind = "boxes" if BOX in numbers else "keypoints"
        raise InputError(
            f"data {name}: its labels are {kind}, and task {task} needs {OUTLINES[task]}; the first is {file}; "
            f"use task {'detect' if kind == 'boxes' else 'pose'}, or label outlines"
        )
    if task == "pose" and numbers != {posed}:
        raise InputError(
            f"data {name}: a line of {file} has {min(numbers - {posed})} numbers, and with kpt_shape {shape} "
            f"task pose needs {posed}: class x y width height, and the keypoints; correct it, or use task detect"
        )
