"""What a network says of each picture, typed: objects with their scores, or an answer to the whole picture."""

from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, FiniteFloat
from pydantic.dataclasses import dataclass

STORED = ConfigDict(extra="ignore", strict=True)  # further keys may come with other versions
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, config=STORED)
class Shown:
    """A picture: its number, and its file from the data set's folder on; of objects also its size in pixels."""

    id: Count
    file: str
    width: Count = 0
    height: Count = 0


@dataclass(frozen=True, config=STORED)
class Category:
    """A class: its number, which results call it, and its name."""

    id: Count
    name: str


@dataclass(frozen=True, config=STORED)
class Found:
    """An object that was found, in the form of COCO's results: x, y, width and height in pixels; a mask as runs."""

    image_id: Count
    category_id: Count
    bbox: Annotated[list[FiniteFloat], Field(min_length=4, max_length=4)]
    score: Share
    segmentation: dict[str, Any] | None = None


@dataclass(frozen=True, config=STORED)
class Answer:
    """What was said of a whole picture.

    Attributes:
        name: Of a classifier: the right class.
        right: Its probability.
        best: The most probable classes.
        ious, miou: Of a segmenter: of each class that occurs, and their mean.
        map: The class of each pixel, a small PNG in base64.
    """

    image_id: Count
    name: str = ""
    right: Share = 0.0
    best: dict[str, Share] = field(default_factory=dict)
    ious: dict[str, Share] = field(default_factory=dict)
    miou: Share | None = None
    map: str = ""


@dataclass(frozen=True, config=STORED, kw_only=True)
class Predictions:
    """What a network says of the pictures of a split."""

    version: Literal[1]
    task: str
    split: str
    categories: list[Category]
    images: list[Shown]
    annotations: list[Found] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their numbers."""
        return tuple(one.name for one in sorted(self.categories, key=lambda one: one.id))
