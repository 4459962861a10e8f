"""Loaders whose every sample depends on seed, epoch and index alone, and which outlive files that cannot be read."""

import random
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from dualvit.data.images import UnreadableError
from dualvit.errors import InputError
from dualvit.files import writable
from dualvit.recipes.config import Recipe
from dualvit.seeds import seed_all

__all__ = ["Order", "Reproducible", "Skipped", "TaskData", "UnreadableError"]


class Order(Sampler[tuple[int, int]]):
    """The order of an epoch, as pairs of epoch and index; each process has its share.

    Args:
        data: What is ordered.
        seed: Of the shuffling; None keeps the order.
        replicas, rank: Processes of a training, and which one this is. Shuffled shares are equally long; shares in
            order have each sample once, since a metric must not see one twice.
    """

    def __init__(self, data: Sized, seed: int | None, replicas: int = 1, rank: int = 0) -> None:
        self.data, self.seed, self.replicas, self.rank, self.epoch = data, seed, replicas, rank, 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls it before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        share, rest = divmod(len(self.data), self.replicas)
        return share + int(self.rank < rest if self.seed is None else rest > 0)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        indices = list(range(len(self.data)))
        if self.seed is not None:
            random.Random(f"{self.seed} {self.epoch}").shuffle(indices)
            indices += indices[: -len(indices) % self.replicas]
        return ((self.epoch, index) for index in indices[self.rank :: self.replicas])


class Reproducible(Dataset[Any]):
    """A data set whose random crops and colours depend on seed, epoch and index, whichever process draws them.

    Args:
        data: From an index to a sample; raises UnreadableError for a file that cannot be read.
        seed: Of the randomness.
        skipped: Lists the files that could not be read.
        substitute: Whether the next sample stands in for an unreadable one; else None does, and `collate` drops it.

    Raises:
        ValueError: from an index, where none of all samples can be read and one is to stand in for another.
    """

    def __init__(self, data: Any, seed: int, skipped: "Skipped", substitute: bool) -> None:
        self.data, self.seed, self.skipped, self.substitute = data, seed, skipped, substitute

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, place: tuple[int, int]) -> Any:
        epoch, index = place
        seed_all(f"{self.seed} {epoch} {index}")
        reason = ""
        for step in range(len(self.data) if self.substitute else 1):
            try:
                return self.data[(index + step) % len(self.data)]
            except UnreadableError as error:
                reason = str(error)
                self.skipped.add(reason)
        if self.substitute:
            raise InputError(f"none of the {len(self.data)} images to train on can be read; the last: {reason}")
        return None


class Skipped:
    """Files and annotations that could not be used, one a line; the same list for all worker processes.

    Args:
        file: Where the list is kept; None keeps it in memory.
        limit: The most lines; one more is an error.
    """

    def __init__(self, file: Path | None, limit: int) -> None:
        self.file, self.limit = file, limit
        self._held: list[str] = []

    def lines(self) -> list[str]:
        """What could not be used so far."""
        if self.file is None:
            return list(self._held)
        return self.file.read_text(encoding="utf-8", errors="replace").splitlines() if self.file.exists() else []

    def clear(self) -> None:
        """Begin anew: what an earlier run in the folder could not read may be mended."""
        self._held = []
        if self.file is not None:
            self.file.unlink(missing_ok=True)

    def add_all(self, messages: Iterable[str]) -> None:
        """Note files and annotations, each once.

        Raises:
            ValueError: they are too many.
        """
        for message in messages:
            self.add(message)

    def add(self, message: str) -> None:
        """Note a file or an annotation, once.

        Raises:
            ValueError: it is one too many.
        """
        line = writable(" ".join(message.split()))
        known = self.lines()
        if line in known:
            return
        if len(known) >= self.limit:
            raise InputError(
                f"{line}; {len(known)} others could not be read either, and data.unreadable allows {self.limit}"
            )
        if self.file is None:
            self._held.append(line)
            return
        with self.file.open("a", encoding="utf-8") as out:  # one short write, which processes cannot tear apart
            out.write(line + "\n")


class TaskData(lightning.LightningDataModule):
    """The data of a task: a subclass says what a sample is, this class makes loaders of it.

    Attributes:
        classes: Their names; a network's outputs are in this order. Known once the object is built.
        notes: What the reader of the data set says of it, a line each.
    """

    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __init__(self, recipe: Recipe, out: Path | None) -> None:
        super().__init__()
        self.recipe = recipe
        self.skipped = Skipped(out / "unreadable.txt" if out else None, recipe.data.unreadable)

    def train_data(self) -> Any:
        """Samples to train on, augmented: `__len__`, `__getitem__(index)`."""
        raise NotImplementedError

    def val_data(self) -> Any:
        """Samples to validate on."""
        raise NotImplementedError

    def val_files(self) -> list[Path]:
        """The pictures of `val_data`, in its order."""
        raise NotImplementedError

    def constant(self) -> float:
        """What one answer for everything, the most frequent one, scores on `val_data`."""
        return 0.0

    def use_tests(self) -> None:
        """Validate on the test split from now on.

        Raises:
            ValueError: the data set has none.
        """
        raise NotImplementedError

    def no_tests(self, layout: str) -> InputError:
        """The error of a data set without a test split; `layout` says where one would be."""
        return InputError(f"{self.recipe.data.root} has no test split, and score is test; give {layout}, or score: val")

    def collate(self, samples: list[Any]) -> Any:
        """A batch of samples."""
        return default_collate(samples)

    def train_dataloader(self) -> DataLoader[Any]:
        data = self.train_data()
        order = Order(data, self.recipe.seed, self._world(), self._rank())
        order.set_epoch(self.epoch())
        batch = self.process_batch()
        # An incomplete last batch is left out, for batch norm's sake, unless it is the only one.
        return self._loader(data, order, batch, drop_last=len(order) >= batch)

    def val_dataloader(self) -> DataLoader[Any]:
        data = self.val_data()
        return self._loader(data, Order(data, None, self._world(), self._rank()), self.process_batch())

    def process_batch(self) -> int:
        """The images that one process sees at once.

        Raises:
            ValueError: the batch cannot be divided.
        """
        parts = self._world() * (self.trainer.accumulate_grad_batches if self.trainer else 1)
        if self.recipe.data.batch % parts:
            nearest = max(1, round(self.recipe.data.batch / parts)) * parts
            raise InputError(
                f"data.batch is {self.recipe.data.batch}, and processes times accumulated batches are {parts}; "
                f"give a multiple, such as {nearest}"
            )
        return self.recipe.data.batch // parts

    def sample_name(self, epoch: int, batch: int, position: int) -> str:
        """What a message calls a sample of a training batch: its file, where the data set has `samples` of files."""
        loader: Any = self.trainer.train_dataloader  # type: ignore[union-attr]
        order = Order(loader.dataset, self.recipe.seed, self._world(), self._rank())
        order.set_epoch(epoch)
        index = list(order)[batch * self.process_batch() + position][1]
        samples = getattr(loader.dataset.data, "samples", None)
        return str(samples[index][0]) if samples else f"sample {index}"

    def _loader(self, data: Any, order: Order, batch: int, drop_last: bool = False) -> DataLoader[Any]:
        workers = self.recipe.data.workers
        return DataLoader(
            Reproducible(data, self.recipe.seed, self.skipped, substitute=order.seed is not None),
            batch,
            sampler=order,
            drop_last=drop_last,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=self._collate,
            # Of its own: a new iterator draws nothing from the generator that drop path lives on.
            generator=torch.Generator().manual_seed(self.recipe.seed),
        )

    def _collate(self, samples: list[Any]) -> Any:
        kept = [sample for sample in samples if sample is not None]
        return self.collate(kept) if kept else None

    def epoch(self) -> int:
        """The epoch that is being trained, or read ahead: `current_epoch` of a resumed run is 0 until it starts."""
        progress: Any = self.trainer.fit_loop.epoch_progress.current if self.trainer else None
        return int(progress.processed) if progress else 0

    def _world(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0
