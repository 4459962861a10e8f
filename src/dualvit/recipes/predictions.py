"""What a trained network of a recipe says of each picture that it is validated on, beside the scores."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from dualvit.recipes.config import Recipe
from dualvit.recipes.loading import Order, Reproducible, TaskData
from dualvit.recipes.run import load, one_line
from dualvit.recipes.trainer import make_trainer, quiet


class Numbered(Reproducible):
    """Samples with their numbers; that of a file that cannot be read comes with None."""

    def __getitem__(self, place: tuple[int, int]) -> tuple[int, Any]:
        return place[1], super().__getitem__(place)


class Remembering:
    """Batches of a data set to validate on, each picture once and in order.

    Attributes:
        numbers: Of the pictures in each batch so far.
    """

    def __init__(self, data: TaskData) -> None:
        self.data, self.numbers = data, list[list[int]]()
        samples = data.val_data()
        self.loader: DataLoader[Any] = DataLoader(
            Numbered(samples, data.recipe.seed, data.skipped, substitute=False), data.process_batch(),
            sampler=Order(samples, None), num_workers=data.recipe.data.workers, collate_fn=self._collate,
        )  # fmt: skip

    def _collate(self, samples: list[tuple[int, Any]]) -> tuple[list[int], Any]:
        kept = [(number, sample) for number, sample in samples if sample is not None]
        return [number for number, _ in kept], self.data.collate([sample for _, sample in kept]) if kept else None

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        for numbers, batch in self.loader:
            self.numbers.append(numbers)
            yield batch


class Listening(Callback):
    """Keeps what each validation step said of its pictures."""

    def __init__(self) -> None:
        self.rows: list[list[dict[str, Any]]] = []

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Take the step's outputs; a batch without a picture has none."""
        self.rows.append([] if outputs is None else pl_module.said(outputs))


def predictions(recipe: Recipe, checkpoint: Path, data: TaskData) -> tuple[dict[str, float], dict[str, Any]]:
    """Validate a checkpoint, and keep what it says of each picture.

    Args:
        recipe: Of the run; its trainer says on which device.
        checkpoint: Of `fit`.
        data: Whose pictures to validate on are asked about.

    Returns:
        The scores, and the content of a comparison's predictions.json.

    Raises:
        ValueError: the file is no checkpoint of a recipe, or none of the pictures can be read.
    """
    task = load(checkpoint)
    files, batches, listening = data.val_files(), Remembering(data), Listening()
    data.val_dataloader = lambda: batches  # type: ignore[method-assign, assignment, return-value]
    with quiet(), one_line():
        trainer = make_trainer(recipe, None)
        trainer.callbacks.append(listening)  # type: ignore[attr-defined]
        scores = trainer.validate(task, data, verbose=False)[0]
    numbers = [number for batch in batches.numbers for number in batch]
    rows = [row for batch in listening.rows for row in batch]
    content: dict[str, Any] = {"categories": [{"id": i, "name": name} for i, name in enumerate(task.classes)]}
    if recipe.task == "detect":
        pictures = [data.val.pictures[number] for number in numbers]  # type: ignore[attr-defined]
        images = [{"id": p.id, "file": p.file, "width": p.width, "height": p.height} for p in pictures]
        return dict(scores), content | {"images": images, "annotations": [o for row in rows for o in row["objects"]]}
    images = [{"id": number + 1, "file": files[number]} for number in numbers]
    answers = [{"image_id": number + 1, **row} for number, row in zip(numbers, rows, strict=True)]
    return dict(scores), content | {"images": images, "answers": answers}


def unchanged(samples: Any) -> Any:
    """Return a data set of images with masks that gives both as they are read: uint8 (3, H, W), and int64 (H, W)."""
    plain = copy.copy(samples)
    plain.transform = lambda image, mask: (image, mask)
    return plain
