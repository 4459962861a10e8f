"""Stages of runs, in processes of their own: `python end_to_end.py [["STAGE,STAGE", OPTIONS], ...]`, as JSON.

Each process is forked off one that has imported Ultralytics and nothing of ours, which is as good as a fresh
interpreter and saves the seconds in which torch is imported.
"""

import contextlib
import json
import multiprocessing
import runpy
import sys
import traceback
from pathlib import Path

YAMLS = {"detect": "yolov8n-dualvit.yaml", "segment": "yolov8n-dualvit-seg.yaml", "timm": "yolov8n-timm.yaml"}
OPTIONS = {
    "timm": {
        "backbone": "swin_tiny_patch4_window7_224",
        "backbone_args": {"embed_dim": 24, "depths": [1, 1, 2, 1]},
    }
}
SETTINGS = {
    "imgsz": 64, "batch": 4, "epochs": 2, "device": "cpu", "workers": 0, "plots": False, "optimizer": "AdamW",
    "amp": False,
}  # fmt: skip


class Killed(Exception):
    """Stands for a run that ends after its first epoch."""


def boxes(result) -> list:
    return [] if result.boxes is None else result.boxes.data.tolist()


def answer(model) -> float:
    """One number for the raw output of a freshly opened checkpoint on a fixed image."""
    import torch

    with torch.no_grad():
        out = model.model.float().eval()(torch.linspace(0, 1, 3 * 64 * 64).view(1, 3, 64, 64))
    while not isinstance(out, torch.Tensor):
        out = out[0]
    return float(out.double().abs().sum())


def train(task: str, data: str, out: str) -> dict:
    """Build, train one epoch of two, then validate and predict with best.pt."""
    import torch
    import ultralytics

    from dualvit.yolo import YOLO

    def kill(trainer):
        raise Killed

    model = YOLO(YAMLS[task], layer_decay=0.8, **OPTIONS.get(task, {}))
    model.add_callback("on_model_save", kill)
    with contextlib.suppress(Killed):
        model.train(data=data, project=out, name=task, exist_ok=True, **SETTINGS)
    weights = Path(out) / task / "weights"
    raw = answer(YOLO(weights / "best.pt"))
    best = YOLO(weights / "best.pt")
    metrics = best.val(data=data, imgsz=64, device="cpu", workers=0, plots=False, project=out, name=f"{task}-val")
    image = sorted((Path(data).parent / "images" / "val").iterdir())[0]
    result = best.predict(image, imgsz=64, device="cpu", conf=1e-7, project=out)[0]
    return {
        "ultralytics": ultralytics.__version__,
        "epochs": len((Path(out) / task / "results.csv").read_text().splitlines()) - 1,
        "map50": float(metrics.box.map50),
        "boxes": boxes(result),
        "raw": raw,
        "groups": [
            [group["weight_decay"], round(group["initial_lr"], 10), len(group["params"])]
            for group in torch.load(weights / "last.pt", weights_only=False)["optimizer"]["param_groups"]
        ],
    }


def load(task: str, data: str, out: str) -> dict:
    """Load best.pt with stock Ultralytics, in a process that never imported dualvit itself: a first stage."""
    import ultralytics

    assert "dualvit" not in sys.modules
    path = Path(out) / task / "weights" / "best.pt"
    raw, model = answer(ultralytics.YOLO(path)), ultralytics.YOLO(path)
    image = sorted((Path(data).parent / "images" / "val").iterdir())[0]
    return {"boxes": boxes(model.predict(image, imgsz=64, device="cpu", conf=1e-7, project=out)[0]), "raw": raw}


def resume(task: str, data: str, out: str) -> dict:
    """Resume last.pt and train the second epoch."""
    from dualvit.yolo import YOLO

    model = YOLO(Path(out) / task / "weights" / "last.pt")
    model.train(resume=True)
    trainer, page = model.trainer, (Path(out) / task / "report.html").read_text()
    return {
        "pictures": page.count("data:image/jpeg") if "No predictions are shown" not in page else page,
        "start": trainer.start_epoch,
        "epochs": len((Path(out) / task / "results.csv").read_text().splitlines()) - 1,
        "groups": [
            [group["weight_decay"], round(group["initial_lr"], 10), len(group["params"])]
            for group in trainer.optimizer.param_groups
        ],
    }


def ddp(task: str, data: str, out: str) -> dict:
    """Write the script that Ultralytics starts for each DDP worker."""
    from ultralytics.utils.dist import generate_ddp_file

    import dualvit.yolo.trainers as trainers
    from dualvit.yolo import YOLO
    from dualvit.yolo.patches import starts_from

    model = YOLO(YAMLS[task], **OPTIONS.get(task, {}))
    trainer_class = trainers.SegmentationTrainer if task == "segment" else trainers.DetectionTrainer
    overrides = {**SETTINGS, "epochs": 1, "model": YAMLS[task], "data": data, "project": out, "name": f"{task}-ddp"}
    trainer = trainer_class(overrides={**overrides, "task": model.task, "exist_ok": True})
    # What a worker gets from the process that starts it: its script, with the options of a YAML that was given some.
    with starts_from(model.model.yaml if task in OPTIONS else None):
        worker = {"script": str(generate_ddp_file(trainer)), "weights": str(trainer.wdir)}
    (Path(out) / f"{task}-ddp.json").write_text(json.dumps(worker))
    return worker


def work(task: str, data: str, out: str) -> str:
    """Be that worker, which knows the trainer's class alone; returns its checkpoint."""
    worker = json.loads((Path(out) / f"{task}-ddp.json").read_text())
    try:
        runpy.run_path(worker["script"], run_name="__main__")
    finally:
        Path(worker["script"]).unlink()
    return str(Path(worker["weights"]) / "best.pt")


def build_all() -> int:
    """Build every shipped YAML at every scale; returns how many."""
    return runpy.run_path(str(Path(__file__).parent / "build_all.py"))["count"]


def run(stages: str, options: dict) -> list | str:
    """Stages one after the other in this process: what each reports, or the traceback of the first that failed."""
    assert not [name for name in sys.modules if name.partition(".")[0] == "dualvit"]
    try:
        return [globals()[stage](**options) for stage in stages.split(",")]
    except Exception:
        return traceback.format_exc()


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)  # as in conftest.py; and threads would not survive the fork
    import thop
    import timm  # noqa: F401  # for the processes that are forked off
    import ultralytics  # noqa: F401

    thop.profile = lambda *_, **__: (0, 0)  # as in conftest.py

    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        found = pool.starmap(run, json.loads(sys.argv[1]), chunksize=1)
        pool.close()
        pool.join()
    print(json.dumps(found))
