"""Small data sets of the doctor's tests: pictures that differ from each other, and labels that fit them."""

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

BOX = "0 0.5 0.5 0.5 0.5"


def picture(seed: int, width: int = 96, height: int = 64) -> Image.Image:
    """Blurred noise: no two seeds look alike."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (5, 7, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def write(root: Path, name: str, lines: str | None = BOX, image: Image.Image | int = 0) -> Path:
    """Write a picture of the YOLO layout, such as train/1.jpg, and its label file."""
    file, label = root / "images" / name, (root / "labels" / name).with_suffix(".txt")
    file.parent.mkdir(parents=True, exist_ok=True)
    label.parent.mkdir(parents=True, exist_ok=True)
    (picture(image) if isinstance(image, int) else image).save(file)
    if lines is not None:
        label.write_text(f"{lines}\n")
    return file


def clean(root: Path, names: str = "[a, b]", yaml: str = "train: images/train\nval: images/val\n") -> Path:
    """Write a YOLO data set without faults: six pictures to train on, and three to validate on."""
    for index in range(9):
        split = "train" if index < 6 else "val"
        write(root, f"{split}/p{index}.jpg", f"{index % 2} 0.5 0.5 0.4 0.6", index)
    (root / "data.yaml").write_text(f"{yaml}names: {names}\n")
    return root / "data.yaml"


def digest(root: Path) -> str:
    """One sum of all names and contents of a folder."""
    total = hashlib.sha256()
    for file in sorted(file for file in root.rglob("*") if file.is_file()):
        total.update(str(file.relative_to(root)).encode() + file.read_bytes())
    return total.hexdigest()
