"""`YOLO`, as Ultralytics users know it, with Dual-ViT models and their options."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ultralytics
from torch import nn
from ultralytics.utils import DEFAULT_CFG_DICT, LOGGER

from dualvit.errors import InputError, OptionError
from dualvit.files import read_yaml
from dualvit.telemetry import without_telemetry
from dualvit.yolo import predict, trainers
from dualvit.yolo.bundle import fill, read_bundle, write_bundle
from dualvit.yolo.checks import (
    is_here,
    read_data,
    require_checkpoint,
    require_data,
    require_given,
    require_labels,
    require_rows,
    require_teacher,
    require_trainable,
    require_tuner,
)
from dualvit.yolo.converters import require_converter, traced_for
from dualvit.yolo.evidence import BOXES, evidenced, name_outputs, require_format
from dualvit.yolo.groups import layer_scales, unwrap
from dualvit.yolo.patches import ends_in_report, runs_here, starts_from, trains_by, yaml_options
from dualvit.yolo.starts import load_start
from dualvit.yolo.trainers import load_backbone_weights, require_ours
from dualvit.yolo.yaml import OPTIONS, RENAMED, with_options

TRAINING_OPTIONS = ("backbone_lr", "layer_decay", "drop_path_rate")  # also for a checkpoint


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Ultralytics' own lines off the screen, its warnings excepted."""
    level = LOGGER.level
    LOGGER.setLevel(logging.WARNING)
    try:
        yield
    finally:
        LOGGER.setLevel(level)


class YOLO(ultralytics.YOLO):
    """Ultralytics' YOLO that also knows `yolov8n-dualvit.yaml`, `yolov8n-timm.yaml` and their relatives.

    Args:
        model: A YAML name or file, or a checkpoint (.pt, or .safetensors of `save_weights`).
        task: detect, segment, classify, pose or obb; read off the model when left out.
        verbose: Print the model's rows.
        backbone: Any timm model with maps at strides 8, 16 and 32, in place of the YAML's own.
        backbone_args: Options of that model, as for `timm.create_model`.
        weights: Checkpoint of the backbone (published .pth, .pth.tar or .safetensors).
            All keys must match. A resumed run does not need the file.
        start: Begin from the weights that the package ships, for the whole model or for its backbone.
        backbone_lr: Factor on the backbone's learning rate, in (0, 1].
        layer_decay: Factor on the learning rate for each layer below the backbone's top, in (0, 1].
        drop_path_rate: Drop path of the backbone's last block.

    All of them may stand in the YAML instead, as top-level keys; a checkpoint keeps them. The first
    four are for a build from YAML, the others also for training on from a checkpoint.

    Raises:
        TypeError: an option of another name.
        ValueError: a backbone or option that cannot be used, and why.

    Example:
        >>> model = YOLO("yolov8n-dualvit.yaml")
        >>> model.task
        'detect'
        >>> model = YOLO("yolov8n-timm.yaml", backbone="convnext_atto", layer_decay=0.8)
    """

    model: Any
    ckpt: Any

    def __init__(
        self,
        model: str | Path = "yolov8n-dualvit.yaml",
        task: str | None = None,
        verbose: bool = False,
        *,
        backbone: str | None = None,
        backbone_args: dict[str, Any] | None = None,
        weights: str | Path | None = None,
        start: bool | None = None,
        backbone_lr: float | None = None,
        layer_decay: float | None = None,
        drop_path_rate: float | None = None,
        **other: Any,
    ) -> None:
        if other:
            name = next(iter(other))
            hint = f"it is called {RENAMED[name]}" if name in RENAMED else f"it takes {', '.join(OPTIONS)}"
            raise OptionError(f"YOLO() has no option {name!r}; {hint}")
        values = (backbone, backbone_args, weights and str(Path(weights).resolve()), start, backbone_lr, layer_decay)
        options = zip(OPTIONS, (*values, drop_path_rate), strict=True)
        self._options: dict[str, Any] = {name: value for name, value in options if value is not None}
        super().__init__(model, task=task, verbose=verbose)

    def _new(self, cfg: str, task: str | None = None, verbose: bool = False, **kwargs: Any) -> None:
        with yaml_options(self._options):
            super()._new(cfg, task=task, verbose=verbose, **kwargs)
        yaml = self.model.yaml
        layer_scales(self.model, yaml.get("layer_decay"), yaml.get("backbone_lr"))  # a bad one is named now
        if weights := yaml.get("weights"):
            load_backbone_weights(self.model, weights)
        if yaml.get("start"):
            load_start(self.model)

    def _load(self, weights: str, task: str | None = None) -> None:
        fixed = [key for key, value in self._options.items() if key not in TRAINING_OPTIONS and value is not False]
        if fixed:
            raise InputError(f"{fixed[0]} is for a build from YAML; {weights} has its backbone already, leave it out")
        if Path(weights).suffix == ".safetensors":
            self._load_bundle(weights)
        else:
            require_checkpoint(weights)
            super()._load(weights, task=task)
            self._leave_teacher()
        if self._options:  # training builds the model again from this YAML
            self.model.yaml = with_options(self.model.yaml, self._options)
            layer_scales(self.model, self._options.get("layer_decay"), self._options.get("backbone_lr"))

    def _load_bundle(self, weights: str) -> None:
        bundle = read_bundle(weights)
        self.task = bundle.task
        self.model = fill(self._smart_load("model"), bundle)
        self.overrides = {"model": str(weights), "task": self.task}
        self.model.args = {**DEFAULT_CFG_DICT, **self.overrides}
        self.model.pt_path = self.ckpt_path = self.model_name = str(weights)
        self.ckpt = {"model": self.model}  # as with a .pt: training starts from these weights
        self.cfg = None

    def _leave_teacher(self) -> None:
        """Take the student out of a checkpoint that was written in the midst of a distillation."""
        student = unwrap(self.model)
        if student is not self.model:
            self.model._remove_feature_hooks()
            for name in ("args", "pt_path", "task"):
                setattr(student, name, getattr(self.model, name))
            self.model = student

    def load(self, weights: Any) -> "YOLO":
        """Load the weights that fit, from a file (.pt, or .safetensors of `save_weights`) or a module."""
        if isinstance(weights, str | Path) and Path(weights).suffix == ".safetensors":
            super().load(type(self)(weights).model)
            self.ckpt = {"model": self.model}  # training starts from these weights, in every version
            return self
        if isinstance(weights, str | Path):
            require_checkpoint(weights)
        return super().load(weights)

    def save_weights(self, path: str | Path, half: bool = True) -> Path:
        """Write weights, YAML and class names to one .safetensors file, which `YOLO(path)` opens.

        Raises:
            ValueError: the path does not end in .safetensors.
        """
        if Path(path).suffix != ".safetensors":
            raise InputError(f"cannot write {path}: end its name in .safetensors")
        return write_bundle(unwrap(self.model), path, half)

    def train(self, trainer: Any = None, report: bool = True, **kwargs: Any) -> Any:
        """Train, as Ultralytics' YOLO does, by its settings; the options of `YOLO` reach the trainer and its workers.

        Args:
            trainer: A trainer class in place of ours; for models on our rows one that is derived from ours.
            report: End in report.html in the run's folder.
            kwargs: Ultralytics' settings, such as data, epochs, imgsz, batch, lr0, device, pretrained, resume.

        Raises:
            ValueError: no `data`, and no run to resume that has them; or a trainer that would lose our options.
            FileNotFoundError: `data`, `pretrained` or `distill_model` is not there.
            ModuleNotFoundError: `quantize=8` without nvidia-modelopt.
        """
        pretrained = kwargs.get("pretrained")
        if isinstance(pretrained, str | Path) and Path(pretrained).suffix == ".safetensors":
            self.load(kwargs.pop("pretrained"))
        elif isinstance(pretrained, str | Path):
            require_checkpoint(pretrained)
        if kwargs.get("distill_model") is not None:
            require_teacher(kwargs["distill_model"], self.task)
        require_trainable(kwargs)
        require_ours(self.model, trainer)
        if not self._train_data(kwargs):
            if kwargs.get("resume") is True and self.ckpt:
                raise InputError(f"{self.ckpt_path} has nothing to resume; give data= to train on from its weights")
            require_given("train", self.task, ["data"])
        if isinstance(kwargs.get("data"), list | tuple):
            for one in kwargs["data"]:
                require_data(one, self.task)
        with self._training(trainer), ends_in_report(report):
            return super().train(trainer, **kwargs)

    @contextmanager
    def _training(self, trainer: Any = None) -> Iterator[None]:
        """Within it, trainings build this model, by its YAML and by our trainer, and their runs go here."""
        start = None if self.ckpt else self.model.yaml  # a start from YAML goes by its name
        with runs_here(), starts_from(start), trains_by(trainer or self._smart_load("trainer")):
            yield

    def tune(self, use_ray: bool = False, iterations: int = 300, *args: Any, **kwargs: Any) -> Any:
        """Search for training settings, as Ultralytics' YOLO does; each trial is a training by `train`'s rules.

        Args:
            use_ray: Refused: Ray's workers do not know the options of `YOLO`.
            iterations: How many trials.
            args: None.
            kwargs: Ultralytics' settings, `data` and `space` among them.

        Raises:
            ValueError: no `data`, `use_ray`, or an Ultralytics whose trials go by the stock command line.
        """
        if use_ray:
            raise InputError(
                "tune(use_ray=True) is not for these models: Ray's workers lose their options; leave it out"
            )
        require_tuner()
        require_trainable(kwargs)
        data: Any = kwargs.get("data")
        if not data:
            require_given("tune", self.task, ["data"])
        for one in data if isinstance(data, list | tuple) else [data]:
            require_data(one, self.task)
        with self._training():
            return super().tune(False, iterations, *args, **kwargs)

    def _train_data(self, settings: dict[str, Any]) -> Any:
        """The data that a training is given; those of a run that is resumed."""
        if settings.get("data") is not None:
            return settings["data"]
        if settings.get("cfg"):
            return read_yaml(Path(settings["cfg"])).get("data")
        resume = settings.get("resume", self.overrides.get("resume"))
        return resume if resume is not True else (self.ckpt or {}).get("epoch", -1) >= 0

    def val(self, *args: Any, **kwargs: Any) -> Any:
        """Validate, as Ultralytics' YOLO does; without `data`, on what the checkpoint was trained on.

        Raises:
            ValueError: no `data`, and the model was trained on none.
            FileNotFoundError: `data` are not there.
        """
        own = kwargs.get("data") is None
        if own:
            kwargs["data"] = self.overrides.get("data")
        if kwargs["data"] is not None:
            require_data(kwargs["data"], self.task)
        if kwargs["data"] is None or (own and not is_here(kwargs["data"])):  # yolov8n.pt would fetch all of COCO
            require_given("val", self.task, ["data"])
        if self.task != "classify" and Path(kwargs["data"]).exists():
            split = kwargs.get("split") or "val"
            data, single = read_data(kwargs["data"], split), bool(kwargs.get("single_cls"))
            require_labels(kwargs["data"], data, split, self.task, every=True, single=single)
        with runs_here():
            return super().val(*args, **kwargs)

    def predict(self, source: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Predict, as Ultralytics' YOLO does.

        Raises:
            ValueError: no `source`, or `embed` with a row that gives no single map.
        """
        if source is None:
            require_given(kwargs.get("mode", "predict"), self.task, ["source"])
        if isinstance(self.model, nn.Module):
            require_rows(kwargs.get("embed") or (), unwrap(self.model).model)
        with runs_here():
            return super().predict(source, *args, **kwargs)

    def export(self, evidence: bool | int = False, **kwargs: Any) -> Any:
        """Export, as Ultralytics' YOLO does, by its settings.

        Args:
            evidence: Let the file also say where its surest boxes come from, in two further outputs, `evidence`
                (B, boxes, H/8, W/8) and `anchors` (B, boxes); see `dualvit.yolo.evidence`. A number says for how many
                boxes; True is 20.
            kwargs: Ultralytics' settings, such as format, imgsz, dynamic, device.

        Raises:
            ValueError: evidence that the model does not have, or that the format does not keep.
            ModuleNotFoundError: the format's converter is not installed.
        """
        settings = {**self.overrides, **kwargs}
        require_converter(settings)
        with traced_for(settings), without_telemetry():
            if evidence is False or evidence is None:
                return super().export(**kwargs)
            boxes = BOXES if evidence is True else int(evidence)
            require_format(settings)
            with evidenced(unwrap(self.model), boxes):
                file = super().export(**kwargs)
        name_outputs(Path(file), boxes, bool(kwargs.get("dynamic")))
        return file

    def benchmark(self, *args: Any, **kwargs: Any) -> Any:
        """Benchmark, as Ultralytics' YOLO does.

        Raises:
            ValueError: no `data`.
        """
        if not args and kwargs.get("data") is None:
            require_given("benchmark", self.task, ["data"])
        with runs_here():
            return super().benchmark(*args, **kwargs)

    @property
    def task_map(self) -> dict[str, dict[str, Any]]:
        """Ultralytics' map from task to classes, with our trainers and predictors."""
        tasks: dict[str, dict[str, Any]] = super().task_map
        ours = {
            "detect": (trainers.DetectionTrainer, predict.DetectionPredictor),
            "segment": (trainers.SegmentationTrainer, predict.SegmentationPredictor),
            "classify": (trainers.ClassificationTrainer, predict.ClassificationPredictor),
            "pose": (trainers.PoseTrainer, predict.PosePredictor),
            "obb": (trainers.OBBTrainer, predict.OBBPredictor),
        }
        for task, (trainer, predictor) in ours.items():
            tasks[task] |= {"trainer": trainer, "predictor": predictor}
        return tasks
