"""`YOLO`, as Ultralytics users know it, with Dual-ViT models and their options."""

import json
import os
from pathlib import Path
from typing import Any

import ultralytics
from ultralytics.utils import DEFAULT_CFG_DICT

from dualvit.yolo import predict, train
from dualvit.yolo.bundle import fill, read_bundle, write_bundle
from dualvit.yolo.train import OPTIONS, YAML_ENV, load_backbone_weights


class YOLO(ultralytics.YOLO):
    """Ultralytics' YOLO that also knows `yolov8n-dualvit.yaml` and its relatives.

    Args:
        model: A YAML name or file, or a checkpoint (.pt, or .safetensors of `save_weights`).
        task: detect, segment, classify, pose or obb; read off the model when left out.
        verbose: Print the model's rows.
        backbone_weights: Checkpoint of the backbone (published .pth, .pth.tar or .safetensors).
            All keys must match. A build from YAML only; a resumed run does not need the file.
        backbone_lr: Factor on the backbone's learning rate, in (0, 1].
        layer_decay: Factor on the learning rate for each layer below the backbone's top, in (0, 1].
        drop_path_rate: Drop path of the backbone's last block.

    The four options may stand in the YAML instead, as top-level keys; a checkpoint keeps them.

    Example:
        >>> model = YOLO("yolov8n-dualvit.yaml")
        >>> model.task
        'detect'
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
        super()._new(cfg, task=task, verbose=verbose, **kwargs)
        if self._options:  # build again, with the options in the YAML
            args = self.model.args
            self.model = type(self.model)({**self.model.yaml, **self._options}, verbose=False)
            self.model.args, self.model.task = args, self.task
        if weights := self.model.yaml.get("backbone_weights"):
            load_backbone_weights(self.model, weights)

    def _load(self, weights: str, task: str | None = None) -> None:
        if Path(weights).suffix != ".safetensors":
            super()._load(weights, task=task)
            return
        bundle = read_bundle(weights)
        self.task = bundle.task
        self.model = fill(self._smart_load("model")(bundle.yaml, verbose=False), bundle)
        self.overrides = {"model": str(weights), "task": self.task}
        self.model.args = {**DEFAULT_CFG_DICT, **self.overrides}
        self.model.pt_path = self.ckpt_path = self.model_name = str(weights)
        self.ckpt = {"model": self.model}  # as with a .pt: training starts from these weights
        self.cfg = None

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
        if not self.ckpt:  # a start from YAML: trainers know it by name alone
            os.environ[YAML_ENV] = json.dumps(self.model.yaml, default=str)
        try:
            return super().train(*args, **kwargs)
        finally:
            os.environ.pop(YAML_ENV, None)

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
