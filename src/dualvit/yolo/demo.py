"""The demo: train yolov8n-dualvit on digits from noise and from the start in the package, and draw what it finds.

Both trainings have the same pictures, epochs and settings, so that the two rows show what the start is worth here.
"""

import os
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from torchvision.transforms.v2.functional import to_pil_image

from dualvit.data.masks import read_rgb
from dualvit.drawn.digits import write_digits
from dualvit.pictures import boxes
from dualvit.pictures.captions import contact_sheet
from dualvit.progress import shown
from dualvit.yolo.model import YOLO, quiet

MODEL = "yolov8n-dualvit.yaml"
IMAGES, IMAGE_SIZE, EPOCHS = 400, 192, 10
# A mirrored 2 is no 2, a quarter of a picture no place.
AUGMENTATION: dict[str, Any] = {"fliplr": 0.0, "mosaic": 0.0, "scale": 0.3}
PICTURES = 8


def run(folder: Path, console: Console) -> dict[str, float]:
    """Make the data, train from noise and from the start, and write pictures; earlier runs in `folder` stay.

    Args:
        folder: Takes `digits` (the data set, made once) and `noise` and `run`, then `run2`, ... (one per call).
        console: Where progress and the table go.

    Returns:
        mAP50 and mAP50-95 from the start, and minutes of the demo.
    """
    start = time.perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with quiet(), shown(*columns, transient=False) as progress:
        drawing = progress.add_task("draw digits", total=1)
        yaml = write_digits(
            folder / "digits",
            IMAGES,
            IMAGE_SIZE,
            progress=lambda done, total: progress.update(drawing, completed=done, total=total),
        ).resolve()
        progress.update(drawing, completed=progress.tasks[drawing].total)
        noise, _ = train(YOLO(MODEL), yaml, folder.resolve() / "noise", progress)
        model = YOLO(MODEL, start=True)
        after, out = train(model, yaml, folder.resolve() / "run", progress)
        sheet = predict(model, sorted((yaml.parent / "images" / "val").iterdir())[:PICTURES], out, progress)
    minutes = (time.perf_counter() - start) / 60
    table = Table("yolov8n-dualvit", "mAP50", "mAP50-95", "", box=None, header_style="bold")
    table.add_row("noise", *(f"{value:.3f}" for value in noise.values()), f"{EPOCHS} epochs from new weights")
    said = f"{EPOCHS} epochs from the start in the package; {minutes:.1f} minutes in all"
    table.add_row("start", *(f"{value:.3f}" for value in after.values()), said)
    console.print(table)
    console.print(
        f"pictures   {sheet}\ncheckpoint {out / 'weights' / 'best.pt'}", highlight=False, markup=False, soft_wrap=True
    )
    return {**after, "minutes": minutes}


def train(model: YOLO, yaml: Path, folder: Path, progress: Progress) -> tuple[dict[str, float], Path]:
    """Train with a bar that moves with each batch; return the accuracy on the validation pictures, and the folder."""
    show_training(model, progress, progress.add_task("train", total=None))
    model.train(
        data=str(yaml), imgsz=IMAGE_SIZE, epochs=EPOCHS, batch=16, nbs=16, optimizer="AdamW", lr0=5e-4,
        cos_lr=True, warmup_epochs=0.5, seed=0, device="cpu", amp=False, plots=False, **AUGMENTATION,
        verbose=False, project=str(folder.parent), name=folder.name,
    )  # fmt: skip
    metrics = model.trainer.validator.metrics.box
    return {"mAP50": float(metrics.map50), "mAP50-95": float(metrics.map)}, Path(model.trainer.save_dir)


def predict(model: YOLO, images: list[Path], out: Path, progress: Progress) -> Path:
    """Draw what the model finds, one file a picture in `predictions`, and all in one; returns the latter."""
    task = progress.add_task("predict", total=len(images))
    folder, sheet, drawn = out / "predictions", out / "predictions.png", []
    folder.mkdir()
    for image in images:
        drawn.append(draw(model, image))
        drawn[-1].save(folder / f"{image.stem}.png")
        progress.advance(task)
    contact_sheet(drawn).save(sheet)
    return sheet


def draw(model: YOLO, file: Path) -> Image.Image:
    """A picture with the objects that the model detects in it."""
    image = read_rgb(file)
    detected = model.predict(to_pil_image(image), imgsz=IMAGE_SIZE, conf=0.4, device="cpu", verbose=False)[0].boxes
    objects = {"boxes": detected.xyxy, "labels": detected.cls.long(), "scores": detected.conf}
    return boxes.draw(image, objects, [model.names[index] for index in range(len(model.names))])


def use_all_cores(_: Any) -> None:
    """Callback: Ultralytics leaves one core free, which on two cores is half of the machine."""
    torch.set_num_threads(os.cpu_count() or 1)


def show_training(model: YOLO, progress: Progress, task: Any) -> None:
    """Move a progress bar with each batch, and put each epoch's mAP50 beside it."""

    def on_batch(trainer: Any) -> None:
        progress.update(task, total=len(trainer.train_loader) * trainer.epochs, advance=1)

    def on_epoch(trainer: Any) -> None:
        accuracy = trainer.metrics.get("metrics/mAP50(B)", 0.0)
        epoch = min(trainer.epoch + 1, trainer.epochs)  # the last validation comes after the last epoch
        progress.update(task, description=f"train, epoch {epoch}: mAP50 {accuracy:.3f}")

    model.add_callback("on_train_start", use_all_cores)
    model.add_callback("on_train_batch_end", on_batch)
    model.add_callback("on_fit_epoch_end", on_epoch)
