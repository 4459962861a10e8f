"""Parts on Ray Data's workers: on this machine, or on a cluster by its address.

That each picture has one row does not hang on Ray. Ray Data hands out the numbers of parts, and a worker writes a part
as a file that takes its place at once. Ray Data may run a part twice, if a worker or a machine dies: the second file
replaces an equal one. Its own checkpoints (`DataContext.checkpoint_config`) are not used: they are beta, they keep the
name of each row that was written in the memory of each reader, and do not notice that other settings made the rows.
"""

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dualvit.batch.parts import Opener, PartMaker
from dualvit.batch.plan import Plan
from dualvit.cluster import open_ray
from dualvit.errors import StateError, line_of
from dualvit.provenance import allowed_cores

RESTARTS = 3  # of a worker that dies, and of a part in it


class Worker:
    """A worker of Ray Data; it opens the model once."""

    def __init__(self, folder: str, key: str, opener: Opener, threads: int, ours: str) -> None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        if (here := version("dualvit")) != ours:
            raise StateError(f"a worker has dualvit {here}, and the command {ours}; install the same on all machines")
        self.maker = PartMaker(Path(folder), key, opener, threads)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        """Make parts; returns their numbers, and how many pictures each has."""
        parts = [int(part) for part in batch["part"]]
        return {"part": parts, "images": [self.maker.make(part) for part in parts]}


def made(
    folder: Path, plan: Plan, parts: Sequence[int], opener: Opener, workers: int | None, address: str | None
) -> Iterator[int]:  # fmt: skip
    """Make parts on workers; yields how many pictures each has that is done.

    Args:
        folder: Of the batch.
        plan: Its plan.
        parts: Their numbers.
        opener: Opens the model.
        workers: How many; a worker per four cores if None.
        address: Of a cluster; None starts Ray on this machine, for as long as it takes.

    Raises:
        ModuleNotFoundError: Ray is not installed.
        RuntimeError: the cluster cannot be reached, or a worker failed again and again.
    """
    with _ray(address) as ray:
        cores = int(ray.cluster_resources().get("CPU", 1)) if address else allowed_cores()
        count = min(workers or max(1, cores // 4), len(parts))
        threads = max(1, cores // count)
        data = ray.data.from_items([{"part": part} for part in parts], override_num_blocks=len(parts))
        with warnings.catch_warnings():  # Ray has no other way yet to say how often a worker may die
            warnings.simplefilter("ignore")
            done = data.map_batches(
                Worker, batch_size=1, compute=ray.data.ActorPoolStrategy(size=count),
                num_cpus=threads if address else cores / count, max_restarts=RESTARTS, max_task_retries=RESTARTS,
                fn_constructor_args=(str(folder.resolve()), plan.key, opener, threads, version("dualvit")),
            )  # fmt: skip
        try:
            for row in done.iter_rows():
                yield int(row["images"])
        except (ray.exceptions.RayError, ray.data.exceptions.RayDataUserCodeException) as error:
            raise StateError(_cause(error)) from None


def _cause(error: BaseException) -> str:
    """The worker's own line of an error that Ray has wrapped up."""
    cause: BaseException | None = error
    lines = []
    while cause is not None:
        lines.append(line_of(getattr(cause, "cause", None) or cause, 300))
        cause = getattr(cause, "cause", None) or cause.__cause__
    return f"a worker failed: {lines[-1]}; what is done stays, and the same command goes on"


@contextmanager
def _ray(address: str | None) -> Iterator[Any]:
    """Ray with Ray Data, which prints nothing either."""
    remedy = "correct --address, or give --workers 0"
    with open_ray(address, ("ray.data",), "install dualvit[batch], or give --workers 0", remedy) as ray:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        yield ray
