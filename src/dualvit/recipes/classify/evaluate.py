"""Scores of a trained classifier: top-1, top-5 and the confusion of classes; k-NN and linear probes of its features."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from dualvit.data.images import Sample, read_folders, read_split
from dualvit.errors import InputError
from dualvit.files import write_atomic, write_json
from dualvit.locks import only_writer
from dualvit.pictures.confusion import confusion
from dualvit.provenance import environment
from dualvit.recipes.classify.data import in_order
from dualvit.recipes.classify.task import Classify
from dualvit.recipes.classify.transforms import eval_transform, normalisation
from dualvit.recipes.config import Network
from dualvit.recipes.loading import Skipped
from dualvit.recipes.network import build_network
from dualvit.recipes.run import load


@dataclass(frozen=True)
class Source:
    """A network, ready to be asked.

    Attributes:
        name: Of the checkpoint, or timm's.
        network: In evaluation mode.
        classes: That a checkpoint knows; None for a timm model.
        transform: From an RGB picture to what the network takes.
    """

    name: str
    network: nn.Module
    classes: tuple[str, ...] | None
    transform: Callable[[Image.Image], Tensor]


def open_source(
    model: str, weights: Path | None, classes: Sequence[str] | None, size: int | None, device: str
) -> Source:
    """Open a model.

    Args:
        model: A checkpoint of `dualvit recipe fit`, or any name that timm knows.
        weights: Of a timm model.
        classes: Of the data set; a timm model's head must have as many. None leaves the head out.
        size: Sides of the square that it sees; None takes the checkpoint's, or 224.
        device: cpu, cuda or cuda:1.

    Raises:
        ValueError: no weights, or weights that do not fit.
    """
    path = Path(model)
    if path.suffix == ".ckpt" or path.is_file():
        if weights is not None:
            raise InputError(f"{model} has weights of its own; leave --weights out")
        task = load(path)
        if not isinstance(task, Classify):
            raise InputError(f"{model} is a checkpoint of {task.recipe.task}; give one of a classifier")
        data = task.recipe.data
        transform = eval_transform(size or data.image_size, data.crop_pct, *normalisation(task.network))
        return Source(model, task.network.to(device).eval(), task.classes, transform)
    if weights is None:
        raise InputError(f"model {model} has no weights here, and none are downloaded; give --weights, or a checkpoint")
    network = build_network(Network(model, weights=str(weights)), num_classes=len(classes) if classes else 0)
    crop_pct = float(network.pretrained_cfg.get("crop_pct", 0.875))  # type: ignore[union-attr, operator]
    transform = eval_transform(size or 224, crop_pct, *normalisation(network))
    return Source(model, network.to(device).eval(), None, transform)


@torch.inference_mode()
def evaluate(
    model: str,
    data: Path,
    out: Path,
    weights: Path | None = None,
    size: int | None = None,
    batch: int = 64,
    workers: int = 0,
    device: str = "cpu",
    unreadable: int = 100,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Score a classifier on `data/val/CLASS/`, or on `data/CLASS/`; `out` takes eval.json and confusion.png.

    Args:
        model: A checkpoint of a recipe, or a timm name.
        data: The data set.
        out: A folder.
        weights: Of a timm model.
        size: Sides of the square that the network sees.
        batch, workers, device: As for training.
        unreadable: The most pictures that may be skipped.
        progress: Is told how many pictures are done, and of how many.

    Returns:
        What eval.json holds: top1, top5, images, recall of each class, and where it was made.
    """
    source, names, samples = _open(model, weights, data, size, device)
    count = len(names)
    top1 = MulticlassAccuracy(count, average="micro")
    top5 = MulticlassAccuracy(count, top_k=min(5, count), average="micro")
    matrix = MulticlassConfusionMatrix(count)
    with only_writer(out, "dualvit eval"):
        skipped = Skipped(out / "unreadable.txt", unreadable)
        done = 0
        for images, labels in in_order(samples, source.transform, batch, workers, skipped):
            logits = source.network(images.to(device)).float().cpu()
            for metric in (top1, top5, matrix):
                metric.update(logits, labels)
            done += len(images)
            progress(done, len(samples))
        counts = matrix.compute().numpy()
        shares = counts.diagonal() / np.maximum(counts.sum(1), 1)
        result: dict[str, Any] = {
            "top1": float(top1.compute()),
            "top5": float(top5.compute()),
            "images": int(counts.sum()),
        }
        result |= {"skipped": len(skipped.lines()), "model": model, "data": str(data)}
        result["recall"] = {
            name: float(share) for name, share, row in zip(names, shares, counts, strict=True) if row.sum()
        }
        result["environment"] = environment(device.startswith("cuda"))
        write_json(out / "eval.json", result | {"confusion": counts.tolist()})
        title = f"{Path(model).name}: top-1 {100 * result['top1']:.1f} % of {result['images']} pictures"
        write_atomic(out / "confusion.png", confusion(counts, names, title))
    return result


def _open(
    model: str, weights: Path | None, data: Path, size: int | None, device: str
) -> tuple[Source, tuple[str, ...], tuple[Sample, ...]]:
    """A model and the pictures to score it on, labelled by its own classes where it knows any."""
    if Path(model).suffix == ".ckpt" or Path(model).is_file():
        source = open_source(model, weights, None, size, device)
        return (source, *read_split(data, source.classes))
    names, samples = read_split(data)
    return open_source(model, weights, names, size, device), names, samples


@torch.inference_mode()
def features(
    source: Source, samples: Sequence[Sample], batch: int, workers: int, device: str, skipped: Skipped,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """What a network's head would read, (n, C), and the labels (n,)."""
    vectors, labels = [], []
    for images, numbers in in_order(tuple(samples), source.transform, batch, workers, skipped):
        network: Any = source.network
        pooled = network.forward_head(network.forward_features(images.to(device)), pre_logits=True)
        vectors.append(pooled.float().cpu().numpy())
        labels.append(numbers.numpy())
        progress(sum(map(len, labels)), len(samples))
    return np.concatenate(vectors), np.concatenate(labels)


def probe(
    model: str,
    data: Path,
    out: Path,
    weights: Path | None = None,
    neighbours: int = 20,
    size: int | None = None,
    batch: int = 64,
    workers: int = 0,
    device: str = "cpu",
    unreadable: int = 100,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """How well frozen features tell classes apart: nearest neighbours by cosine, and logistic regression.

    `neighbours` vote, weighted by distance. The other arguments are those of `evaluate`.

    Returns:
        The content of probe.json in `out`: knn and linear, each a top-1 accuracy.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    split = read_folders(data)
    source = open_source(model, weights, None, size, device)
    with only_writer(out, "dualvit probe"):
        skipped = Skipped(out / "unreadable.txt", unreadable)
        train = features(source, split.train, batch, workers, device, skipped, progress)
        val = features(source, split.val, batch, workers, device, skipped, progress)
        if neighbours > len(train[0]):
            raise InputError(
                f"--neighbours is {neighbours}, and there are {len(train[0])} training pictures; give fewer"
            )
        nearest = KNeighborsClassifier(neighbours, metric="cosine", weights="distance").fit(*train)
        linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(*train)
        result: dict[str, Any] = {"knn": float(nearest.score(*val)), "linear": float(linear.score(*val))}
        result |= {"neighbours": neighbours, "images": [len(train[0]), len(val[0])], "skipped": len(skipped.lines())}
        result |= {"model": model, "data": str(data), "environment": environment(device.startswith("cuda"))}
        write_json(out / "probe.json", result)
    return result
