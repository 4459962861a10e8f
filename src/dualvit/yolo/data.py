"""What Ultralytics reads of a data set in the YOLO layout, so that it finds and reads what recipes do.

Its own rules come first, and its own functions read. Beyond them: `path` from the folder of the data.yaml, links whose
own path leads to labels, boxes beside polygons in one file, and in old versions byte-order marks.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml  # type: ignore[import-untyped]
from ultralytics.data.base import BaseDataset
from ultralytics.data.utils import img2label_paths
from ultralytics.utils import DATASETS_DIR, LOGGER

from dualvit.data.images import UnreadableError
from dualvit.data.yolo_labels import Pair, read_rows
from dualvit.data.yolo_layout import Layout, find_yaml, listed_file, read_layout
from dualvit.errors import MissingFileError

SPLITS = ("train", "val", "test", "minival")
BOX = 5  # words of its line


def check_det_dataset(stock: Callable[..., Any], dataset: str | Path, autodownload: bool = True, **options: Any) -> Any:
    """Read a data.yaml with Ultralytics' function, and its places as recipes do."""
    described = None if "://" in str(dataset) else find_yaml(dataset)
    if described is None or not described.is_file():  # a name that Ultralytics knows, an archive, an address
        return stock(dataset, autodownload, **options)
    layout, needed = read_layout(described), options.get("split") or "val"
    places, fetched = {}, autodownload and bool(layout.content.get("download"))
    for split in SPLITS:
        if layout.content.get(split, split in ("train", "val")) or split == needed:
            try:
                places[split] = layout.places(split, [Path(DATASETS_DIR)])
            except MissingFileError:
                if split == needed and not fetched:
                    raise
    try:
        data = stock(str(described), fetched and needed not in places, **options)
    except FileNotFoundError:
        if needed not in places:
            raise
        data = _elsewhere(stock, layout, places, options)
    for split, found_places in places.items():
        listed = [str(place.absolute()) for place in found_places]
        data[split] = listed if len(listed) > 1 else listed[0]
    return data


def _elsewhere(
    stock: Callable[..., Any], layout: Layout, places: dict[str, list[Path]], options: dict[str, Any]
) -> dict[str, Any]:
    """What Ultralytics reads of the same data.yaml with absolute places."""
    content = {key: value for key, value in layout.content.items() if key not in ("download", "validation")}
    content |= {split: [str(place.absolute()) for place in found] for split, found in places.items()}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data.yaml"
        file.write_text(yaml.safe_dump(content | {"path": str(layout.file.parent.absolute())}))
        data: dict[str, Any] = stock(str(file), False, **options)
    return data | {"yaml_file": str(layout.file)}


def get_img_files(reader: Any, stock: Callable[..., list[str]], place: str | list[str]) -> list[str]:
    """List images with Ultralytics' method; those of a text file by whole paths, which lead to label files."""
    lists = [Path(one) for one in (place if isinstance(place, list) else [place])]

    def whole(file: str) -> str:
        found = (listed_file(one, file) for one in lists)
        return file if Path(file).is_absolute() else str(next(filter(Path.exists, found), file))

    return [whole(file) for file in stock(reader, place)]


def verify_image_label(stock: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Read a label file with Ultralytics' function, in the form that it expects of one with several kinds of lines.

    Boxes beside polygons are given as their four corners, and keypoints are left out if the task is not pose.
    """
    picture, file, prefix, pose, count, keypoints, values, *others = arguments
    try:
        rows = [] if pose else [words for _, words in read_rows(Path(file))]
    except UnreadableError:  # Ultralytics says so in its own words
        rows = []
    posed = BOX + keypoints * values
    plain = [words[:BOX] if keypoints and len(words) == posed else words for words in rows]
    if any(len(words) > BOX + 1 for words in plain):
        plain = [_corners(words) if len(words) == BOX else words for words in plain]
    marked = bool(rows) and Path(file).read_bytes().startswith(b"\xef\xbb\xbf")
    if plain == rows and not marked:
        return stock(arguments)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "labels.txt"
        copy.write_text("".join(" ".join(words) + "\n" for words in plain))
        return stock((picture, str(copy), prefix, pose, count, keypoints, values, *others))


def _corners(words: list[str]) -> list[str]:
    """The line of a box as that of a polygon; a line that is malformed stays."""
    try:
        x, y, width, height = map(float, words[1:])
    except ValueError:
        return words
    left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return [words[0], *(f"{value:.9g}" for value in (left, top, right, top, right, bottom, left, bottom))]


def pairs_of(name: str | Path, data: dict[str, Any], split: str) -> list[Pair]:
    """Return the images of a split, as Ultralytics lists them, each with its label file.

    Args:
        name: Of the data set, for the message.
        data: What Ultralytics read of its YAML.
        split: train, val or test.

    Raises:
        FileNotFoundError: there are no images.
    """
    quiet, LOGGER.disabled = LOGGER.disabled, True  # it speaks of the speed of the disk
    try:
        files = BaseDataset.get_img_files(SimpleNamespace(prefix="", fraction=1.0), data[split])
    except FileNotFoundError:
        raise MissingFileError(
            f"data {name}: no images in {data[split]}; put some there, or correct `path` and `{split}` in it"
        ) from None
    finally:
        LOGGER.disabled = quiet
    return [(Path(file), Path(labels)) for file, labels in zip(files, img2label_paths(files), strict=True)]
