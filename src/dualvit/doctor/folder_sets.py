"""Folders of classes, and pictures with masks, for the doctor."""

from pathlib import Path
from typing import Any

from dualvit.data.folders import read_split
from dualvit.data.images import pictures_in
from dualvit.doctor.findings import Finding
from dualvit.doctor.sets import PARTS, DataSet, Item
from dualvit.errors import DualViTError, MissingFileError


def read_folder_set(root: Path) -> DataSet:
    """List the pictures of train/CLASS/, val/CLASS/ and test/CLASS/.

    Raises:
        FileNotFoundError: there are none.
    """
    found: dict[str, Any] = {}
    findings: list[Finding] = []
    for split in PARTS:
        if split != "test" or (root / split).is_dir():
            try:
                found[split] = read_split(root / split)
            except DualViTError as error:
                findings.append(Finding("no-split", str(error), split=split))
    if not found:
        raise MissingFileError(findings[0].message)
    folders = {entry.name for split in PARTS if (root / split).is_dir() for entry in (root / split).iterdir()
               if entry.is_dir() and not entry.name.startswith(".")}  # fmt: skip
    classes = tuple(sorted(folders))
    data = DataSet(root, "folders", "classify", classes, findings=findings)
    for split, (names, samples) in found.items():
        for file, label in samples:
            data.items.append(Item(file, split, root / split / names[label], label=classes.index(names[label])))
    return data


def read_mask_set(root: Path, classes: tuple[str, ...]) -> DataSet:
    """List the pictures of images/, each with its mask.

    Raises:
        FileNotFoundError: there are none.
        ValueError: no names of classes.
    """
    from dualvit.data import masks

    layout = next((pairs for pairs in masks.LAYOUTS if (root / pairs[0][0]).is_dir()), None)
    if layout is None:
        masks.read_masks(root, classes)  # says what is missing
        raise MissingFileError(f"{root} has no pictures to train on")
    data = DataSet(root, "masks", "semantic", classes or masks.class_names(root))
    for split, (images, folder) in zip(("train", "val"), layout, strict=True):
        files = pictures_in(root / images) if (root / images).is_dir() else []
        if not files:
            data.findings.append(Finding("no-split", f"no images in {root / images}", split=split))
        for file in files:
            mask = root / folder / file.relative_to(root / images).with_suffix(".png")
            data.items.append(Item(file, split, mask))
            if not mask.is_file():
                message = f"{file} has no mask {mask}, and a training stops there"
                data.findings.append(Finding("bad-mask", message, (file,), split))
        known = {item.source for item in data.of(split)}
        for mask in pictures_in(root / folder) if (root / folder).is_dir() else ():
            if mask not in known and mask.suffix == ".png":
                data.findings.append(Finding("label-without-picture", f"{mask} has no picture", (mask,), split))
    return data
