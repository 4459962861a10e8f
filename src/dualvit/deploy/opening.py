"""The door of what predicts in PyTorch: checkpoints of recipes and of YOLO, which are imported here alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dualvit.backbones.maps import moments
from dualvit.deploy.metadata import Metadata
from dualvit.deploy.predictor import Run
from dualvit.deploy.seeing import See, seeing, whole
from dualvit.deploy.sources import RANDOM, open_name
from dualvit.errors import InputError
from dualvit.fast import fuse

Opened = tuple[Metadata, See, Run]


def open_recipe(checkpoint: Path, image_size: int | None = None) -> Opened:
    """Open a checkpoint of `dualvit recipe fit`, of any task but pretraining.

    Raises:
        ValueError: it is no checkpoint of a recipe, or not of these tasks.
    """
    from dualvit.recipes.run import load

    task: Any = load(checkpoint)
    makers = {"classify": _classifier, "detect": _detector, "semantic": _segmenter}
    if task.recipe.task not in makers:
        raise InputError(f"{checkpoint} is a model for {task.recipe.task}, which predicts nothing of a picture")
    if image_size is not None and task.recipe.task != "classify":
        raise InputError(f"{checkpoint} keeps its own size of pictures; leave --image-size out")
    task.requires_grad_(False)
    return makers[task.recipe.task](task, checkpoint.stem, image_size)


def _classifier(task: Any, name: str, image_size: int | None) -> Opened:
    data = task.recipe.data
    mean, std = moments(task.network)
    size = image_size or data.image_size
    about = Metadata(
        name, "classify", task.classes, (size, size), _three(mean), _three(std), data.crop_pct, "crop", "bicubic"
    )
    return about, seeing(about), split(fuse(task.network.eval()))


def _detector(task: Any, name: str, image_size: int | None) -> Opened:
    data, masks = task.recipe.data, task.recipe.detector == "mask-rcnn"
    names = ("boxes", "labels", "scores", *(["masks"] if masks else []))
    about = Metadata(
        name, "segment" if masks else "detect", task.classes, (data.sides[-1], data.long_side), resize="shortest",
        interpolation="bilinear", head="torchvision", outputs=names,
    )  # fmt: skip
    network = task.network.eval()

    def run(images: Tensor) -> list[Sequence[Tensor]]:
        return [tuple(answer[key] for key in names) for answer in network(list(images))]

    return about, whole, run  # the network resizes by itself


def _segmenter(task: Any, name: str, image_size: int | None) -> Opened:
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    data = task.recipe.data
    about = Metadata(
        name, "semantic", task.classes, (data.short_side,) * 2, _three(IMAGENET_DEFAULT_MEAN),
        _three(IMAGENET_DEFAULT_STD), resize="tiles", interpolation="bilinear", tile=data.image_size,
        tile_stride=data.tile_stride(),
    )  # fmt: skip
    return about, seeing(about), tiled(split(task.network.eval()), about, data.blending)


def open_yolo(checkpoint: Path, image_size: int | None = None) -> Opened:
    """Open a checkpoint of YOLO, ours or a stock one, of classes, boxes or masks.

    Raises:
        ValueError: it cannot be used, or is for another task.
    """
    from dualvit.yolo.explained import trained_size
    from dualvit.yolo.groups import unwrap
    from dualvit.yolo.model import YOLO

    model = YOLO(checkpoint)
    if model.task not in ("classify", "detect", "segment"):
        raise InputError(f"{checkpoint} is a model for {model.task}; dualvit yolo {model.task} predict takes it")
    network: Any = unwrap(model.model).float().eval()
    classes = tuple(str(model.names[label]) for label in range(len(model.names)))
    size = (image_size or trained_size(model, 224 if model.task == "classify" else 640),) * 2
    if model.task == "classify":
        about = Metadata(checkpoint.stem, "classify", classes, size, interpolation="bilinear", head="yolo")
    else:
        head = "yolo-free" if getattr(network, "end2end", False) else "yolo"
        stride = int(max(network.stride))
        size = tuple(-(side // -stride) * stride for side in size)  # type: ignore[assignment]
        about = Metadata(checkpoint.stem, model.task, classes, size, resize="letterbox", head=head, stride=stride)  # type: ignore[arg-type]
    return about, seeing(about), split(_exported(network))


def _exported(network: Any) -> nn.Module:
    """A network of YOLO that answers as its exported files do: one form in all versions of Ultralytics."""
    from dualvit.yolo.export import as_exported

    exported: Any = as_exported(network)
    fused: nn.Module = exported.fuse(verbose=False).requires_grad_(False)
    return fused


def open_timm(name: str, weights: str | None, image_size: int | None = None) -> Opened:
    """Open a timm classifier with a file of weights, as `dualvit export` opens it.

    Raises:
        ValueError: there are no weights, they do not fit, or they are of a backbone without classes.
    """
    if weights is None or weights == RANDOM:
        raise InputError(f"{name} is a timm name, and without weights it knows nothing; give --weights FILE")
    source, _ = open_name(name, weights, image_size, features=False)
    if source.metadata.head == "maps":
        raise InputError(f"{weights} holds a backbone, which tells no classes apart; give weights of a classifier")
    network = fuse(source.network.eval().float().requires_grad_(False))
    return source.metadata, seeing(source.metadata), split(network)


def split(network: nn.Module) -> Run:
    """Return a network as what `Predictor` runs: images (B, 3, H, W) to the outputs of each."""

    def run(images: Tensor) -> list[Sequence[Tensor]]:
        out = network(images)
        outputs = [out] if isinstance(out, Tensor) else [value for value in out if isinstance(value, Tensor)]
        return list(zip(*outputs, strict=True))

    return run


def tiled(run: Run, about: Metadata, blending: Any = "mean") -> Run:
    """Return what runs a network of squares over images of any size: tiles that overlap, averaged."""
    from dualvit.recipes.semantic.tiles import slide

    def network(tiles: Tensor) -> Tensor:
        return torch.stack([outputs[0] for outputs in run(tiles)])

    return lambda images: [(slide(network, one, about.tile, about.tile_stride, blending),) for one in images]


def best_classes(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the class of each pixel, int64 of `size`, of logits (classes, H, W) that are enlarged to it."""
    from dualvit.recipes.semantic.tiles import enlarged_argmax

    return enlarged_argmax(logits, size)


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
