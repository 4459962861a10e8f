"""How faithful the methods of `dualvit.explain` are on real boxes: deletion, insertion, evidence, randomised weights.

    python benchmarks/faithfulness.py datasets/raccoon/data.yaml --models MODEL.pt OTHER.pt --names ours stock

Objects are those that a model finds in the pictures of the splits, those of val first. The same command goes on where
it stopped: OUT keeps a line per model, object and method. The table goes to docs/results/faithfulness.json.
"""

import argparse
import hashlib
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from dualvit.data.images import open_rgb
from dualvit.explain import Subject, open_subject
from dualvit.explain.curves import Removal
from dualvit.explain.drise import Masks
from dualvit.explain.faithfulness import Journal, files_of, measure
from dualvit.explain.methods import Method, drise_method, methods_of
from dualvit.explain.randomised import Case, randomised
from dualvit.files import read_json, write_json
from dualvit.progress import working
from dualvit.provenance import environment

OUT = Path(__file__).resolve().parents[1] / "docs" / "results" / "faithfulness.json"


def chosen(args: argparse.Namespace) -> list[Method]:
    """Return the methods, D-RISE with the masks asked for."""
    masks = Masks(count=args.masks, grid=args.grid)
    return [drise_method(masks) if one.name == "drise" else one for one in methods_of(args.methods)]


def cases(subject: Subject, files: list[Path], count: int) -> list[Case]:
    """Return the surest object of so many pictures."""
    found: list[Case] = []
    for file in files:
        view = subject.view(open_rgb(file))
        with torch.no_grad():
            objects = subject.found(subject.answers(subject.network(view.images))[0])
        found += [(file.name, view, one) for one in objects[:1]]
        if len(found) == count:
            break
    return found


def check(args: argparse.Namespace, subject: Subject, files: list[Path], folder: Path) -> list[dict[str, Any]]:
    """Randomise weights for each method, unless its result is in the folder."""
    rows = []
    some = cases(subject, files, args.cases)
    for method in chosen(args):
        file = folder / f"randomised-{method.name}-{args.masks}-{args.grid}-{args.cases}.json"
        if (known := read_json(file)) is None:
            known = randomised(subject, some, method).plain()
            write_json(file, known)
        rows.append(known)
    return rows


def main() -> None:
    """Measure, print the tables, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="data.yaml, or a folder of pictures")
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="checkpoints of detectors")
    parser.add_argument("--names", nargs="+", required=True, help="what the table calls them")
    parser.add_argument("--splits", nargs="+", default=["val", "train"])
    parser.add_argument("--methods", default="layercam,eigencam,drise")
    parser.add_argument("--masks", type=int, default=5000, help="of D-RISE; the paper has 5000")
    parser.add_argument("--grid", type=int, default=16, help="cells per side of D-RISE's masks; the paper has 16")
    parser.add_argument("--steps", type=int, default=32, help="of deletion and insertion")
    parser.add_argument("--baselines", nargs="+", default=["blurred"], help="blurred, grey")
    parser.add_argument("--boxes", type=int, default=100, help="per model")
    parser.add_argument("--cases", type=int, default=20, help="pictures for the randomised weights; 0 for none")
    parser.add_argument("--out", type=Path, default=Path("runs") / "faithfulness")
    parser.add_argument("--json", type=Path, default=OUT)
    args = parser.parse_args()
    if len(args.models) != len(args.names):
        parser.error(f"{len(args.models)} models and {len(args.names)} names; give as many")
    files, methods = files_of(args.data, args.splits), chosen(args)
    whole: dict[str, Any] = {
        "data": args.data.parent.name, "splits": args.splits, "masks": asdict(Masks(count=args.masks, grid=args.grid)),
        "models": {},
    }  # fmt: skip
    for name, model in zip(args.names, args.models, strict=True):
        subject, folder = open_subject(model), args.out / name
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
        row: dict[str, Any] = {"sha256": digest, "image_size": getattr(subject, "image_size", None), "baselines": {}}
        for baseline in args.baselines:
            removal = Removal(steps=args.steps, baseline=baseline)
            about = {"model": digest, "data": whole["data"], "removal": asdict(removal), "masks": whole["masks"]}
            journal = Journal(folder / f"{baseline}.jsonl", about)
            with working(f"{name}, {baseline}") as progress:
                found = measure(subject, files, methods, removal, args.boxes, journal, partial(progress))
            Console(width=160).print(found.table(f"{name}, {baseline}"))
            row["baselines"][baseline] = found.summary()
        row["randomised"] = check(args, subject, files, folder) if args.cases else []
        whole["models"][name] = row
    write_json(args.json, whole | {"steps": args.steps} | environment(False))
    print(f"wrote {args.json}")


if __name__ == "__main__":
    main()
