"""The door of what is exported: timm's names, and checkpoints of recipes and of YOLO, imported here alone."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from timm.data import resolve_data_config
from torch import Tensor, nn

import dualvit
from dualvit.deploy.metadata import Metadata
from dualvit.errors import InputError, MissingFileError
from dualvit.meta import on_meta
from dualvit.models import create_model
from dualvit.names import START
from dualvit.weights import load_backbone, read_checkpoint, sha256
from dualvit.weights.starts import start_file

RANDOM = "random"  # in place of a file of weights: for a trial of a format before anything is trained
SEED = 0


@dataclass(frozen=True)
class Source:
    """A network that is to be exported, and what is asked of its file.

    Attributes:
        network: In evaluation mode and float32, as it was trained: the oracle of the file.
        metadata: For the file; its outputs are the network's.
        unit: Pictures are numbers from 0 to 1; otherwise they are normalised.
        yolo: The opened YOLO, whose own exporter writes the file; None for all others.
        boxes: From outputs to rows (x1, y1, x2, y2, score, class), (N, 6), after NMS, of each picture; None if it has
            no boxes.
        batches: That the file is asked with.
        least: The shortest side in pixels that it is asked with.
    """

    network: nn.Module
    metadata: Metadata
    unit: bool = False
    yolo: Any = None
    boxes: Callable[[list[Tensor], float], list[Tensor]] | None = None
    batches: tuple[int, ...] = (1, 4)
    least: int = 32

    @property
    def shapes(self) -> list[tuple[int, int, int, int]]:
        """What the file is asked with, (B, 3, H, W): with 224x224 also 32x224 and 320x448."""
        height, width = (self.metadata.tile,) * 2 if self.metadata.tile else self.metadata.image_size
        if not self.metadata.dynamic:
            return [(1, 3, height, width)]
        if self.metadata.head == "torchvision":
            return [(1, 3, height, width), (1, 3, width, height), (1, 3, _even(height * 0.7), height)]
        low = max(self.metadata.stride, self.least)
        first = low if self.metadata.head in ("logits", "maps") else _even(height / 2)
        sizes = [(first, width), (height, width), (_even(height * 10 / 7), 2 * width)]
        return [(batch, 3, *size) for batch in self.batches for size in sizes]


def _even(side: float) -> int:
    """The nearest multiple of 32, at least 32."""
    return max(32, 32 * round(side / 32))


def open_source(
    model: str, weights: str | None = None, image_size: int | None = None, features: bool = False
) -> Source:
    """Open what is exported.

    Args:
        model: A checkpoint of a recipe (.ckpt), one of YOLO (.pt or .safetensors), or a timm name.
        weights: Of a timm name: a file, "start" for those that the package ships, or "random".
        image_size: Sides in pixels that the file is for; None takes what the network was trained at.
        features: Of a timm name, the maps of its stages in place of the classes.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: it cannot be used.
    """
    suffix = Path(model).suffix
    stored = suffix in (".ckpt", ".pt", ".safetensors")
    if stored or "/" in model:
        if not Path(model).is_file():
            raise MissingFileError(f"no model at {model}; give a checkpoint of a recipe or of YOLO, or a timm name")
        if not stored:
            raise InputError(f"{model} is no checkpoint of a recipe (.ckpt) or of YOLO (.pt, .safetensors)")
        if weights is not None or features:
            raise InputError(f"{model} has weights and outputs of its own; leave --weights and --features out")
        source = (open_recipe if suffix == ".ckpt" else open_yolo)(Path(model), image_size)
        digest = sha256(model)
    else:
        source, digest = open_name(model, weights, image_size, features)
    source.network.eval().float()
    return replace(source, metadata=replace(source.metadata, version=dualvit.__version__, sha256=digest))


def open_name(name: str, weights: str | None, image_size: int | None, features: bool) -> tuple[Source, str]:
    """Open a timm network by its name; also the sha256 of its file of weights."""
    if weights is None:
        raise InputError(
            f"{name} has no weights here, and none are downloaded; give --weights FILE, "
            f"{START} for those that the package ships, or {RANDOM} for a trial"
        )
    file = None if weights == RANDOM else start_file(name) if weights == START else Path(weights)
    if file is not None and not file.is_file():
        raise MissingFileError(f"no weights at {file}; give a file, {START} or {RANDOM}")
    with on_meta():
        full: Any = create_model(name)
    state = {} if file is None else read_checkpoint(file)
    heads = full.pretrained_cfg.get("classifier") or ""  # two names if there is an auxiliary head
    head = state.get(f"{heads if isinstance(heads, str) else heads[0]}.weight")
    classes = {} if head is None or features else {"num_classes": head.shape[0]}
    if file is not None and head is None and not features and name.startswith("dualvit_"):
        classes = {"num_classes": 0}
    network = create_model(name, features_only=True) if features else create_model(name, **classes)
    if file is not None:
        load_backbone(network, file, full if features else network)
    else:
        awaken(network)
    config = resolve_data_config({}, model=network)
    side = image_size or config["input_size"][-1]
    maps = features or getattr(network, "num_classes", 1) == 0
    info: Any = network.feature_info if features else None
    strides = info.reduction() if features else ()
    metadata = Metadata(
        name, "features" if maps else "classify", image_size=(side, side), mean=tuple(config["mean"]),
        std=tuple(config["std"]), crop_pct=config["crop_pct"], interpolation=config["interpolation"],
        head="maps" if maps else "logits",
        outputs=tuple(f"stride{stride}" for stride in strides) or ("features" if maps else "logits",),
    )  # fmt: skip
    return Source(network, metadata), "" if file is None else sha256(file)


@torch.no_grad()
def awaken(network: nn.Module) -> None:
    """Give a network random weights under which each of its branches counts: new ones are near zero in many."""
    torch.manual_seed(SEED)
    for name, parameter in network.named_parameters():
        if name.endswith("gamma"):
            parameter.fill_(0.5)
        elif parameter.ndim > 1:
            parameter.normal_(std=parameter[0].numel() ** -0.5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]


def open_recipe(checkpoint: Path, image_size: int | None) -> Source:
    """Open a checkpoint of `dualvit recipe fit`.

    Raises:
        ValueError: it is of a task whose network answers nothing, such as pretrain.
    """
    from dualvit.recipes.run import load

    task = load(checkpoint)
    makers = {"classify": _classifier, "semantic": _segmenter, "detect": _detector}
    if task.recipe.task not in makers:
        raise InputError(f"{checkpoint} is a checkpoint of {task.recipe.task}; give one of {', '.join(makers)}")
    return makers[task.recipe.task](task, image_size)


def _classifier(task: Any, image_size: int | None) -> Source:
    from dualvit.backbones.maps import moments

    data, network = task.recipe.data, task.network
    mean, std = moments(network)
    side = image_size or data.image_size
    metadata = Metadata(
        task.recipe.network.name, "classify", tuple(task.classes), (side, side), mean, std,  # type: ignore[arg-type]
        data.crop_pct, outputs=("logits",),
    )  # fmt: skip
    return Source(network, metadata)


def _segmenter(task: Any, image_size: int | None) -> Source:
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    data = task.recipe.data
    side = image_size or data.short_side
    metadata = Metadata(
        task.recipe.network.name, "semantic", tuple(task.classes), (side, side), IMAGENET_DEFAULT_MEAN,
        IMAGENET_DEFAULT_STD, resize="tiles", interpolation="bilinear", outputs=("logits",), tile=data.image_size,
        tile_stride=data.tile_stride(),
    )  # fmt: skip
    return Source(task.network, metadata)


class Unlisted(nn.Module):
    """A detector of torchvision for one picture in a batch: (1, 3, H, W) to boxes, labels, scores, perhaps masks."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        answer = self.detector([image[0]])[0]
        return tuple(answer[name] for name in ("boxes", "labels", "scores", "masks") if name in answer)


def _detector(task: Any, image_size: int | None) -> Source:
    data, masks = task.recipe.data, task.recipe.detector == "mask-rcnn"
    outputs = ("boxes", "labels", "scores", "masks")[: 3 + masks]
    low, high = image_size or max(data.sides), data.long_side
    metadata = Metadata(
        task.recipe.network.name, "segment" if masks else "detect", tuple(task.classes), (low, high),
        resize="shortest", interpolation="bilinear", head="torchvision", outputs=outputs,
    )  # fmt: skip
    return Source(Unlisted(task.network), metadata, unit=True, boxes=_rows, batches=(1,))


def _rows(outputs: list[Tensor], least: float) -> list[Tensor]:
    """The boxes of a picture by torchvision's detectors, which end in NMS."""
    boxes, labels, scores = outputs[:3]
    rows = torch.cat([boxes, scores.unsqueeze(1), labels.to(boxes).unsqueeze(1)], dim=1)  # (N, 6)
    return [rows[scores > least]]


def open_yolo(checkpoint: Path, image_size: int | None) -> Source:
    """Open a checkpoint of YOLO, ours or a stock one, of any task."""
    from dualvit.yolo.export import Exported, describe
    from dualvit.yolo.model import YOLO

    model = YOLO(checkpoint)
    about = describe(model, image_size)
    metadata = Metadata(checkpoint.stem, **about)
    network = Exported(model)
    boxes = network.boxes if metadata.task in ("detect", "segment") else None
    return Source(network, metadata, unit=True, yolo=model, boxes=boxes)


def export_yolo(source: Source, form: str, folder: Path) -> Path:
    """Let Ultralytics' exporter write a YOLO into a folder; return the file, or the folder of OpenVINO."""
    from dualvit.yolo.export import export_file

    return export_file(source.yolo, form, source.metadata.image_size[0], source.metadata.dynamic, folder)
