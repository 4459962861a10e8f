"""Ultralytics' five trainers with what a transformer backbone needs: weights, groups, a finite loss.

Differences from the stock trainers, each for models with our rows alone:
- backbone weights are loaded where the model is built for training, all keys or an error;
- no weight decay on layer scales, queries, norms and biases; optional layer-wise lr decay and a
  lower backbone lr; biases of the backbone warm up from 0 (those of neck and head from the stock
  `warmup_bias_lr`, which short runs live on);
- under Adam-like optimizers, a higher lr for N, T and C2fMixer from scratch, see `groups.SCRATCH_LR`;
- a non-finite loss stops the run before the step, and names the first module that produced it;
- a training that `YOLO.train` began ends in report.html.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.data.utils import IMG_FORMATS, img2label_paths
from ultralytics.models import yolo
from ultralytics.utils import LOGGER, RANK
from ultralytics.utils.torch_utils import intersect_dicts

from dualvit.data.images import why_refused
from dualvit.errors import DualViTError, InputError
from dualvit.fast import is_fused
from dualvit.finite import NonFiniteLossError, first_non_finite
from dualvit.names import START
from dualvit.weights import load_backbone
from dualvit.yolo.bundle import read_bundle
from dualvit.yolo.checks import OUTLINES, labels_of, one_line, require_data, require_labels, require_readable
from dualvit.yolo.groups import backbone_of, regroup, unwrap
from dualvit.yolo.patches import reports, start_yaml
from dualvit.yolo.rows import C2fMixer, TimmBackbone
from dualvit.yolo.starts import load_start


def load_backbone_weights(model: nn.Module, path: str | Path) -> str:
    """Load a checkpoint into the backbone of a YOLO model, all keys or an error; returns the report."""
    backbone = backbone_of(model)
    if backbone is None:
        raise InputError("weights is given, but the model YAML has no TimmBackbone row")
    if Path(path).name == START and not Path(path).exists():
        raise InputError("weights is 'start', which is a recipe's word; in YOLO give start=True")
    report = load_backbone(backbone.model, path, backbone.full_network())
    LOGGER.info(f"backbone weights: {report}")
    return str(report)


class DualTrainer:
    """Mixin in front of a stock trainer."""

    args: Any
    data: Any
    save_dir: Path
    device: torch.device
    resume: Any
    model: Any
    loss: Any
    optimizer: Any
    last: Path
    best: Path

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> nn.Module:
        """Build the model; a build from YAML (no checkpoint) also loads the YAML's weights, or its start."""
        if isinstance(weights, nn.Module) and is_fused(weights):
            raise InputError("this model was fused for inference and cannot be trained any more; open its file again")
        if getattr(self.args, "distill_model", None) is not None:
            require_match(self.args.distill_model, self.args.task, self.data["nc"])
        bundle = None
        if isinstance(cfg, str | Path) and (yaml := start_yaml()) is not None:
            cfg = yaml
        elif isinstance(cfg, str | Path) and Path(cfg).suffix == ".safetensors":
            bundle = read_bundle(cfg)  # a DDP worker that knows its model by name
            cfg = bundle.yaml
        model: nn.Module = super().get_model(cfg=cfg, weights=weights, verbose=verbose)  # type: ignore[misc]
        if bundle is not None:
            model.load_state_dict(intersect_dicts(bundle.weights, model.state_dict()), strict=False)
        built: dict[str, Any] = model.yaml  # type: ignore[assignment]
        if weights is None and built.get("weights"):  # several trainings of one model start from what it has loaded
            load_backbone_weights(model, built["weights"])
        if weights is None and bundle is None and built.get("start"):
            load_start(model)
        if not self.resume:  # a resumed run keeps what its YAML says, and so its optimizer's groups
            new = weights is None or (start_yaml() is not None and not hasattr(weights, "pt_path"))
            built["from_scratch"] = new and bundle is None and not (built.get("weights") or built.get("start"))
        # On CUDA Ultralytics sees to it itself, since it has this option; before, it could not fuse such kernels.
        if self.device.type == "cpu" and getattr(self.args, "channels_last", False) is not False:
            model = model.to(memory_format=torch.channels_last)
        return model

    def get_dataset(self) -> Any:
        """Read the data YAML; a missing file or folder, or labels of another task, are one line."""
        name, task = self.args.data, self.args.task
        require_data(name, task)
        with one_line(name):
            try:
                found = super().get_dataset()  # type: ignore[misc]
            except KeyError:  # of the pose trainer
                require_labels(name, {}, "train", task)
                raise
        if task != "classify":
            for split in ("train", "val"):  # older versions return the two folders, and keep the rest
                self._require_labels(split, task in OUTLINES, found if isinstance(found, dict) else self.data)
        return found

    def _require_labels(self, split: str, every: bool, data: Any = None) -> None:
        given = self.data if data is None else data
        require_labels(self.args.data, given, split, self.args.task, every, bool(self.args.single_cls))

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """Build the data set, and stop where an image or label file would be left out unnoticed."""
        task = self.args.task
        try:
            dataset = super().build_dataset(img_path, mode, batch)  # type: ignore[misc]
        except (ValueError, RuntimeError, AssertionError):  # such as of no label that can be read
            if task != "classify":
                self._require_labels(mode, True)
            raise
        if hasattr(dataset, "im_files"):
            listed, kept = dataset.get_img_files(img_path), dataset.im_files
        else:  # classification; a part of the files is wanted where `fraction` says so
            kept = [sample[0] for sample in dataset.samples]
            files = [
                file
                for file in Path(img_path).glob("*/*")
                if file.suffix[1:].lower() in IMG_FORMATS and not file.name.startswith(".")
            ]
            listed = files if self.args.fraction == 1 else kept
        lost = sorted(set(map(str, listed)) - set(map(str, kept)))
        if lost and task != "classify":
            labels = labels_of(self.args.data, self.data, mode, bool(self.args.single_cls))
            files = img2label_paths(lost)
            labels.read_all((Path(picture), Path(file)) for picture, file in zip(lost, files, strict=True))
            lost = [*labels.unreadable, *(why_refused(picture) or str(picture) for picture, _ in labels.pairs)]
        require_readable(self.args.data, mode, lost, len(listed))
        return dataset

    def build_optimizer(
        self, model: nn.Module, name: str = "auto", lr: float = 0.001, momentum: float = 0.9,
        decay: float = 1e-5, iterations: float = 1e5,
    ) -> torch.optim.Optimizer:  # fmt: skip
        """The stock optimizer, its groups split by layer-wise lr and by who needs weight decay."""
        stock: torch.optim.Optimizer = super().build_optimizer(  # type: ignore[misc]
            model=model, name=name, lr=lr, momentum=momentum, decay=decay, iterations=iterations
        )
        bare = unwrap(model)
        if not any(isinstance(m, TimmBackbone | C2fMixer) for m in bare.modules()):
            return stock
        regroup(stock, bare, decay)
        return stock

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Keep the batch, to find the culprit should its loss be non-finite."""
        self._batch: dict[str, Any] = super().preprocess_batch(batch)  # type: ignore[misc]
        return self._batch

    def optimizer_step(self) -> None:
        """Step, unless the loss is non-finite."""
        require_finite(self)
        super().optimizer_step()  # type: ignore[misc]

    def save_model(self) -> Any:
        """Save the checkpoints, each whole: a kill leaves the old one or the new."""
        with self._beside():
            return super().save_model()  # type: ignore[misc]

    def final_eval(self) -> None:
        """Strip the checkpoints of what training needs, each whole, validate the best one, and say where the run is."""
        if RANK not in (-1, 0):
            super().final_eval()  # type: ignore[misc]
            return
        with self._beside():
            for path in (self.last, self.best):
                old = path.with_name(path.name.removeprefix("."))
                if old.exists():
                    shutil.copyfile(old, path)
            super().final_eval()  # type: ignore[misc]
        if not self.args.plots:  # Ultralytics says so with its plots alone
            LOGGER.info(f"Results saved to {self.save_dir}")

    @contextmanager
    def _beside(self) -> Iterator[None]:
        """Let Ultralytics write `.last.pt` and `.best.pt`, which take the places of last.pt and best.pt at the end."""
        last, best = self.last, self.best
        self.last, self.best = (path.with_name(f".{path.name}") for path in (last, best))
        parts = ((self.last, last), (self.best, best))
        try:
            yield
            for part, path in parts:
                if part.exists():
                    with part.open("rb+") as file:
                        os.fsync(file.fileno())
                    part.replace(path)
        finally:
            for part, _ in parts:
                part.unlink(missing_ok=True)
            self.last, self.best = last, best

    def run_callbacks(self, event: str) -> None:
        """Check the loss of batches that only accumulate gradients too; in the end, write the report if it is wanted.

        Ultralytics calls it in the end in the first process alone. What a user has it call then finds the report.
        """
        if event == "on_pretrain_routine_start":
            self._without_stale_raytune()
        if event == "on_train_batch_end":
            require_finite(self)
        if event == "on_train_end" and reports():
            from dualvit.yolo.report import write_report

            write_report(self)
        super().run_callbacks(event)  # type: ignore[misc]

    def _without_stale_raytune(self) -> None:
        """Leave out Ultralytics' callback for Ray Tune if it asks for what the installed Ray has no more.

        Old versions would otherwise fail after the first epoch as soon as Ray is installed, tuned or not.
        """
        stale = sys.modules.get("ultralytics.utils.callbacks.raytune")
        callbacks: dict[str, Any] = getattr(stale, "callbacks", {})
        session = sys.modules.get("ray.train._internal.session")
        for event, callback in callbacks.items():
            asked = "_get_session" in callback.__code__.co_names
            if asked and not hasattr(session, "_get_session"):
                registered = self.callbacks  # type: ignore[attr-defined]
                registered[event] = [one for one in registered[event] if one is not callback]


def require_ours(model: Any, trainer: Any) -> None:
    """Stop where a trainer would leave our options out: the stock ones know a model by name alone.

    Raises:
        ValueError: naming ours.
    """
    ours = isinstance(model, nn.Module) and any(isinstance(m, TimmBackbone | C2fMixer) for m in model.modules())
    if ours and trainer is not None and not (isinstance(trainer, type) and issubclass(trainer, DualTrainer)):
        name = getattr(trainer, "__name__", type(trainer).__name__)
        raise InputError(
            f"trainer={name} would train another model than this one; derive it from a trainer of "
            "dualvit.yolo.trainers, such as DetectionTrainer, or leave it out"
        )


def require_match(teacher: Any, task: str, classes: int) -> None:
    """Stop where a teacher is no trained YOLO, or one for something else.

    Raises:
        ValueError: with what it is, and what is needed.
    """
    from dualvit.yolo.model import YOLO

    if not isinstance(teacher, str | Path):
        return
    try:
        opened = YOLO(teacher)
        count = len(opened.model.names)
    except DualViTError:
        raise
    except Exception as error:  # of any file that is not Ultralytics'
        line = " ".join(str(error).split())[:120]
        raise InputError(
            f"distill_model={teacher} is no trained YOLO ({line}); give its .pt or .safetensors, and let other "
            "networks teach by: dualvit pretrain --teacher"
        ) from None
    if opened.task != task:
        raise InputError(
            f"distill_model={teacher} is a model for {opened.task}, and the task is {task}; give one for it"
        )
    if count != classes:
        raise InputError(
            f"distill_model={teacher} knows {count} classes, and the data have {classes}; give a teacher that was "
            "trained on the same classes"
        )


def require_finite(trainer: Any) -> None:
    """Raise NonFiniteLossError when the trainer's last loss is NaN or infinite."""
    if trainer.loss is None or bool(torch.isfinite(trainer.loss).all()):
        return
    batch = trainer._batch
    culprit = find_culprit(trainer.model, batch)
    raise NonFiniteLossError(
        f"loss is {float(trainer.loss):g} in epoch {trainer.epoch + 1}: first non-finite value in {culprit}. "
        f"Stopped before the optimizer step; checkpoints of earlier epochs are in {trainer.wdir}. "
        "Lower lr0, train with amp=False or amp='bf16', or check these images"
    )


def find_culprit(model: nn.Module, batch: dict[str, Any]) -> str:
    """Where a non-finite value first appears when `batch` runs through `model` once more."""
    if not bool(torch.isfinite(batch["img"]).all()):
        bad = [i for i, image in enumerate(batch["img"]) if not bool(torch.isfinite(image).all())]
        files = batch.get("im_file") or []
        return "the input image " + ", ".join(str(files[i]) if i < len(files) else f"#{i}" for i in bad)
    bare = unwrap(model)
    return first_non_finite(bare, lambda: bare(batch["img"]))


class DetectionTrainer(DualTrainer, yolo.detect.DetectionTrainer):
    """Ultralytics' detection trainer for Dual-ViT models."""


class SegmentationTrainer(DualTrainer, yolo.segment.SegmentationTrainer):
    """Ultralytics' segmentation trainer for Dual-ViT models."""


class ClassificationTrainer(DualTrainer, yolo.classify.ClassificationTrainer):
    """Ultralytics' classification trainer for Dual-ViT models."""


class PoseTrainer(DualTrainer, yolo.pose.PoseTrainer):
    """Ultralytics' pose trainer for Dual-ViT models."""


class OBBTrainer(DualTrainer, yolo.obb.OBBTrainer):
    """Ultralytics' oriented-box trainer for Dual-ViT models."""
