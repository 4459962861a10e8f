"""A part of a batch: its pictures are opened one by one, answered together, and written as one Parquet file, whole.

| column | what it holds |
|---|---|
| index | the number of the picture in the list, from 0 |
| image | its path from the source on, or SHARD:MEMBER |
| width, height | in pixels, upright; null without an answer |
| reason, message | null; or why there is no answer: a word of `sources.REASONS`, and a line |
| objects, classes or regions | the answer, as `dualvit.deploy.reading` says, by the task |
"""

import json
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from dualvit.batch.plan import PARTS, Plan, load, read_items
from dualvit.batch.sources import BadPictureError, Item, Source
from dualvit.errors import StateError, line_of
from dualvit.files import at_limit, atomic

KEY = b"dualvit"  # of a part's metadata: the plan's key, its seconds and its machine


class Predictor(Protocol):
    """What answers: see `dualvit.deploy.predictor`."""

    task: str
    classes: tuple[str, ...]
    runtime: str
    precision: str
    batch: int

    def predict(self, pictures: Sequence[Image.Image], confidence: float) -> list[dict[str, Any]]:
        """Return an answer per picture."""


Opener = Callable[..., Any]  # to a `Predictor`


def answers_of(task: str) -> str:
    """Return the column that holds the answers of a task."""
    return {"classify": "classes", "semantic": "regions"}.get(task, "objects")


def schema_of(task: str) -> Any:
    """Return the columns of a task's rows."""
    import pyarrow as pa

    mask = ("mask", pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.list_(pa.int32()))]))
    fields = [("label", pa.int32()), ("name", pa.string())]
    fields += [("share", pa.float64())] if task == "semantic" else [("score", pa.float64())]
    fields += [("box", pa.list_(pa.float64()))] if task in ("detect", "segment") else []
    fields += [mask] if task in ("segment", "semantic") else []
    return pa.schema(
        [
            pa.field("index", pa.int64(), nullable=False), pa.field("image", pa.string(), nullable=False),
            ("width", pa.int32()), ("height", pa.int32()), ("reason", pa.string()), ("message", pa.string()),
            (answers_of(task), pa.list_(pa.struct(fields))),
        ]
    )  # fmt: skip


def path_of(folder: Path, part: int) -> Path:
    """Return the file of a part."""
    return folder / PARTS / f"{part:06}.parquet"


class PartMaker:
    """Makes parts, in this process or in a worker's.

    Args:
        folder: Of the batch.
        key: Of its plan, which the folder must hold; on another machine it may not be the same folder.
        opener: Opens the model.
        threads: Of a pass.

    Raises:
        RuntimeError: the folder is not here.
    """

    def __init__(self, folder: Path, key: str, opener: Opener, threads: int | None = None) -> None:
        plan = load(folder)
        if plan is None or plan.key != key:
            raise StateError(f"{socket.gethostname()} does not see {folder}; give a folder that all machines share")
        self.folder, self.plan, self.source = folder, plan, Source(plan.settings.source)
        self.predictor = opened(opener, plan, threads)

    def make(self, part: int) -> int:
        """Make a part, unless it is there; return how many pictures it has.

        Raises:
            OSError: it cannot be written, or memory has run out.
            RuntimeError: the model answers for none of its pictures, or a store does not answer.
        """
        numbers, file = self.plan.numbers(part), path_of(self.folder, part)
        if file.exists():
            return len(numbers)
        begin, rows, size = time.monotonic(), [], self.plan.settings.batch
        items = list(zip(numbers, read_items(self.folder, part), strict=True))
        for first in range(0, len(items), size):
            rows += self._rows(items[first : first + size])
        self._require_some(rows)
        self._write(file, part, rows, time.monotonic() - begin)
        return len(numbers)

    def _rows(self, group: Sequence[tuple[int, Item]]) -> list[dict[str, Any]]:
        """A row per picture: a picture that cannot be opened, or that the model fails on, costs no other one."""
        rows = [{"index": number, "image": item.name} for number, item in group]
        pictures: dict[int, Image.Image] = {}
        for place, (_, item) in enumerate(group):
            try:
                pictures[place] = self.source.open(item)
            except BadPictureError as error:
                rows[place] |= {"reason": error.reason, "message": line_of(error, 500)}
        for place, answer in self._answers(pictures).items():
            if isinstance(answer, Exception):
                rows[place] |= {"reason": "no answer", "message": line_of(answer, 500)}
            else:
                width, height = pictures[place].size
                column = answers_of(self.plan.model.task)
                rows[place] |= {"width": width, "height": height, column: answer[column]}
        return rows

    def _answers(self, pictures: dict[int, Image.Image]) -> dict[int, Any]:
        """An answer or an error by the places of pictures: together, or one by one if one of them fails."""
        if not pictures:
            return {}
        try:
            answers = self.predictor.predict(list(pictures.values()), self.plan.settings.confidence)
            return dict(zip(pictures, answers, strict=True))
        except Exception as error:
            if at_limit(error) and len(pictures) == 1:
                raise
            if len(pictures) == 1:
                return dict.fromkeys(pictures, error)
        return {
            place: answer
            for one, picture in pictures.items()
            for place, answer in self._answers({one: picture}).items()
        }

    def _require_some(self, rows: Sequence[dict[str, Any]]) -> None:
        """Stop if the model fails on all pictures that can be opened: then no picture is to blame."""
        asked = [row for row in rows if row.get("reason") in (None, "no answer")]
        if len(asked) > 1 and all("reason" in row for row in asked):
            raise StateError(f"{self.plan.settings.model} answers for no picture: {asked[0]['message']}")

    def _write(self, file: Path, part: int, rows: Sequence[dict[str, Any]], seconds: float) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        about = {
            "plan": self.plan.key, "part": part, "seconds": round(seconds, 3), "host": socket.gethostname(),
            "runtime": self.predictor.runtime, "precision": self.predictor.precision,
        }  # fmt: skip
        schema = schema_of(self.plan.model.task).with_metadata({KEY: json.dumps(about).encode()})
        # Its own name until it is whole: a worker of a killed start may still be at the same part.
        unfinished = file.with_name(f".{file.stem}-{uuid.uuid4().hex}")
        with atomic(unfinished) as handle:
            parquet.write_table(pa.Table.from_pylist(list(rows), schema), handle)
        unfinished.replace(file)


def opened(opener: Opener, plan: Plan, threads: int | None) -> Predictor:
    """Open the model of a plan, in the runtime that the plan has chosen."""
    settings = plan.settings
    predictor = opener(
        settings.model, runtime=plan.model.runtime, weights=settings.weights, image_size=settings.image_size,
        threads=threads,
    )  # fmt: skip
    predictor.batch = settings.batch
    return predictor


def is_whole(folder: Path, plan: Plan, part: int) -> bool:
    """Whether a part is there, with all of its rows, and of this plan; what is there and is not whole is removed."""
    import pyarrow as pa
    from pyarrow import parquet

    file = path_of(folder, part)
    if not file.exists():
        return False
    try:
        about = parquet.read_metadata(file)
        if about.num_rows == len(plan.numbers(part)) and told(about)["plan"] == plan.key:
            return True
    except (pa.ArrowException, OSError, KeyError):
        pass
    file.unlink()
    return False


def told(about: Any) -> dict[str, Any]:
    """Return what a part says of itself: its plan, seconds and machine."""
    return dict(json.loads((about.metadata or {})[KEY]))
