"""A cell as a run of `dualvit recipe fit`: classifiers, torchvision's detectors, UPerNet."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dualvit.bench.cost import fuse_for_inference
from dualvit.deploy.runtimes import export_onnx, flat
from dualvit.errors import InputError
from dualvit.models import size_options
from dualvit.names import is_shards
from dualvit.progress import Listener, Row
from dualvit.recipes.config import Recipe, kind, of_its_task
from dualvit.recipes.predictions import predictions, unchanged
from dualvit.recipes.progress import clock
from dualvit.recipes.run import fit, load
from dualvit.seeds import digest


class RecipeEngine:
    """One model under a recipe.

    Args:
        settings: The recipe as plain values, the network among them.
        data: The data set's place.
        seed: Of everything random.
        workers: Processes that read data.
        cuda: Train on the first visible GPU instead of the CPU.
    """

    def __init__(self, settings: dict[str, Any], data: str, seed: int, workers: int, cuda: bool) -> None:
        values = settings | {"seed": seed, "data": settings["data"] | {"root": data, "workers": workers}}
        values["trainer"] = settings["trainer"] | {"accelerator": "gpu" if cuda else "cpu", "devices": 1}
        self.recipe: Recipe = of_its_task(values)
        network = self.recipe.network
        if sized := size_options(network.name, self.recipe.data.image_size):
            options = sized | dict(network.options)
            self.recipe = replace(self.recipe, network=replace(network, options=options))
        self.skipped: list[str] = []
        self.digests: dict[str, str] = {}

    def counts(self) -> tuple[int, int, int, list[str]]:
        """Return how many classes the data set has, how many pictures to train and validate on, and notes on it."""
        if is_shards(self.recipe.data.root):
            raise InputError(f"data is {self.recipe.data.root}; a comparison needs a folder of pictures")
        data = self._data("val")
        return len(data.classes), len(data.train_data()), len(data.val_data()), list(data.notes)

    def network(self, classes: int) -> nn.Module:
        """Build the network, with fresh weights, for so many classes."""
        task = kind(self.recipe.task).TaskType(self.recipe, tuple(map(str, range(classes))))
        network: nn.Module = task.network
        return network

    def scored(self, folder: Path, classes: int) -> nn.Module:
        """Build the network with the weights that the last epoch of the cell in the folder was scored with.

        Raises:
            FileNotFoundError: there are none.
            ValueError: they are damaged, or of another network.
        """
        task = load(folder / "weights" / "last.ckpt")
        if task.recipe.network.name != self.recipe.network.name or len(task.classes) != classes:
            raise InputError(f"{folder} has weights of another network than {self.recipe.network.name}")
        network: nn.Module = task.network
        return network

    def export(self, network: nn.Module, image: Tensor, file: Path) -> list[Tensor]:
        """Write a network as ONNX, fused; return what the file must answer to the image.

        Raises:
            ValueError: it is one of torchvision's detectors.
        """
        if self.recipe.task == "detect":
            raise InputError("a detector of torchvision chooses boxes as it goes, and its graph follows the picture")
        with torch.inference_mode():
            expected = flat(network(image))
        fused = copy.deepcopy(network)
        fuse_for_inference(fused)
        export_onnx(fused, image, file)
        return expected

    def train(self, folder: Path, listener: Listener) -> list[Row]:
        """Train in `folder`/weights, or continue there; returns a row per validation."""
        task = fit(self.recipe, folder / "weights", listener)
        self.skipped = task.trainer.datamodule.skipped.lines()  # type: ignore[attr-defined]
        self.digests = {"weights": digest(task.network.state_dict()), "batch": clock(task.trainer).first_batch}
        return clock(task.trainer).rows(task.history)

    def constant(self, split: str) -> float:
        """Return what the most frequent class, as the answer for everything, scores on a split; 0 of detectors."""
        return float(self._data(split).constant())

    def tests(self) -> int:
        """Return how many pictures the test split has.

        Raises:
            ValueError: there is none.
        """
        return len(self._data("test").val_data())

    def predict(self, folder: Path, split: str) -> tuple[dict[str, float], dict[str, Any]]:
        """Ask the last epoch's weights about each picture of a split; returns scores and what predictions.json holds.

        Raises:
            ValueError: the folder has no checkpoint of this run.
        """
        return predictions(self.recipe, folder / "weights" / "last.ckpt", self._data(split))

    def truth(self, split: str) -> Any:
        """Read what is really in the pictures of a split: objects, or images with masks; None of classifiers."""
        data = self._data(split)
        if self.recipe.task == "detect":
            return data.val
        return unchanged(data.val_data()) if self.recipe.task == "semantic" else None

    def _data(self, split: str) -> Any:
        data = kind(self.recipe.task).DataType(self.recipe, None)
        if split == "test":
            data.use_tests()
        return data
