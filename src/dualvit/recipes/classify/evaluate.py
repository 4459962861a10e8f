"""Scores of a trained classifier: top-1, top-5 and the confusion of classes; k-NN and linear probes of its features."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from dualvit.backbones.maps import moments
from dualvit.data.folders import Sample, read_folders, read_split
from dualvit.errors import InputError
from dualvit.files import free_paths, write_atomic, write_json
from dualvit.locks import only_writer
from dualvit.pictures.confusion import confusion
from dualvit.provenance import environment
from dualvit.recipes.classify.data import in_order
from dualvit.recipes.classify.task import Classify
from dualvit.recipes.classify.transforms import eval_transform
from dualvit.recipes.config import Network
from dualvit.recipes.loading import Skipped
from dualvit.recipes.network import build_network
from dualvit.recipes.run import load


@dataclass(frozen=True)
class Look:
    """Which classifier looks at pictures, and how: what `dualvit eval`, `probe` and `token-labels` are all told.

    Attributes:
        model: A checkpoint of `dualvit recipe fit`, or any name that timm knows.
        weights: Of a timm model.
        image_size: Sides of the square that the network sees; None takes the checkpoint's, or 224.
        batch, workers: Pictures at once, and processes that read them.
        device: cpu, cuda or cuda:1.
        unreadable: The most pictures that may be skipped.
        progress: Is told how many pictures are done, and of how many.
    """

    model: str
    weights: Path | None = None
    image_size: int | None = None
    batch: int = 64
    workers: int = 0
    device: str = "cpu"
    unreadable: int = 100
    progress: Callable[[int, int], None] = lambda done, total: None

    @property
    def stored(self) -> bool:
        """Whether the model is a checkpoint, which knows its classes."""
        return Path(self.model).suffix == ".ckpt" or Path(self.model).is_file()

    def batches(self, samples: Sequence[Sample], source: "Source", skipped: Skipped) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each picture that can be read, in order, on the device, with the numbers that came with it.

        Raises:
            ValueError: none of them can be read.
        """
        done = 0
        for images, numbers in in_order(tuple(samples), source.transform, self.batch, self.workers, skipped):
            yield images.to(self.device), numbers
            done += len(images)
            self.progress(done, len(samples))
        if not done:
            raise InputError(f"none of the {len(samples)} images can be read; the last: {skipped.lines()[-1]}")

    def about(self, data: Path) -> dict[str, Any]:
        """Return what a result says of where it comes from."""
        where = environment(self.device.startswith("cuda"))
        return {"model": self.model, "data": str(data), "environment": where}


@dataclass(frozen=True)
class Source:
    """A network, ready to be asked.

    Attributes:
        network: In evaluation mode.
        classes: That a checkpoint knows; None for a timm model.
        transform: From an RGB picture to what the network takes.
    """

    network: nn.Module
    classes: tuple[str, ...] | None
    transform: Callable[[Image.Image], Tensor]


def open_source(look: Look, classes: Sequence[str] | None) -> Source:
    """Open a model; a timm model's head must have as many `classes` as the data set, and None leaves the head out.

    Raises:
        ValueError: no weights, or weights that do not fit.
    """
    if look.stored:
        if look.weights is not None:
            raise InputError(f"{look.model} has weights of its own; leave --weights out")
        task = load(Path(look.model))
        if not isinstance(task, Classify):
            raise InputError(f"{look.model} is a checkpoint of {task.recipe.task}; give one of a classifier")
        network, known, data = task.network, task.classes, task.recipe.data
        size, crop_pct = data.image_size, data.crop_pct
    else:
        if look.weights is None:
            raise InputError(
                f"model {look.model} has no weights here, and none are downloaded; give --weights, or a checkpoint"
            )
        settings = Network(look.model, weights=str(look.weights))
        network, known, size = build_network(settings, num_classes=len(classes) if classes else 0), None, 224
        crop_pct = float(network.pretrained_cfg.get("crop_pct", 0.875))  # type: ignore[union-attr, operator]
    transform = eval_transform(look.image_size or size, crop_pct, *moments(network))
    return Source(network.to(look.device).eval(), known, transform)


@torch.inference_mode()
def evaluate(look: Look, data: Path, out: Path) -> dict[str, Any]:
    """Score a classifier on `data/val/CLASS/`, or on `data/CLASS/`; `out` takes eval.json and confusion.png.

    No file in `out` is overwritten: what a second evaluation writes there has a number in its names.

    Returns:
        What eval.json holds: top1, top5, images, recall of each class, what was written, and where it was made.
    """
    notes: list[str] = []
    if look.stored:
        source = open_source(look, None)
        names, samples = read_split(data, source.classes, notes)
    else:
        names, samples = read_split(data, notes=notes)
        source = open_source(look, names)
    count = len(names)
    top1 = MulticlassAccuracy(count, average="micro")
    top5 = MulticlassAccuracy(count, top_k=min(5, count), average="micro")
    matrix = MulticlassConfusionMatrix(count)
    with only_writer(out, "dualvit eval"):
        about, picture, unreadable = free_paths(out, "eval.json", "confusion.png", "unreadable.txt")
        skipped = Skipped(unreadable, look.unreadable)
        for images, labels in look.batches(samples, source, skipped):
            logits = source.network(images).float().cpu()
            for metric in (top1, top5, matrix):
                metric.update(logits, labels)
        counts = matrix.compute().numpy()
        shares = counts.diagonal() / np.maximum(counts.sum(1), 1)
        result: dict[str, Any] = {
            "top1": float(top1.compute()),
            "top5": float(top5.compute()),
            "images": int(counts.sum()),
            "skipped": len(skipped.lines()),
            "notes": notes,
            "recall": {name: float(share) for name, share, row in zip(names, shares, counts, strict=True) if row.sum()},
        } | look.about(data)
        result["files"] = [str(path) for path in (about, picture, unreadable) if path != unreadable or path.exists()]
        write_json(about, result | {"confusion": counts.tolist()})
        title = f"{Path(look.model).name}: top-1 {100 * result['top1']:.1f} % of {result['images']} pictures"
        write_atomic(picture, confusion(counts, names, title))
    return result


@torch.inference_mode()
def features(look: Look, source: Source, samples: Sequence[Sample], skipped: Skipped) -> tuple[np.ndarray, np.ndarray]:
    """Return what a network's head would read, (n, C), and the labels (n,)."""
    vectors, labels = [], []
    for images, numbers in look.batches(samples, source, skipped):
        network: Any = source.network
        pooled = network.forward_head(network.forward_features(images), pre_logits=True)
        vectors.append(pooled.float().cpu().numpy())
        labels.append(numbers.numpy())
    return np.concatenate(vectors), np.concatenate(labels)


def probe(look: Look, data: Path, out: Path, neighbours: int = 20) -> dict[str, Any]:
    """Return how well frozen features tell classes apart: nearest neighbours by cosine, and logistic regression.

    Args:
        look: The network, and how it looks.
        data: With `train/CLASS/` and `val/CLASS/`.
        out: Folder of probe.json.
        neighbours: Vote, weighted by distance.

    Returns:
        The content of probe.json in `out`: knn and linear, each a top-1 accuracy. No file there is overwritten.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    split = read_folders(data)
    source = open_source(look, None)
    with only_writer(out, "dualvit probe"):
        where, unreadable = free_paths(out, "probe.json", "unreadable.txt")
        skipped = Skipped(unreadable, look.unreadable)
        train, val = (features(look, source, samples, skipped) for samples in (split.train, split.val))
        if neighbours > len(train[0]):
            raise InputError(
                f"--neighbours is {neighbours}, and there are {len(train[0])} training pictures; give fewer"
            )
        nearest = KNeighborsClassifier(neighbours, metric="cosine", weights="distance").fit(*train)
        linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(*train)
        result: dict[str, Any] = {"knn": float(nearest.score(*val)), "linear": float(linear.score(*val))}
        result |= {"neighbours": neighbours, "images": [len(train[0]), len(val[0])], "skipped": len(skipped.lines())}
        result |= {"notes": list(split.notes)}
        result |= {"files": [str(path) for path in (where, unreadable) if path == where or path.exists()]}
        result |= look.about(data)
        write_json(where, result)
    return result
