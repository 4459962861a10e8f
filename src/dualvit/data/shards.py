"""WebDataset shards: pictures in tar files, from disk or an object store, shared out to processes and workers."""

import random
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from dualvit.data.images import SUFFIXES, UnreadableError, open_rgb
from dualvit.errors import InputError, OptionError
from dualvit.files import read_text
from dualvit.names import is_shards as is_shards
from dualvit.seeds import seed_all

PICTURES = ("jpg", *sorted(suffix[1:] for suffix in SUFFIXES - {".jpg"}))


def read_classes(file: str) -> tuple[str, ...]:
    """The names in a text file, one in a line.

    Raises:
        ValueError: no file, or fewer than two names.
    """
    if not file or not Path(file).is_file():
        raise InputError(f"data.classes is {file!r}; shards need a text file with the name of each class in a line")
    names = tuple(line.strip() for line in read_text(Path(file)).splitlines() if line.strip())
    if len(names) < 2:
        raise InputError(f"{file} has {len(names)} classes; a classifier needs two or more")
    return names


class Shards(IterableDataset[Any]):
    """Pictures of shards: samples with a picture (`jpg`, `png`, ...) and the number of its class (`cls`).

    To train, an epoch has as many samples for each process, whole batches in each worker, from shards in an order
    that depends on seed and epoch; to validate, each sample comes once.

    Args:
        urls: Paths, URLs or pipes, with {000..099} for a range.
        transform: From an RGB picture to what the network takes.
        classes: How many there are; None needs no `cls`, and gives each picture the number 0.
        batch: Samples in a batch of this process.
        seed: Of the order and of crops and colours.
        samples: In an epoch, of all processes; None reads each shard once, in order.
        shuffle: Samples that are held back to be shuffled.
        place: This process and how many there are.
        skip: Is told of pictures that cannot be read.
        most: Of each reader's pictures, if `samples` is None; None reads all.
    """

    def __init__(
        self,
        urls: str,
        transform: Callable[[Any], Any],
        classes: int | None,
        batch: int,
        seed: int,
        samples: int | None,
        shuffle: int,
        place: tuple[int, int],
        skip: Callable[[str], None],
        most: int | None = None,
    ) -> None:
        import webdataset

        self.urls: list[str] = list(webdataset.SimpleShardList(urls).urls)
        self.transform, self.classes, self.batch, self.seed = transform, classes, batch, seed
        self.samples, self.shuffle, self.skip, self.epoch = samples, shuffle, skip, 0
        self.rank, self.world = place
        self.most = most
        if samples is not None and self.batches() < 1:
            raise InputError(f"data.samples is {samples}; a batch of all processes has {batch * self.world}")

    def batches(self) -> int:
        """Batches of this process in an epoch of training."""
        return (self.samples or 0) // (self.batch * self.world)

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        part, parts = self.rank * workers + worker, self.world * workers
        if self.samples is None:
            yield from islice(self._decoded(self.urls[part::parts]), self.most)
            return
        if len(self.urls) < parts:
            raise InputError(
                f"{len(self.urls)} shards for {parts} readers (processes times data.workers); "
                f"give data.workers={len(self.urls) // self.world}, or more shards"
            )
        mine = self.batches() // workers + (worker < self.batches() % workers)
        yield from islice(self._endless(part, parts), mine * self.batch)

    def _endless(self, part: int, parts: int) -> Iterator[Any]:
        """This worker's shards again and again, each time in another order."""
        import webdataset

        turn = 0
        while True:
            urls, words = list(self.urls), f"{self.seed} {self.epoch} {turn}"
            random.Random(words).shuffle(urls)  # the same for all
            rng = random.Random(f"{words} {part}")
            shuffled = webdataset.shuffle(self.shuffle, initial=self.shuffle, rng=rng)
            readable = False
            for number, sample in enumerate(shuffled(self._raw(urls[part::parts]))):
                # Crops depend on this alone: a run that goes on has drawn other numbers before.
                seed_all(f"{words} {part} {number}")
                decoded = self._decode(sample)
                if decoded is not None:
                    readable = True
                    yield decoded
            if not readable:
                raise InputError(
                    f"no picture that can be read in {', '.join(urls[part::parts])[:200]}; check the shards"
                )
            turn += 1

    def _raw(self, urls: list[str]) -> Iterator[dict[str, Any]]:
        import webdataset

        try:
            yield from webdataset.tarfile_samples({"url": url} for url in urls)
        except Exception as error:  # of tar files, of HTTP, of a pipe's command
            raise InputError(
                f"cannot read shards {', '.join(urls)[:200]}: {error}; check data.root and data.val"
            ) from None

    def _decoded(self, urls: list[str]) -> Iterator[Any]:
        return (decoded for decoded in map(self._decode, self._raw(urls)) if decoded is not None)

    def _decode(self, sample: dict[str, Any]) -> Any:
        """A picture and its label; None for one that cannot be read, which is noted."""
        where = f"{sample['__url__']}:{sample['__key__']}"
        name = next((name for name in PICTURES if name in sample), None)
        if name is None or (self.classes is not None and "cls" not in sample):
            has = ", ".join(sorted(key for key in sample if not key.startswith("__")))
            raise InputError(f"{where} has {has}; a sample needs a picture (jpg, png, ...) and cls")
        text = "0" if self.classes is None else sample["cls"].decode(errors="replace").strip()
        if not text.isdecimal() or int(text) >= (self.classes or 1):
            raise InputError(f"{where} has class {text!r}; data.classes names {self.classes}, numbered from 0")
        try:
            return self.transform(open_rgb(BytesIO(sample[name]), where)), int(text)
        except UnreadableError as error:
            self.skip(str(error))
            return None


class ShardLoader(DataLoader[Any]):
    """A loader of shards that tells its workers the epoch, by which they shuffle.

    Args:
        shards: The data.
        batch: Samples in a batch.
        workers: Processes that read.
        epoch: Says which epoch it is.
        pin: Whether batches are put where a GPU reads them fast.
    """

    def __init__(self, shards: Shards, batch: int, workers: int, epoch: Callable[[], int], pin: bool) -> None:
        training = shards.samples is not None
        super().__init__(shards, batch, num_workers=workers, drop_last=training, pin_memory=pin)
        self.current_epoch = epoch

    def __len__(self) -> int:
        if self.dataset.samples is None:  # type: ignore[attr-defined]
            raise OptionError("how many pictures shards hold is known once they are read")
        return int(self.dataset.batches())  # type: ignore[attr-defined]

    def __iter__(self) -> Any:
        self.dataset.epoch = self.current_epoch()  # type: ignore[attr-defined]
        return super().__iter__()
