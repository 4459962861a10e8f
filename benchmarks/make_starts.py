"""Make the starts that the package ships, by its own commands; a run that was stopped goes on.

    dualvit teacher tf_efficientnet_lite2 lite2.safetensors
    python benchmarks/free_pictures.py pictures
    python benchmarks/make_starts.py --pictures pictures --teacher lite2.safetensors --out runs/starts

1. `dualvit data cutouts` makes scenes of `pictures/cutouts` and `pictures/backgrounds`, with boxes and outlines.
2. `dualvit pretrain` lets dualvit_n and dualvit_t learn the teacher's maps on these scenes and on the photographs.
3. `dualvit yolo` trains yolov8n-dualvit-seg on the scenes, from dualvit_n. yolov8n-dualvit is the same without masks.
4. The four files go to src/dualvit/weights/shipped, in half precision, each with its licence trail.

Each step leaves its result in OUT, and is left out once that is there. `--only` names some of the starts.
"""

import argparse
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import ultralytics

import dualvit
from dualvit.files import write_atomic
from dualvit.weights.convert import to_safetensors
from dualvit.weights.read import sha256
from dualvit.weights.starts import FOLDER
from dualvit.yolo import YOLO
from dualvit.yolo.bundle import write_bundle

BACKBONES = ("dualvit_n", "dualvit_t")
TRAINED, DETECTORS = "yolov8n-dualvit-seg", ("yolov8n-dualvit", "yolov8n-dualvit-seg")
MOST = {"dualvit_n": 8, "dualvit_t": 12, "yolov8n-dualvit": 8, "yolov8n-dualvit-seg": 8}  # MB of a file


class Maker:
    """The steps, with the commands that they ran.

    Args:
        args: Of the command line.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.out: Path = args.out.resolve()
        self.out.mkdir(parents=True, exist_ok=True)
        self.commands: dict[str, list[str]] = {}

    def run(self, start: str, *words: object, needed: bool = True) -> None:
        """Run a command of the package, unless its result is there, and note it for the trail of a start."""
        command = [str(word) for word in words]
        self.commands.setdefault(start, []).append("dualvit " + " ".join(map(self.short, command)))
        if needed:
            print("dualvit", *command, flush=True)
            subprocess.run([sys.executable, "-m", "dualvit", *command], check=True)

    def short(self, word: str) -> str:
        """Return a word of a command without the place of this machine's folders."""
        for place, name in ((self.out, "OUT"), (self.args.pictures.resolve(), "PICTURES")):
            word = re.sub(re.escape(str(place)) + "(?=/|$)", name, word)
        return word.replace(str(self.args.teacher), self.args.teacher.name)

    def scenes(self, start: str) -> Path:
        """Make the scenes, and the folder of all pictures without labels; return the former."""
        pictures, folder = self.args.pictures.resolve(), self.out / "scenes"
        self.run(
            start, "data", "cutouts", folder, "--cutouts", pictures / "cutouts", "--backgrounds",
            pictures / "backgrounds", "--images", self.args.images, "--size", self.args.size, "--val", 0.05,
            needed=not folder.exists(),
        )  # fmt: skip
        together = self.out / "pictures"
        together.mkdir(exist_ok=True)
        for place in (folder / "images/train", pictures / "backgrounds", pictures / "photographs"):
            if place.is_dir() and not (together / place.name).exists():
                (together / place.name).symlink_to(place)
        return folder

    def backbone(self, name: str, start: str) -> Path:
        """Let a backbone learn from the teacher; return its file."""
        self.scenes(start)
        folder, args = self.out / name, self.args
        file = folder / f"{name}.safetensors"
        self.run(
            start, "pretrain", self.out / "pictures", "--student", name, "--teacher", args.teacher_name, "--weights",
            args.teacher, "--licence", args.teacher_licence, "--out", folder, "--set", "schedule.minutes=null",
            "--set", f"schedule.steps={args.steps}", "--set", f"data.image_size={args.crop}",
            *(word for change in args.set for word in ("--set", change)),
            needed=not file.exists(),
        )  # fmt: skip
        return file

    def trained(self, start: str) -> Path:
        """Train boxes and masks on the scenes from dualvit_n; return the checkpoint."""
        weights = self.backbone("dualvit_n", start)
        folder, args = self.out / TRAINED, self.args
        last, log = folder / "weights/last.pt", folder / "results.csv"
        asked = [
            f"model={TRAINED}.yaml", f"weights={weights}", f"data={self.out / 'scenes/data.yaml'}",
            f"epochs={args.epochs}", f"imgsz={args.image_size}", f"batch={args.batch}", f"lr0={args.lr}",
            "optimizer=AdamW", "cos_lr=True", "close_mosaic=3", "plots=False", "save_period=-1", "seed=0",
            f"device={args.device}", f"project={self.out}", f"name={TRAINED}", "exist_ok=True", "amp=False",
        ]  # fmt: skip
        epochs = len(log.read_text().splitlines()) - 1 if log.exists() else 0
        going_on = last.exists() and epochs < args.epochs
        self.run(start, "yolo", "segment", "train", *asked, needed=not last.exists())
        if going_on:
            self.run(start, "yolo", "segment", "train", f"model={last}", "resume=True")
        return last

    def detector(self, start: str) -> Any:
        """Return the trained model, or its part without masks, whose entries have the same names."""
        trained: Any = YOLO(self.trained(start)).model
        if start == TRAINED:
            return trained
        model: Any = YOLO(f"{start}.yaml").model
        cfg = {**model.yaml, "nc": trained.yaml["nc"]}
        model = type(model)(cfg, verbose=False)
        state = trained.state_dict()
        model.load_state_dict({name: state[name] for name in model.state_dict()})
        model.names = trained.names
        return model

    def trail(self, start: str) -> dict[str, Any]:
        """Return where a start comes from, without places of this machine."""
        files = json.loads((self.args.pictures / "licences.json").read_text())
        kinds = Counter((entry["package"], entry["licence"]) for entry in files.values())
        pictures = [
            {"package": package, "licence": licence, "files": count}
            for (package, licence), count in sorted(kinds.items())
        ]
        named = {
            entry["holder"]: entry["licence"]
            for entry in files.values()
            if entry["holder"] and entry["licence"].startswith("CC-BY")
        }
        return {
            "teacher": {
                "name": self.args.teacher_name, "licence": self.args.teacher_licence,
                "sha256": sha256(self.args.teacher),
            },
            "pictures": pictures,
            "attribution": named,
            "commands": self.commands[start],
            "versions": {
                "dualvit": dualvit.__version__, "torch": torch.__version__, "ultralytics": ultralytics.__version__,
            },
            "licence": "Apache-2.0" if start in BACKBONES else "AGPL-3.0",
        }  # fmt: skip

    def ship(self, start: str) -> Path:
        """Make one start, and write it in half precision."""
        target = self.args.to / f"{start}.safetensors"
        target.parent.mkdir(parents=True, exist_ok=True)
        if start in BACKBONES:
            file = self.backbone(start, start)
            with safetensors.safe_open(file, "pt") as opened:
                about = dict(opened.metadata() or {})
            left_out = set(json.loads(about.pop("initialised")))
            state = {
                name: value.half() if value.is_floating_point() else value
                for name, value in safetensors.torch.load_file(file).items()
                if name not in left_out
            }
            about |= {"left_out": json.dumps(sorted(left_out)), "start": json.dumps(self.trail(start))}
            write_atomic(target, to_safetensors(state, about))
        else:
            model = self.detector(start)
            for key in ("weights", "from_scratch"):
                model.yaml.pop(key, None)
            write_bundle(model, target, half=True, about={"start": json.dumps(self.trail(start))})
        megabytes = target.stat().st_size / 1e6
        if megabytes > MOST[start]:
            raise SystemExit(f"{target} has {megabytes:.1f} MB, above {MOST[start]}; leave a part of it out")
        print(f"{target}: {megabytes:.1f} MB", flush=True)
        return target


def main() -> None:
    """Make the starts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True, help="of benchmarks/free_pictures.py")
    parser.add_argument("--teacher", type=Path, required=True, help="weights, of `dualvit teacher`")
    parser.add_argument("--teacher-name", default="tf_efficientnet_lite2")
    parser.add_argument("--teacher-licence", default="Apache-2.0")
    parser.add_argument("--out", type=Path, default=Path("runs/starts"))
    parser.add_argument("--to", type=Path, default=FOLDER, help="folder of the files that are shipped")
    parser.add_argument("--only", nargs="+", default=[*BACKBONES, *DETECTORS], choices=[*BACKBONES, *DETECTORS])
    parser.add_argument("--images", type=int, default=4200, help="scenes")
    parser.add_argument("--size", type=int, default=320, help="of the scenes")
    parser.add_argument("--steps", type=int, default=5000, help="of pretraining, per backbone, of 16 pictures each")
    parser.add_argument("--crop", type=int, default=192, help="sides of a picture in pretraining")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further settings of pretraining")
    parser.add_argument("--image-size", type=int, default=320, help="of the detector's training")
    parser.add_argument("--epochs", type=int, default=20, help="of the detector")
    parser.add_argument("--lr", type=float, default=1e-3, help="of the detector")
    parser.add_argument("--batch", type=int, default=16, help="of the detector")
    parser.add_argument("--device", default="cpu", help="of the detector")
    args = parser.parse_args()
    maker = Maker(args)
    for start in args.only:
        maker.ship(start)


if __name__ == "__main__":
    main()
