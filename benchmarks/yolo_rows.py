"""Train YOLO models in equal settings on one data set and keep one result row for each.

    python benchmarks/yolo_rows.py ../shared/data/bccd --imgsz 320 --models yolov8n.yaml yolov8n-dualvit.yaml

Rows go to docs/results/yolo-NAME.json; rows and finished runs that are there already are kept, so
an interrupted comparison continues. The settings are the ones of docs/results/README.md.
"""

import argparse
import csv
import json
import shutil
from datetime import date
from pathlib import Path

from dualvit.provenance import commit, processor
from dualvit.yolo.demo import use_all_cores

ROOT = Path(__file__).resolve().parents[1]


def yolo_class(model_name: str) -> type:
    """Ultralytics' own YOLO for stock models, ours for the rest."""
    if "dualvit" in model_name:
        from dualvit.yolo import YOLO
    else:
        from ultralytics import YOLO
    return YOLO


def train(model_name: str, data: Path, args: argparse.Namespace, run: Path) -> None:
    """Train `model_name` into `run`, in the settings that every row shares."""
    model = yolo_class(model_name)(model_name)
    model.add_callback("on_train_start", use_all_cores)
    model.train(
        data=str(data / "data.yaml"),
        imgsz=args.imgsz,
        epochs=args.epochs,
        batch=16,
        seed=args.seed,
        optimizer="AdamW",
        lr0=1e-3,
        cos_lr=True,
        device="cpu",
        workers=2,
        amp=False,
        plots=False,
        project=str(run.parent),
        name=run.name,
        exist_ok=True,
        **dict(pair.split("=", 1) for pair in args.set),
    )


def epochs_done(run: Path) -> list[dict[str, str]]:
    """The rows of a run's results.csv, one an epoch."""
    table = run / "results.csv"
    return list(csv.DictReader(table.open(), skipinitialspace=True)) if table.exists() else []


def result_row(model_name: str, data: Path, args: argparse.Namespace, run: Path) -> dict[str, object]:
    """The row of a finished run: accuracy of best.pt, size and cost."""
    import torch
    import ultralytics

    best = yolo_class(model_name)(run / "weights" / "best.pt")
    metrics = best.val(
        data=str(data / "data.yaml"), imgsz=args.imgsz, batch=32, device="cpu", workers=2, plots=False,
        project=str(run.parent), name=f"{run.name}-val", exist_ok=True,
    )  # fmt: skip
    part = metrics.seg if hasattr(metrics, "seg") else metrics.box
    _, parameters, _, gflops = yolo_class(model_name)(model_name).info(verbose=True)
    return {
        "model": model_name,
        "mAP50": round(float(part.map50), 4),
        "mAP50-95": round(float(part.map), 4),
        "box mAP50": round(float(metrics.box.map50), 4),
        "box mAP50-95": round(float(metrics.box.map), 4),
        "parameters": int(parameters),
        "GFLOPs": round(float(gflops), 2),
        "minutes": round(float(epochs_done(run)[-1]["time"]) / 60, 1),
        "imgsz": args.imgsz,
        "epochs": args.epochs,
        "seed": args.seed,
        "options": args.set,
        "torch": torch.__version__,
        "ultralytics": ultralytics.__version__,
        "hardware": processor(),
        "commit": commit(),
        "date": date.today().isoformat(),
    }


def main() -> None:
    """Parse the command line, train what has no row yet, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with data.yaml, images and labels")
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further training arguments")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "rows", help="where the runs go")
    parser.add_argument("--out", type=Path, help="the JSON file of the rows")
    args = parser.parse_args()

    out = args.out or ROOT / "docs" / "results" / f"yolo-{args.data.name}.json"
    rows = json.loads(out.read_text()) if out.exists() else []
    # Ultralytics writes label caches beside the labels: work on a copy.
    data = args.runs.resolve() / "data" / args.data.name
    shutil.copytree(args.data, data, dirs_exist_ok=True, copy_function=shutil.copyfile)
    for model_name in args.models:
        if any(row["model"] == model_name and row["seed"] == args.seed for row in rows):
            print(f"{model_name}: its row is in {out}, kept")
            continue
        run = args.runs.resolve() / args.data.name / f"{Path(model_name).stem}-seed{args.seed}"
        if len(epochs_done(run)) < args.epochs:
            train(model_name, data, args, run)
        rows.append(result_row(model_name, data, args, run))
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
