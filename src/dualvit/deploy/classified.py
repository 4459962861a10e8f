"""A classifier that `dualvit quantise` exports, and files of it that are scored on folders of pictures."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dualvit.data.folders import read_split
from dualvit.data.images import open_rgb, pictures_in
from dualvit.deploy import formats
from dualvit.deploy.runtimes import Array, Run
from dualvit.deploy.seeing import seeing
from dualvit.deploy.sources import Source
from dualvit.errors import InputError


class ClassifierSubject:
    """A classifier of a recipe or of timm, with folders of pictures by class.

    Args:
        source: Of `open_source`.
        data: Folder with val/CLASS/, or with CLASS/; calibration pictures come from train/ in it.
        name: Of its files; that of the network if left out.

    Raises:
        FileNotFoundError: there are no pictures.
        ValueError: it is no classifier, or of other classes.
    """

    counted, sure = "pictures", 0.0

    def __init__(self, source: Source, data: Path, name: str = "") -> None:
        about = source.metadata
        if about.head != "logits" or about.task != "classify":
            raise InputError(f"{about.name} is a model for {about.task}; give a classifier, or a checkpoint of YOLO")
        self.source = replace(source, metadata=replace(about, dynamic=False))
        self.data, self.name, self.image_size, self.see = data, name or about.name, about.image_size[0], seeing(about)
        names, self.samples = read_split(data, about.classes or None)
        heads = getattr(source.network, "num_classes", len(names))
        if heads != len(names):
            raise InputError(f"{about.name} knows {heads} classes, and {data} has {len(names)}; give its own data")
        self.classes = names

    def export(self, file: Path) -> dict[str, str]:
        """Write it as ONNX for one picture; Ultralytics knows nothing of it."""
        formats.write_onnx(self.source, file.parent).replace(file)
        return {}

    def describe(self) -> dict[str, Any]:
        """Return what the file says of itself, as `Metadata` takes it."""
        about = asdict(self.source.metadata) | {"classes": self.classes}
        return {key: value for key, value in about.items() if key != "name"}

    def training_files(self) -> list[Path]:
        """Return the pictures in train/, in the order of their names."""
        folder = self.data / "train"
        return sorted(pictures_in(folder)) if folder.is_dir() else []

    def example(self) -> Array:
        """Return a picture of the validation split, as `picture` does."""
        return self.picture(self.samples[0][0])

    def picture(self, file: Path) -> Array:
        """Return the centre of a picture as the network takes it, (1, 3, H, W)."""
        image: Array = self.see(open_rgb(file)).image[None].numpy()
        return image

    def score(self, run: Run) -> tuple[dict[str, float], dict[str, list[dict[str, Any]]]]:
        """Return the top-1 accuracy of a file on the validation pictures, and the best class of each."""
        found: dict[str, list[dict[str, Any]]] = {}
        right = 0
        for file, label in self.samples:
            shares = _shares(run(self.picture(file)))
            best = int(shares.argmax())
            right += best == label
            found[str(file)] = [{"category_id": best, "bbox": [0, 0, 1, 1], "score": float(shares[best])}]
        return {"top-1": right / len(self.samples)}, found

    def error(self, before: Sequence[Array], after: Sequence[Array]) -> float:
        """Return the largest difference of a class's probability."""
        return float((_shares(before) - _shares(after)).abs().max())


def _shares(outputs: Sequence[Array]) -> Tensor:
    """The probabilities (classes,) of the first picture's logits."""
    return torch.from_numpy(outputs[0][0]).double().softmax(0)
