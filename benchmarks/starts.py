"""What a start is worth: detectors from noise, from a teacher's maps and from ImageNet, each at its own rate.

    python benchmarks/starts.py datasets/raccoon/data.yaml --teacher lite2.safetensors --imagenet lite0.safetensors

Each student learns from the training pictures without their labels. `dualvit compare` then chooses the learning rate
of each row on a part of the training pictures, trains it on all of them with three seeds, and scores it on the
validation pictures, which nothing was chosen on. `--at "dualvit_n noise=5e-4"` takes a rate that was found before.

All of it is runs of `dualvit pretrain` and `dualvit compare` in OUT, so the same command goes on where it stopped. The
table goes to docs/results/starts-NAME.json.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from fewer_labels import compared

from dualvit.files import write_json

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
SUFFIX = {"detect": "", "segment": "-seg"}


def dualvit(*arguments: Any) -> None:
    """Run a command of dualvit; stops where it fails."""
    subprocess.run([sys.executable, "-m", "dualvit", *map(str, arguments)], check=True)


def pretrained(args: argparse.Namespace, student: str) -> Path:
    """Let a student learn, unless it did; return its file."""
    out = args.out / "pretrain" / Path(student).stem
    dualvit(
        "pretrain", args.data, "--student", student, "--teacher", args.teacher_name, "--weights", args.teacher,
        "--minutes", args.minutes, "--licence", "Apache-2.0", "--out", out,
    )  # fmt: skip
    return (out / f"{Path(student).stem}.safetensors").resolve()


def rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the models of the table: each student from noise and distilled, and the rival from ImageNet."""
    end, found = f"{SUFFIX[args.task]}.yaml", []
    for student in args.students:
        weights = str(pretrained(args, student))
        if student.endswith(".yaml"):  # a whole model, whose file is one too
            name = student.replace(".yaml", end)
            found += [{"name": name, "label": f"{Path(name).stem} noise"}]
            found += [{"name": weights, "label": f"{Path(name).stem} distilled"}]
            continue
        ours = student.startswith("dualvit")
        model = {"name": f"yolov8n-dualvit{end}"} if ours else {"name": f"yolov8n-timm{end}", "backbone": student}
        found += [model | {"label": f"{student} noise"}, model | {"label": f"{student} distilled", "weights": weights}]
    rival = {"name": f"yolov8n-timm{end}", "backbone": args.rival, "weights": str(args.imagenet.resolve())}
    return [*found, rival | {"label": f"{args.rival} ImageNet"}] if args.imagenet else found


def compare(args: argparse.Namespace, name: str, data: Path, models: list[Any], **more: Any) -> Any:
    """Run a comparison, or what is left of it; returns its results.json."""
    settings = {
        "engine": "yolo", "task": args.task, "data": str(data.resolve()), "models": models, "epochs": args.epochs,
        "image_size": args.image_size, "batch": 16, "seeds": args.seeds, "jobs": args.jobs, "workers": 0,
        "device": "cpu", "output": str(args.out / name), **more,
    }  # fmt: skip
    return compared(settings, args.out / f"{name}.yaml")


def without_places(value: Any) -> Any:
    """Return nested values with the names of files alone: where they lie says nothing."""
    if isinstance(value, dict):
        return {key: without_places(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_places(one) for one in value]
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value


def main() -> None:
    """Make the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="data.yaml")
    parser.add_argument("--teacher", type=Path, required=True, help="weights of the teacher")
    parser.add_argument("--teacher-name", default="tf_efficientnet_lite2")
    parser.add_argument("--students", nargs="+", default=["dualvit_n"], help="timm names, or yolov8n.yaml")
    parser.add_argument("--imagenet", type=Path, help="weights of the rival; left out, it has no row")
    parser.add_argument("--rival", default="tf_efficientnet_lite0")
    parser.add_argument("--task", default="detect", choices=tuple(SUFFIX))
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--image-size", type=int, default=192)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--at", nargs="*", default=[], metavar="LABEL=RATE", help="rates known before, with no sweep")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--name", help="the table is docs/results/starts-NAME.json")
    args = parser.parse_args()
    args.out = args.out or Path("runs") / "starts" / args.data.parent.name
    known = {label: float(rate) for label, _, rate in (text.rpartition("=") for text in args.at)}
    models = [one | ({"settings": {"lr0": known[one["label"]]}} if one["label"] in known else {}) for one in rows(args)]
    table = compare(args, f"all-{args.task}", args.data, models, sweep=True)
    table["pretraining"] = {"minutes": args.minutes, "teacher": args.teacher_name}
    write_json(RESULTS / f"starts-{args.name or args.data.parent.name}.json", without_places(table))


if __name__ == "__main__":
    main()
