"""`YOLO`, as Ultralytics users know it, with Dual-ViT models and their options."""

import json
import os
from pathlib import Path
from typing import Any

import ultralytics

from dualvit.yolo import train
from dualvit.yolo.train import OPTIONS, YAML_ENV, load_backbone_weights


class YOLO(ultralytics.YOLO):
    """Ultralytics' YOLO that also knows `yolov8n-dualvit.yaml` and its relatives.

    Args:
        model: A YAML name or file, or a checkpoint.
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

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, as Ultralytics' YOLO does; the options reach the trainer and its DDP workers."""
        if self.ckpt is None:  # a start from YAML: trainers know it by name alone
            os.environ[YAML_ENV] = json.dumps(self.model.yaml, default=str)
        try:
            return super().train(*args, **kwargs)
        finally:
            os.environ.pop(YAML_ENV, None)

    @property
    def task_map(self) -> dict[str, dict[str, Any]]:
        """Ultralytics' map from task to classes, with our trainers."""
        tasks: dict[str, dict[str, Any]] = super().task_map
        ours = {
            "detect": train.DetectionTrainer,
            "segment": train.SegmentationTrainer,
            "classify": train.ClassificationTrainer,
            "pose": train.PoseTrainer,
            "obb": train.OBBTrainer,
        }
        return {task: {**classes, **({"trainer": ours[task]} if task in ours else {})} for task, classes in tasks.items()}
