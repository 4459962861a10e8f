"""How our rows get into an unmodified Ultralytics: names, channel rules and YAML files.

Ultralytics has no plug-in interface. Its `parse_model` looks a row's class up among the globals of
`ultralytics.nn.tasks` and finds the channel rule by testing membership in fixed sets of classes.
So registration (a) sets our classes there, (b) gives them a metaclass that compares equal to the
stock class whose rule they follow, and (c) wraps these functions: `parse_model`, to fill in what a
row cannot know (the scale's backbone, its channels), `yaml_model_load`, to find our YAML files by
name and to write their backbone as rows, `get_flops`, which in older versions extrapolates from
one tiny image and so counts a fixed number of semantic tokens hundreds of times, `fuse`, to fold our
parts too, `imread`, `get_img_files`, `check_file_speeds`, `verify_image` and `verify_image_label`, to
leave out what the door of all pictures refuses, the last one, `get_img_files` and `check_det_dataset`
also to find and read the labels that recipes do, `check_dict_alignment`, which answers a mistyped
setting with a page of help, `get_save_dir`, which puts the runs of our `YOLO` into the working
directory, `generate_ddp_file`, whose script tells DDP workers the model YAML with its options,
`MultiTrainer`, which would leave our trainers, and `load_checkpoint` of teachers, to open our files.
"""

import copy
import functools
import importlib
import json
import logging
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import ultralytics
import ultralytics.cfg as settings
import ultralytics.data.base as base
import ultralytics.data.dataset as dataset
import ultralytics.data.loaders as loaders
import ultralytics.data.utils as data_utils
import ultralytics.engine.exporter as engine_exporter
import ultralytics.engine.model as engine_model
import ultralytics.engine.predictor as engine_predictor
import ultralytics.engine.trainer as engine_trainer
import ultralytics.engine.tuner as engine_tuner
import ultralytics.engine.validator as engine_validator
import ultralytics.nn.tasks as tasks
import ultralytics.utils.dist as dist
import ultralytics.utils.torch_utils as torch_utils
from torch import nn
from ultralytics.utils import LOGGER, SETTINGS

from dualvit.command import COMMAND_ENV, command_line
from dualvit.cores import keep_cores
from dualvit.errors import InputError, MissingFileError, StateError
from dualvit.fast import fuse
from dualvit.fast.forms import plain
from dualvit.meta import on_meta
from dualvit.models import unknown_name
from dualvit.telemetry import without_telemetry
from dualvit.yolo import data, pictures
from dualvit.yolo.stock import MODELS, derive, installed
from dualvit.yolo.yaml import OPTIONS, fill_rows, with_options

CFG = Path(__file__).parent / "cfg"
_yaml_options: ContextVar[dict[str, Any]] = ContextVar("yaml_options", default={})  # noqa: B039  (never changed)
YAML_ENV = "DUALVIT_MODEL_YAML"  # of a DDP worker's environment; threads of one process would share it
REPORT_ENV = "DUALVIT_REPORT"  # the same
_start_yaml: ContextVar[dict[str, Any] | None] = ContextVar("start_yaml", default=None)
_runs_here: ContextVar[bool] = ContextVar("runs_here", default=False)
_trains_by: ContextVar[type | None] = ContextVar("trains_by", default=None)
_reports: ContextVar[bool] = ContextVar("reports", default=False)


class ParsesLike(type):
    """Metaclass of rows that compare equal to `parses_like`, the stock class whose rule they follow."""

    parses_like: type

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is cls.parses_like

    def __hash__(cls) -> int:
        return hash(cls.parses_like)


def register(*modules: type) -> None:
    """Make `modules` known to Ultralytics under their class names; calling it again changes nothing.

    Raises:
        RuntimeError: Ultralytics has another class of that name, or parses our rows wrongly.
    """
    for module in modules:
        present = vars(tasks).get(module.__name__)
        if present is not None and present is not module:
            raise StateError(
                f"ultralytics {ultralytics.__version__} already has a module named {module.__name__!r}; "
                "use a version that dualvit supports"
            )
        setattr(tasks, module.__name__, module)
    if not hasattr(tasks.parse_model, "dualvit"):
        _wrap_models()
        _wrap_data()
        _wrap_runs()
        _self_test()


def _wrap_models() -> None:
    """Wrap what builds, counts and fuses models."""
    tasks.parse_model = _wrap(tasks.parse_model, _parse_model)
    wrapped = _wrap(tasks.yaml_model_load, _yaml_model_load)
    tasks.yaml_model_load = engine_model.yaml_model_load = wrapped
    torch_utils.get_flops = _wrap(torch_utils.get_flops, _get_flops)
    tasks.BaseModel.fuse = functools.partialmethod(_fuse, tasks.BaseModel.fuse)


def _wrap_data() -> None:
    """Wrap what finds and reads pictures and labels."""
    dataset.load_dataset_cache_file = _read_cache
    if hasattr(loaders, "imread"):  # older versions call OpenCV itself
        loaders.imread = _wrap(loaders.imread, pictures.read_image)
    for module in (base, dataset):
        if hasattr(module, "check_file_speeds"):
            module.check_file_speeds = _wrap(module.check_file_speeds, pictures.check_file_speeds)
    dataset.verify_image = _wrap(dataset.verify_image, pictures.verify_image)
    for verify in (data.verify_image_label, pictures.verify_image_label):
        dataset.verify_image_label = _wrap(dataset.verify_image_label, verify)
    for listing in (data.get_img_files, pictures.image_files):
        base.BaseDataset.get_img_files = functools.partialmethod(listing, base.BaseDataset.get_img_files)
    wrapped = _wrap(data_utils.check_det_dataset, data.check_det_dataset)
    for owner in (data_utils, engine_exporter, engine_trainer, engine_validator):
        owner.check_det_dataset = wrapped
    data_utils.check_font = lambda *_: None  # reading a data.yaml would ask the network for Arial


def _wrap_runs() -> None:
    """Wrap what begins a run: its settings, its folder, its workers, its teacher, and several in turn."""
    settings.check_dict_alignment = _wrap(settings.check_dict_alignment, _check_settings)
    wrapped = _wrap(settings.get_save_dir, _get_save_dir)
    for owner in (settings, engine_model, engine_predictor, engine_trainer, engine_tuner, engine_validator):
        owner.get_save_dir = wrapped
    dist.generate_ddp_file = _wrap(dist.generate_ddp_file, _generate_ddp_file)
    if (several := getattr(engine_trainer, "MultiTrainer", None)) is not None:  # older versions have none
        several.__init__ = functools.partialmethod(_several, several.__init__)
    if find_spec("ultralytics.nn.distill_model"):
        teaching: Any = importlib.import_module("ultralytics.nn.distill_model")
        teaching.load_checkpoint = _wrap(teaching.load_checkpoint, _load_teacher)


def _wrap(stock: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    wrapper = functools.wraps(stock)(functools.partial(ours, stock))
    wrapper.dualvit = True  # type: ignore[attr-defined]
    return wrapper


def _parse_model(stock: Callable[..., Any], d: dict[str, Any], ch: int, verbose: bool = True) -> Any:
    return stock(fill_rows(d, ch), ch, verbose=verbose)


@contextmanager
def yaml_options(options: dict[str, Any]) -> Iterator[None]:
    """Within it, each model YAML that is loaded gets these options (see `layout.with_options`)."""
    token = _yaml_options.set(options)
    try:
        yield
    finally:
        _yaml_options.reset(token)


def _yaml_model_load(stock: Callable[..., Any], path: str | Path) -> Any:
    return with_options(_read(stock, path), _yaml_options.get())


@contextmanager
def starts_from(yaml: dict[str, Any] | None) -> Iterator[None]:
    """Within it, a training that knows its model by name builds this YAML, in this thread and in its DDP workers."""
    token = _start_yaml.set(yaml)
    try:
        yield
    finally:
        _start_yaml.reset(token)


def start_yaml() -> dict[str, Any] | None:
    """Return the YAML of `starts_from`, in a DDP worker the one that its script was given; None for none."""
    return _start_yaml.get() or json.loads(os.environ.get(YAML_ENV, "null"))


@contextmanager
def trains_by(trainer: type) -> Iterator[None]:
    """Within it, trainings on several data sets and trials of `tune` go by this trainer, in this process."""
    token = _trains_by.set(trainer)
    try:
        yield
    finally:
        _trains_by.reset(token)


@contextmanager
def ends_in_report(wanted: bool) -> Iterator[None]:
    """Within it, each training ends in a page, or does not."""
    token = _reports.set(wanted)
    try:
        yield
    finally:
        _reports.reset(token)


def reports() -> bool:
    """Return whether a training is to end in a page, in a DDP worker too."""
    return _reports.get() or REPORT_ENV in os.environ


def _several(several: Any, stock: Callable[..., None], trainer: Any, *args: Any, **kwargs: Any) -> None:
    """Begin Ultralytics' MultiTrainer, which without a trainer would call the stock command line."""
    stock(several, trainer or _trains_by.get(), *args, **kwargs)


def _load_teacher(stock: Callable[..., Any], weights: Any, *args: Any, **kwargs: Any) -> Any:
    """Open a teacher, also one in a file of `YOLO.save_weights`."""
    if Path(str(weights)).suffix != ".safetensors":
        return stock(weights, *args, **kwargs)
    from dualvit.yolo.model import YOLO

    return YOLO(weights).model, None


def _generate_ddp_file(stock: Callable[..., str], trainer: Any) -> str:
    """Write the script of a DDP worker, which begins with the model YAML, and with what its report needs."""
    file, told = stock(trainer), {}
    if (yaml := start_yaml()) is not None:
        told[YAML_ENV] = json.dumps(yaml, default=str)
    if reports():
        told |= {REPORT_ENV: "1", COMMAND_ENV: command_line()}
    if told:
        script = Path(file)
        lines = f"import os\n\nos.environ.update({told!r})\n"
        script.write_text(lines + script.read_text(encoding="utf-8"), encoding="utf-8")
    return file


def _read(stock: Callable[..., Any], path: str | Path) -> dict[str, Any]:
    """A model YAML, ours or not, with what it takes from another one (`like`)."""
    absent = not Path(path).exists()
    shipped = find_yaml(path) if absent else None
    try:
        d: dict[str, Any] = (derive(str(path)) if absent else None) or stock(shipped or path)
    except FileNotFoundError:
        if len(Path(path).parts) > 1:
            raise MissingFileError(
                f"no model YAML at {path}; the package has its own by name alone, such as yolov8n-dualvit.yaml"
            ) from None
        names = [file.name.replace("yolov8", "yolov8n", 1) for file in MODELS.glob("v8/*.yaml")]
        raise MissingFileError(unknown_name("model YAML", str(path), yaml_names() + names)) from None
    if shipped:
        d |= {"scale": tasks.guess_model_scale(path), "yaml_file": str(path)}
    if like := d.pop("like", None):
        beside = Path(path).with_name(like)
        d = _read(stock, beside if beside.exists() else like) | d
    if last := d.pop("last", None):
        d["head"] = [*d["head"][:-1], last]
    return d


def _get_flops(stock: Callable[..., Any], model: nn.Module, imgsz: int | list[int] = 640) -> Any:
    from dualvit.yolo.rows import C2fMixer, TimmBackbone

    model = getattr(model, "module", model)
    if not any(isinstance(m, TimmBackbone | C2fMixer) for m in model.modules()):
        return stock(model, imgsz)
    import thop  # type: ignore[import-untyped]  # comes with ultralytics

    height, width = imgsz if isinstance(imgsz, list | tuple) else (imgsz, imgsz)
    parameter = next(model.parameters())
    # A transformer's first parameter may be a position table, which says nothing of the image's channels.
    known = (m.spec["in_chans"] for m in model.modules() if isinstance(m, TimmBackbone))
    channels = next(known, parameter.shape[1])
    image = torch.empty(1, channels, height, width, device=parameter.device, dtype=parameter.dtype)
    return 2 * thop.profile(copy.deepcopy(model), inputs=[image], verbose=False)[0] / 1e9


def _fuse(model: nn.Module, stock: Callable[..., Any], verbose: bool = True, *args: Any, **kwargs: Any) -> nn.Module:
    from dualvit.yolo.rows import transformer_parts

    for part in transformer_parts(model):
        plain(fuse(part.eval()))
    fused: nn.Module = stock(model, verbose, *args, **kwargs)
    return fused


ARRAYS = {"_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer"}  # what a pickled array is made by


class _Plain(pickle.Unpickler):
    """Unpickles arrays and plain values, and calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "numpy" and name in ARRAYS:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no array")


def _read_cache(path: str | Path) -> Any:
    """What Ultralytics knows of a data set's labels; a cache with more than that in it is made again.

    It is a pickle in a folder that people download, beside pictures and labels.

    Raises:
        FileNotFoundError: there is none, or one that Ultralytics did not write; it then reads the labels.
    """
    try:
        with Path(path).open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            if read(file)[0] != ():
                raise InputError("it is no single object")
            cache = _Plain(file).load().item()
            if len(cache["results"]) == 5 and cache["results"][3]:
                raise InputError("it leaves label files out, some of which only we read")
            return cache
    except Exception:  # unpickling raises many kinds
        raise MissingFileError(f"no cache that is plain at {path}") from None


def _check_settings(
    stock: Callable[..., Any], base: dict[str, Any], custom: dict[str, Any], *args: Any, **kwargs: Any
) -> None:
    """Ultralytics' check of names, its deprecated ones included, with one line for those that it does not know."""

    def no_help(record: logging.LogRecord) -> bool:
        return record.msg != settings.CLI_HELP_MSG

    LOGGER.addFilter(no_help)
    try:
        stock(base, custom, *args, **kwargs)
    except SyntaxError as error:
        unknown = [name for name in custom if name not in base and name in str(error)]
        ours = [f"{name} goes to YOLO(...), not here" for name in unknown if name in OPTIONS]
        other = [unknown_name("setting", name, [*base, *OPTIONS]) for name in unknown if name not in OPTIONS]
        raise SyntaxError("; ".join([*other, *ours])) from None
    finally:
        LOGGER.removeFilter(no_help)


@contextmanager
def runs_here() -> Iterator[None]:
    """Within it, a run that begins goes to the working directory, and a runtime that it opens tells no server."""
    token = _runs_here.set(True)
    try:
        with without_telemetry():
            yield
    finally:
        keep_cores()
        _runs_here.reset(token)


def _get_save_dir(stock: Callable[..., Any], args: Any, name: str | None = None) -> Any:
    """The folder of a run: `project` from the working directory on, or runs/TASK where there is no `project`."""
    if not _runs_here.get() or getattr(args, "save_dir", None):
        return stock(args, name)
    project = args.project or _chosen_runs_dir() / args.task
    return stock(SimpleNamespace(**{**vars(args), "project": str(Path(project).absolute())}), name)


def _chosen_runs_dir() -> Path:
    """The setting `runs_dir` if a user made it; Ultralytics by itself writes the checkout that its package is in."""
    place = Path(SETTINGS["runs_dir"])
    derived = str(place) == SETTINGS.defaults["runs_dir"] or (place.name == "runs" and (place.parent / ".git").exists())
    return Path("runs") if derived else place


def find_yaml(path: str | Path) -> Path | None:
    """Our YAML file for a name such as `yolov8n-c2fdual.yaml`, or None; a path with a folder is a user's own."""
    name = str(path)
    for file in CFG.glob("*.yaml"):
        family, _, rest = file.name.partition("-")
        if name in {file.name, *(f"{family}{scale}-{rest}" for scale in "nsmlx")}:
            return file
    return None


def yaml_names() -> list[str]:
    """The names of our model YAMLs, files and derived ones, each at its smallest scale."""
    files = sorted(file.name.replace("yolov8-", "yolov8n-", 1) for file in CFG.glob("*.yaml"))
    return [*installed(), *files]


def _self_test() -> None:
    """Parse a three-row YAML and compare channels, repeats and strides with what they must be."""
    rows = [
        [-1, 1, "TimmBackbone", [{"name": "dualvit_n"}]],
        [0, 1, "FeatureMap", [1]],
        [-1, 2, "C2fDual", [256]],
    ]
    yaml = {"nc": 1, "scales": {"n": [1.0, 0.5, 1024]}, "scale": "n", "backbone": rows, "head": []}
    try:
        with on_meta():
            model, _ = tasks.parse_model(yaml, ch=3, verbose=False)
            maps = model[0](torch.empty(1, 3, 64, 64))
            out = model[2](model[1](maps))
        strides = [64 // m.shape[-1] for m in maps]
        parsed = (tuple(out.shape), len(model[2].m), strides)
    except Exception as error:
        parsed = (f"{type(error).__name__}: {error}",)  # type: ignore[assignment]
    if parsed != ((1, 128, 4, 4), 2, [8, 16, 32]):
        raise StateError(
            f"ultralytics {ultralytics.__version__} parses dualvit's rows wrongly ({parsed}); "
            "install a version from 8.2.103 on, below 9"
        )
