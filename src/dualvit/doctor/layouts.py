"""Which layout a place has, and the reader of each.

The package's readers stop at the first mistake, since a training would. Here a mistake is a finding, and the reading
goes on with what follows.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from dualvit.data.images import BESIDE, SUFFIXES
from dualvit.data.yolo_layout import find_yaml
from dualvit.doctor.coco_set import coco_files, read_coco_set
from dualvit.doctor.findings import Finding
from dualvit.doctor.folder_sets import read_folder_set, read_mask_set
from dualvit.doctor.sets import DataSet, Item
from dualvit.doctor.yolo_set import read_yolo_set
from dualvit.errors import InputError, MissingFileError


def open_set(place: Path, names: dict[str, tuple[str, str]] | None = None, classes: tuple[str, ...] = ()) -> DataSet:
    """Read a data set of any layout.

    Args:
        place: A data.yaml, or a folder in any layout that the package knows.
        names: Of COCO's layout, for train and val the json and the folder of pictures, if they have other names.
        classes: Names, of masks that do not bring any.

    Raises:
        FileNotFoundError: nothing is there, or nothing that the package can read.
        ValueError: a file that describes the whole set cannot be used.
    """
    place = Path(place)
    if not place.exists():
        raise MissingFileError(f"no data set at {place}; name a data.yaml, or the folder of a data set")
    if (described := find_yaml(place)) is not None:
        return read_yolo_set(described)
    if not place.is_dir():
        raise InputError(f"{place} is no data set; name a data.yaml, or the folder of a data set{_convert(place)}")
    found = dict(coco_files(place, names or {}))
    if found:
        return read_coco_set(place, found)
    if (place / "images").is_dir():
        beside = sorted((*place.glob("*.json"), *place.glob("annotations/*.json")))
        if beside and not any((place / folder).is_dir() for folder in ("masks", "annotations/training")):
            name = beside[0].relative_to(place)
            raise InputError(
                f"{place} has images/ and {name}, and does not say of which part they are; name the files with `--set "
                f"data.train_json={name} --set data.train_images=images`, and those of val{_convert(beside[0])}"
            )
        return read_mask_set(place, classes)
    if any((place / split).is_dir() for split in ("train", "val")):
        return read_folder_set(place)
    raise MissingFileError(
        f"{place} has no data.yaml, no annotations/*.json, no images/ with masks/, and no train/CLASS/ with "
        "val/CLASS/; docs/own-data.md shows the layouts"
    )


def _convert(file: Path) -> str:
    """What else can be done with labels of COCO; nothing of other files."""
    if file.suffix.lower() != ".json":
        return ""
    return f"; or let `dualvit data convert {file} OUT --to yolo --val 0.2` make a data set of it"


def left_out(items: Iterable[Item]) -> Iterator[Finding]:
    """Files beside the pictures that no reader takes for a picture, though they are no text."""
    known = {item.file for item in items}
    for folder in sorted({file.parent for file in known}):
        for file in sorted(folder.iterdir()):
            suffix = file.suffix.lower()
            picture = suffix in SUFFIXES and file.is_file()  # which a pipe is not
            ignored = picture or suffix in (*BESIDE, "") or file.name.startswith(".")
            if not ignored and file not in known and not file.is_dir():
                yield Finding("not-a-picture", f"{file} is no picture that the readers take", (file,))
