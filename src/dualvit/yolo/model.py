"""`YOLO`, as Ultralytics users know it, with Dual-ViT models and their options."""

import json
import os
from pathlib import Path
from typing import Any

import ultralytics
from ultralytics.utils import DEFAULT_CFG_DICT

from dualvit.yolo import predict, train
from dualvit.yolo.bundle import fill, read_bundle, write_bundle
from dualvit.yolo.checks import require_checkpoint, require_data
from dualvit.yolo.layout import OPTIONS, with_options
from dualvit.yolo.register import yaml_options
from dualvit.yolo.train import YAML_ENV, layer_scales, load_backbone_weights

TRAINING_OPTIONS = ("backbone_lr", "layer_decay", "drop_path_rate")  # also for a checkpoint


class YOLO(ultralytics.YOLO):
    """Ultralytics' YOLO that also knows `yolov8n-dualvit.yaml`, `yolov8n-timm.yaml` and their relatives.

    Args:
        model: A YAML name or file, or a checkpoint (.pt, or .safetensors of `save_weights`).
        task: detect, segment, classify, pose or obb; read off the model when left out.
        verbose: Print the model's rows.
        backbone: Any timm model with maps at strides 8, 16 and 32, in place of the YAML's own.
        backbone_args: Options of that model, as for `timm.create_model`.
        backbone_weights: Checkpoint of the backbone (published .pth, .pth.tar or .safetensors).
            All keys must match. A resumed run does not need the file.
        backbone_lr: Factor on the backbone's learning rate, in (0, 1].
        layer_decay: Factor on the learning rate for each layer below the backbone's top, in (0, 1].
        drop_path_rate: Drop path of the backbone's last block.

    All of them may stand in the YAML instead, as top-level keys; a checkpoint keeps them. The first
    three are for a build from YAML, the others also for training on from a checkpoint.

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
        self, model: str | Path = "yolov8n-dualvit.yaml", task: str | None = None, verbose: bool = False,
        **options: Any,
    ) -> None:  # fmt: skip
        unknown = sorted(set(options) - set(OPTIONS))
        if unknown:
            raise TypeError(f"YOLO() has no option {unknown[0]!r}; it takes {', '.join(OPTIONS)}")
        self._options = {key: value for key, value in options.items() if value is not None}
        if "backbone_weights" in self._options:
            self._options["backbone_weights"] = str(Path(self._options["backbone_weights"]).resolve())
        super().__init__(model, task=task, verbose=verbose)

    def _new(self, cfg: str, task: str | None = None, verbose: bool = False, **kwargs: Any) -> None:
        with yaml_options(self._options):
            super()._new(cfg, task=task, verbose=verbose, **kwargs)
        yaml = self.model.yaml
        layer_scales(self.model, yaml.get("layer_decay"), yaml.get("backbone_lr"))  # a bad one is named now
        if weights := yaml.get("backbone_weights"):
            load_backbone_weights(self.model, weights)

    def _load(self, weights: str, task: str | None = None) -> None:
        fixed = [key for key in self._options if key not in TRAINING_OPTIONS]
        if fixed:
            raise ValueError(f"{fixed[0]} is for a build from YAML; {weights} has its backbone already, leave it out")
        if Path(weights).suffix == ".safetensors":
            self._load_bundle(weights)
        else:
            require_checkpoint(weights)
            super()._load(weights, task=task)
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
            raise ValueError(f"cannot write {path}: end its name in .safetensors")
        return write_bundle(self.model, path, half)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, as Ultralytics' YOLO does; the options reach the trainer and its DDP workers."""
        pretrained = kwargs.get("pretrained")
        if isinstance(pretrained, str | Path) and Path(pretrained).suffix == ".safetensors":
            self.load(kwargs.pop("pretrained"))
        elif isinstance(pretrained, str | Path):
            require_checkpoint(pretrained)
        if not self.ckpt:  # a start from YAML: trainers know it by name alone
            os.environ[YAML_ENV] = json.dumps(self.model.yaml, default=str)
        try:
            return super().train(*args, **kwargs)
        finally:
            os.environ.pop(YAML_ENV, None)

    def val(self, *args: Any, **kwargs: Any) -> Any:
        """Validate, as Ultralytics' YOLO does."""
        if kwargs.get("data") is not None:
            require_data(kwargs["data"], self.task)
        return super().val(*args, **kwargs)

    @property
    def task_map(self) -> dict[str, dict[str, Any]]:
        """Ultralytics' map from task to classes, with our trainers and predictors."""
        tasks: dict[str, dict[str, Any]] = super().task_map
        ours = {
            "detect": (train.DetectionTrainer, predict.DetectionPredictor),
            "segment": (train.SegmentationTrainer, predict.SegmentationPredictor),
            "classify": (train.ClassificationTrainer, predict.ClassificationPredictor),
            "pose": (train.PoseTrainer, predict.PosePredictor),
            "obb": (train.OBBTrainer, predict.OBBPredictor),
        }
        for task, (trainer, predictor) in ours.items():
            tasks[task] |= {"trainer": trainer, "predictor": predictor}
        return tasks
