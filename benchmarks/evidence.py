"""What the explanation inside a file costs: one YOLO exported with and without `evidence`, timed in turn, compared.

    python benchmarks/evidence.py best.pt datasets/raccoon/images/val --sizes 640 192

The table goes to docs/results/evidence.json.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torchvision.transforms.v2.functional import resize

from dualvit.data.images import open_rgb
from dualvit.data.listing import image_files
from dualvit.deploy.runtimes import Run, missing, open_runtime
from dualvit.explain.subject import as_tensor
from dualvit.files import write_json
from dualvit.progress import working
from dualvit.provenance import environment
from dualvit.yolo import YOLO
from dualvit.yolo.evidence import BOXES, evidenced
from dualvit.yolo.groups import unwrap

OUT = Path(__file__).resolve().parents[1] / "docs" / "results" / "evidence.json"
Array = NDArray[Any]


def export(checkpoint: Path, size: int, boxes: int, folder: Path) -> Path:
    """Write the ONNX of a checkpoint, with evidence for so many boxes, or without for 0."""
    own = folder / f"{size}-{boxes}{checkpoint.suffix}"
    shutil.copy(checkpoint, own)  # the export goes beside it
    return Path(YOLO(own).export(format="onnx", imgsz=size, device="cpu", evidence=boxes or False, verbose=False))


def times(runs: list[Run], pictures: list[Array], rounds: int, title: str) -> list[float]:
    """Return the median of each run in milliseconds; they take turns, picture by picture."""
    seconds: list[list[float]] = [[] for _ in runs]
    with working(title) as progress:
        for number in range(-3, rounds):
            for place in sorted(range(len(runs)), reverse=bool(number % 2)):
                began = time.perf_counter()
                runs[place](pictures[number % len(pictures)])
                if number >= 0:
                    seconds[place].append(time.perf_counter() - began)
            progress(max(number + 1, 0), rounds)
    return [1000 * statistics.median(some) for some in seconds]


def differences(network: nn.Module, run: Run, pictures: list[Array], boxes: int) -> dict[str, float]:
    """Return how far a file is from PyTorch: of the boxes that both name in the same row, and how many those are."""
    far, same, total = 0.0, 0, 0
    for picture in pictures:
        with torch.no_grad(), evidenced(network, boxes):
            *_, evidence, anchors = network(torch.from_numpy(picture))
        *_, other, found = run(picture)
        rows = found == anchors.numpy()
        same, total = same + int(rows.sum()), total + rows.size
        far = max(far, float(np.abs(other - evidence.numpy())[rows].max(initial=0.0) / evidence.max()))
    return {"largest difference over largest share": far, "rows that name the same box": same / total}


def main() -> None:
    """Measure, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="of a YOLO on a Dual-ViT")
    parser.add_argument("pictures", type=Path, help="a folder")
    parser.add_argument("--sizes", type=int, nargs="+", default=[640, 192])
    parser.add_argument("--boxes", type=int, default=BOXES)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runtimes", nargs="+", default=["onnxruntime", "openvino"])
    parser.add_argument("--json", type=Path, default=OUT)
    args = parser.parse_args()
    network = unwrap(YOLO(args.checkpoint).model).float().eval()
    files = image_files([args.pictures])[:8]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in args.sizes:
            pictures = [resize(as_tensor(open_rgb(file)), [size, size]).numpy() for file in files]
            plain, told = (export(args.checkpoint, size, boxes, Path(folder)) for boxes in (0, args.boxes))
            for runtime in (name for name in args.runtimes if missing(name) is None):
                runs = [open_runtime(runtime, file, args.threads) for file in (plain, told)]
                before, after = times(runs, pictures, args.rounds, f"{runtime}, {size} px")
                row = {"runtime": runtime, "size": size, "ms": before, "ms with evidence": after}
                row |= {"ratio": after / before} | differences(network, runs[1], pictures, args.boxes)
                rows.append(
                    {name: round(value, 9) if isinstance(value, float) else value for name, value in row.items()}
                )
                print(rows[-1])
    about = {"boxes": args.boxes, "threads": args.threads, "rounds": args.rounds, "pictures": len(files)}
    write_json(args.json, about | {"rows": rows} | environment(False))


if __name__ == "__main__":
    main()
