"""What a batch ends in: its parts, checked and joined into one Parquet file or one json of COCO's, and their counts."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from dualvit.batch.parts import answers_of, path_of, schema_of, told
from dualvit.batch.plan import OF_OBJECTS, Plan
from dualvit.errors import InputError, StateError
from dualvit.files import atomic

FILES = {"parquet": "predictions.parquet", "coco": "predictions.json"}
SHOWN = 6  # pictures with answers that the page draws


@dataclass
class Counts:
    """What is in the rows.

    Attributes:
        images: Rows.
        reasons: Of those without an answer.
        classes: Objects by the name of their class; of classifiers, pictures by their surest class; of regions,
            pictures that have one.
        seconds: Of all workers.
        machines: Runtime, precision and host, with the parts that each made.
        bad: The first rows without an answer: image and message.
        shown: A few rows with an answer: their numbers.
    """

    images: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    machines: Counter[str] = field(default_factory=Counter)
    bad: list[tuple[str, str, str]] = field(default_factory=list)
    shown: list[int] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """Rows with an answer."""
        return self.images - self.reasons.total()

    def plain(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return {**vars(self), "answered": self.answered}


def require_format(name: str, task: str) -> None:
    """Stop at a format that does not hold the answers of a task.

    Raises:
        ValueError: it does not.
    """
    if name not in FILES:
        raise InputError(f"format is {name!r}; give one of {', '.join(FILES)}")
    if name == "coco" and task not in OF_OBJECTS:
        raise InputError(f"COCO's json holds objects, and the model's task is {task}; give --format parquet")


def join(folder: Path, plan: Plan, form: str) -> tuple[Path, Counts]:
    """Write the one file of all rows, after each row was counted.

    Raises:
        RuntimeError: a row is missing, or is there twice; it names the part.
    """
    counts = count(folder, plan)
    file = folder / FILES[form]
    (_write_parquet if form == "parquet" else _write_coco)(folder, plan, file)
    return file, counts


def count(folder: Path, plan: Plan) -> Counts:
    """Count the rows, and hold them to the list: each number once, and in order.

    Raises:
        RuntimeError: they are not.
    """
    counts, column = Counts(), answers_of(plan.model.task)
    with_most: list[tuple[int, int]] = []
    for part, table in _tables(folder, plan):
        if table["index"].to_pylist() != list(plan.numbers(part)):
            raise StateError(f"{path_of(folder, part)} does not hold its rows; delete it, and run the command again")
        counts.images += table.num_rows
        about = told(table.schema)
        counts.seconds += about["seconds"]
        counts.machines[f"{about['runtime']}, {about['precision']}, on {about['host']}"] += 1
        for row in table.to_pylist():
            if row["reason"] is not None:
                counts.reasons[row["reason"]] += 1
                counts.bad.append((row["image"], row["reason"], row["message"]))
                continue
            answers = row[column][:1] if plan.model.task == "classify" else row[column]
            counts.classes.update(answer["name"] for answer in answers)
            with_most.append((-len(row[column]) if column == "objects" else 0, row["index"]))
        with_most = sorted(with_most)[:SHOWN]
        counts.bad = counts.bad[:SHOWN]
    counts.shown = [index for _, index in with_most]
    if counts.images != plan.images:
        raise StateError(f"{folder} has {counts.images} rows for {plan.images} pictures; run the command again")
    return counts


def rows(folder: Path, plan: Plan, numbers: list[int]) -> Iterator[dict[str, Any]]:
    """Yield the rows of some pictures."""
    from pyarrow import parquet

    for number in numbers:
        table = parquet.read_table(path_of(folder, number // plan.part))
        yield table.slice(number % plan.part, 1).to_pylist()[0]


def _tables(folder: Path, plan: Plan) -> Iterator[tuple[int, Any]]:
    from pyarrow import parquet

    for part in range(plan.parts):
        yield part, parquet.ParquetFile(path_of(folder, part)).read()


def _write_parquet(folder: Path, plan: Plan, file: Path) -> None:
    from pyarrow import parquet

    schema = schema_of(plan.model.task)
    with atomic(file) as opened, parquet.ParquetWriter(opened, schema) as writer:
        for _, table in _tables(folder, plan):
            writer.write_table(table.replace_schema_metadata(None).cast(schema))


def _write_coco(folder: Path, plan: Plan, file: Path) -> None:
    """COCO's json, part by part: the rows of a million pictures are never in memory together."""
    about = {"description": f"dualvit batch of {plan.settings.source} by {plan.settings.model}", "date": plan.date}
    number = 0

    def annotations(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        nonlocal number
        for one in row["objects"] or ():
            number += 1
            yield {"id": number, "image_id": row["index"] + 1, **_annotation(one)}

    with atomic(file) as opened:
        opened.write(b'{"info": ' + _json(about))
        for name, of_row in (("images", _image), ("annotations", annotations)):
            opened.write(f',\n"{name}": ['.encode())
            _write_list(opened, folder, plan, of_row)
            opened.write(b"]")
        names = [{"id": index, "name": title} for index, title in enumerate(plan.model.classes)]
        opened.write(b',\n"categories": ' + _json(names) + b"}\n")


def _image(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    image = {"id": row["index"] + 1, "file_name": row["image"]}
    if row["reason"] is None:
        yield image | {"width": row["width"], "height": row["height"]}
    else:
        yield image | {"reason": row["reason"], "message": row["message"]}


def _annotation(one: dict[str, Any]) -> dict[str, Any]:
    x, y, right, bottom = one["box"]
    box = [x, y, round(right - x, 2), round(bottom - y, 2)]
    mask, area = one.get("mask"), round(box[2] * box[3], 2)
    if mask is not None:
        area = sum(mask["counts"][1::2])
    outline = {} if mask is None else {"segmentation": mask}
    found = {"category_id": one["label"], "bbox": box, "area": area, "iscrowd": 0, "score": one["score"]}
    return found | outline


def _write_list(
    file: IO[bytes], folder: Path, plan: Plan, of_row: Callable[[dict[str, Any]], Iterator[dict[str, Any]]]
) -> None:  # fmt: skip
    comma = b"\n"
    for _, table in _tables(folder, plan):
        for row in table.to_pylist():
            for one in of_row(row):
                file.write(comma + _json(one))
                comma = b",\n"


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
