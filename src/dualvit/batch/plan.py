"""What a batch is: its settings, its list of pictures, and their fixed parts; kept in its folder from its first start.

`items.parquet` is the list, a row group per part, and `plan.json` says what is done with it. The plan is written last:
a folder without it has not begun. Parts never change, so the rows of a part are the same whoever makes them.
"""

import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from dualvit.batch.sources import LOST, Item, Source
from dualvit.errors import InputError, MissingFileError
from dualvit.files import atomic, read_json, write_json

PLAN, ITEMS, PARTS = "plan.json", "items.parquet", "parts"
FEWEST, MOST, SOUGHT = 16, 512, 64  # pictures of a part, and how many parts there are if that allows it
FORMATS = ("parquet", "coco")
OF_OBJECTS = ("detect", "segment")


@dataclass(frozen=True)
class Settings:
    """What decides the rows of a batch.

    Attributes:
        source: As `Source` takes it.
        model: A checkpoint, an exported file, or a timm name.
        runtime: eager, onnxruntime, openvino, or auto.
        weights: Of a timm name.
        image_size: In pixels; the model's own if None.
        confidence: Objects with a lower score are left out.
        batch: Pictures that the model is given at once.
    """

    source: str
    model: str
    runtime: str = "auto"
    weights: str | None = None
    image_size: int | None = None
    confidence: float = 0.25
    batch: int = 16

    def check(self) -> None:
        """Stop at a value that cannot be used.

        Raises:
            ValueError: with the limit.
        """
        if not 0 <= self.confidence <= 1:
            raise InputError(f"confidence is {self.confidence:g}; give a number from 0 to 1")
        if not 1 <= self.batch <= 4096:
            raise InputError(f"batch is {self.batch}; give 1 to 4096 pictures")


@dataclass(frozen=True)
class Model:
    """What is known of the model once it was opened.

    Attributes:
        digest: SHA-256 of its files.
        task: classify, detect, segment or semantic.
        classes: Their names.
        runtime, precision: In which it computes.
    """

    digest: str
    task: str
    classes: tuple[str, ...]
    runtime: str
    precision: str


@dataclass(frozen=True)
class Plan:
    """A batch as its folder keeps it.

    Attributes:
        key: Of this plan; each part names it.
        settings: What decides the rows.
        model: What answers.
        images: How many pictures there are.
        part: Pictures of a part; the last one may have fewer.
        notes: What was left out of the list.
        date: When the list was made.
    """

    key: str
    settings: Settings
    model: Model
    images: int
    part: int
    notes: tuple[str, ...]
    date: str

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return -(-self.images // self.part)

    def numbers(self, part: int) -> range:
        """Return the numbers of the pictures of a part."""
        return range(part * self.part, min((part + 1) * self.part, self.images))


def make(folder: Path, settings: Settings, model: Model, source: Source) -> Plan:
    """List all pictures, and write the list and the plan into a folder.

    Raises:
        FileNotFoundError: there are no pictures.
    """
    import pyarrow as pa
    from pyarrow import parquet

    notes: list[str] = []
    items = list(source.items(notes))
    if all(item.offset == LOST for item in items):
        said = f"; {items[0].name}" if items else ""
        raise MissingFileError(f"no pictures in {settings.source}{said}" + "".join(f"; {line}" for line in notes))
    part = -(-max(FEWEST, min(MOST, -(-len(items) // SOUGHT))) // settings.batch) * settings.batch
    schema = pa.schema([("name", pa.string()), ("place", pa.binary()), ("offset", pa.int64()), ("size", pa.int64())])
    with atomic(folder / ITEMS) as file, parquet.ParquetWriter(file, schema) as writer:
        for first in range(0, len(items), part):
            rows = [
                asdict(item) | {"place": item.place.encode(errors="surrogateescape")}
                for item in items[first : first + part]
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema), row_group_size=part)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    plan = Plan(uuid.uuid4().hex, settings, model, len(items), part, tuple(notes), now)
    write_json(folder / PLAN, asdict(plan))
    return plan


def load(folder: Path) -> Plan | None:
    """Return the plan of a folder; None if there is none.

    Raises:
        ValueError: there is one, and it is damaged.
    """
    if not (folder / PLAN).exists():
        return None
    content = read_json(folder / PLAN) or {}
    try:
        model = Model(**content["model"] | {"classes": tuple(content["model"]["classes"])})
        made = {"settings": Settings(**content["settings"]), "model": model, "notes": tuple(content["notes"])}
        return Plan(**content | made)
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{folder / PLAN} is damaged or of another version; give another --out") from None


def require_same(folder: Path, plan: Plan, settings: Settings, digest: str) -> None:
    """Stop if a folder was begun with other settings.

    Raises:
        ValueError: naming each setting with both of its values.
    """
    old, new = asdict(plan.settings), asdict(settings)
    if old["runtime"] == plan.model.runtime and new["runtime"] == "auto":
        new["runtime"] = old["runtime"]
    differ = [f"{name} {old[name]} (now {new[name]})" for name in old if old[name] != new[name]]
    if not differ and digest != plan.model.digest:
        differ = [f"another content of {settings.model}"]
    if differ:
        raise InputError(f"{folder} was begun with {', '.join(differ)}; give the same settings, or another --out")


def read_items(folder: Path, part: int) -> list[Item]:
    """Return the pictures of a part."""
    from pyarrow import parquet

    with parquet.ParquetFile(folder / ITEMS) as file:
        rows = file.read_row_group(part).to_pylist()
    return [Item(**row | {"place": row["place"].decode(errors="surrogateescape")}) for row in rows]


def appeared(folder: Path, plan: Plan, source: Source) -> int:
    """Return how many pictures of a folder or a store are there now that are not in the list."""
    from pyarrow import parquet

    known = set(parquet.read_table(folder / ITEMS, columns=["name"])["name"].to_pylist())
    return sum(item.name not in known for item in source.items([]))
