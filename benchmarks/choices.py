"""What each choice of pretraining is worth: one at a time against a first trial, by fine-tuning and not by the loss.

    python benchmarks/choices.py datasets/bccd/data.yaml --teachers DIR --out runs/choices/bccd

DIR holds lite0.safetensors, lite1.safetensors and lite2.safetensors, as `dualvit teacher` writes them. The student
learns from all training pictures. The detector then learns from a quarter of the labels of four fifths of them, for as
many steps in each row, and is scored on the other fifth: the validation pictures are not looked at. The steps of a row
are those that a quiet core does in the minutes given. Rows are named in CHOICES.

The same command goes on where it stopped. The log goes to docs/results/choices-NAME.json.
"""

import argparse
import json
import random
import statistics
from pathlib import Path
from typing import Any

import yaml
from starts import RESULTS, compare, dualvit

from dualvit.compare.sweep import write_part
from dualvit.files import write_json
from dualvit.provenance import environment

EVERY = 5  # of the training pictures, each fifth scores
STEP = {"lite0": 0.67, "lite1": 0.69, "lite2": 0.73}  # seconds of a step: 192 px, batch 16, one AVX-512 core, quiet
FIRST = ["match.semantics=0"]  # how the first trial differs from the recipe
CHOICES: dict[str, dict[str, Any]] = {
    "noise": {"steps": 0, "rate": 5e-4},
    "first trial": {},
    "crops from 0.5": {"set": ["augment.crop_scale=0.5"]},
    "lr 2e-3": {"set": ["optimizer.lr=0.002"]},
    "lr 8e-3": {"set": ["optimizer.lr=0.008"]},
    "teacher lite0": {"teacher": "lite0"},
    "cosine alone": {"set": ["match.distance=0"]},
    "no whitening": {"set": ["match.whiten=false"]},
    "strides 4 to 32": {"set": ["match.strides=[4,8,16,32]"]},
    "128 px": {"set": ["data.image_size=128"], "step": 0.47},
    "semantics 0.33": {"set": ["match.semantics=0.33"]},
    "semantics 1": {"set": ["match.semantics=1"]},
    "twice the minutes": {"minutes": 2},
    "four times the minutes": {"minutes": 4},
}


def student(args: argparse.Namespace, name: str, choice: dict[str, Any]) -> tuple[Path | None, int]:
    """Return the file of a student that learnt by a choice, and its steps; None and 0 for noise."""
    teacher = choice.get("teacher", "lite2")
    quiet = STEP[teacher] * choice.get("step", 1)
    steps = choice.get("steps", round(60 * args.minutes * choice.get("minutes", 1) / quiet))
    if not steps:
        return None, 0
    out = args.out / name.replace(" ", "-") / "pretrain"
    changes = ["schedule.minutes=null", f"schedule.steps={steps}", *FIRST, *choice.get("set", [])]
    dualvit(
        "pretrain", args.data, "--teacher", f"tf_efficientnet_{teacher}", "--weights",
        args.teachers / f"{teacher}.safetensors", "--out", out, *(word for one in changes for word in ("--set", one)),
    )  # fmt: skip
    return out / "dualvit_n.safetensors", steps


def quarter(choosing: Path) -> Path:
    """Write a data.yaml with a quarter of the training pictures of another one."""
    out, content = choosing.parent / "quarter", yaml.safe_load(choosing.read_text())
    files = (choosing.parent / "train.txt").read_text().split("\n")[:-1]
    random.Random(0).shuffle(files)
    out.mkdir(exist_ok=True)
    (out / "train.txt").write_text("\n".join(files[: len(files) // 4]) + "\n")
    changes = {"path": str(out.resolve()), "val": str((choosing.parent / "val.txt").resolve())}
    (out / "data.yaml").write_text(yaml.safe_dump(content | changes, sort_keys=False))
    return out / "data.yaml"


def main() -> None:
    """Try what is not tried yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="data.yaml")
    parser.add_argument("--teachers", type=Path, required=True)
    parser.add_argument("--choices", nargs="+", default=list(CHOICES), choices=CHOICES)
    parser.add_argument("--minutes", type=float, default=5, help="of pretraining, per row")
    parser.add_argument("--rate", type=float, default=1e-3, help="of the detector; that of starts.py on photographs")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--image-size", type=int, default=192)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.task = "detect"
    data = quarter(write_part(args.data, EVERY, args.out / "choosing"))
    for name in args.choices:
        file, steps = student(args, name, CHOICES[name])
        rate = CHOICES[name].get("rate", args.rate)
        model = {"name": "yolov8n-dualvit.yaml", "label": name, "settings": {"lr0": rate}}
        model |= {"weights": str(file.resolve())} if file else {}
        row = compare(args, f"{name.replace(' ', '-')}/final", data, [model])
        scores = [cell["last"] for cell in row["cells"]]
        entry = {"name": name, "steps": steps, "scores": scores, "mean": statistics.mean(scores)}
        write_json(args.out / name.replace(" ", "-") / "row.json", entry)
        print(f"{name:24s} {' '.join(f'{100 * score:.1f}' for score in scores)}", flush=True)
    rows = [json.loads(file.read_text()) for file in sorted(args.out.glob("*/row.json"))]
    said = {name: getattr(args, name) for name in ("minutes", "rate", "epochs", "image_size", "seeds")}
    log = {"data": args.data.parent.name, **said, "rows": rows, "environment": environment(False)}
    write_json(RESULTS / f"choices-{args.data.parent.name}.json", log)


if __name__ == "__main__":
    main()
