"""The demo: train yolov8n-dualvit on digits for a few minutes, validate it, and draw what it finds.

It starts from a small checkpoint that ships with the package (made by
`benchmarks/demo_checkpoint.py` on other images of other handwriting), so that minutes on two CPU
cores are enough.
"""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from ultralytics.utils import LOGGER

from dualvit.data.digits import write_digits
from dualvit.yolo.model import YOLO

CHECKPOINT = Path(__file__).parent / "assets" / "digits.safetensors"
IMAGES, IMAGE_SIZE, EPOCHS = 400, 192, 10
AUGMENTATION = {"fliplr": 0.0, "mosaic": 0.0, "scale": 0.3}  # a mirrored 2 is no 2, a quarter of a picture no place
PICTURES = 8


def run(folder: Path, console: Console) -> dict[str, float]:
    """Make the data, train, validate, and write pictures; earlier runs in `folder` stay.

    Args:
        folder: Takes `digits` (the data set, made once) and `run`, `run2`, ... (one a call).
        console: Where progress and the table go.

    Returns:
        mAP50, mAP50-95 and minutes of the run.
    """
    start = time.perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with quiet(), Progress(*columns, console=console) as progress:
        drawing = progress.add_task("draw digits", total=None)
        yaml = write_digits(
            folder / "digits",
            IMAGES,
            IMAGE_SIZE,
            progress=lambda done, total: progress.update(drawing, completed=done, total=total),
        )
        progress.update(drawing, total=progress.tasks[drawing].total or 1, completed=progress.tasks[drawing].total or 1)
        model = YOLO(CHECKPOINT)
        training = progress.add_task("train", total=None)
        show_training(model, progress, training)
        model.train(
            data=str(yaml.resolve()), imgsz=IMAGE_SIZE, epochs=EPOCHS, batch=16, nbs=16, optimizer="AdamW", lr0=5e-4,
            cos_lr=True, warmup_epochs=0.5, seed=0, device="cpu", amp=False, plots=False, **AUGMENTATION,
            verbose=False, project=str(folder.resolve()), name="run",
        )  # fmt: skip
        out = Path(model.trainer.save_dir)
        metrics = model.trainer.validator.metrics.box
        images = sorted((folder / "digits" / "images" / "val").iterdir())[:PICTURES]
        drawn = progress.add_task("predict", total=len(images))
        for image in images:
            result = model.predict(image, imgsz=IMAGE_SIZE, conf=0.4, device="cpu", verbose=False)[0]
            (out / "predictions").mkdir(exist_ok=True)
            Image.fromarray(result.plot(line_width=1, font_size=9)[..., ::-1]).save(
                out / "predictions" / f"{image.stem}.png"
            )
            progress.advance(drawn)
    sheet = contact_sheet(sorted((out / "predictions").iterdir()), out / "predictions.png")
    minutes = (time.perf_counter() - start) / 60
    parameters = sum(p.numel() for p in model.model.parameters())
    table = Table(box=None, header_style="bold")
    for column in ("model", "mAP50", "mAP50-95", "parameters", "minutes"):
        table.add_column(column, justify="left" if column == "model" else "right")
    table.add_row(
        "yolov8n-dualvit", f"{metrics.map50:.3f}", f"{metrics.map:.3f}", f"{parameters / 1e6:.2f} M", f"{minutes:.1f}"
    )
    console.print(table)
    console.print(f"pictures   {sheet}\ncheckpoint {out / 'weights' / 'best.pt'}", highlight=False, soft_wrap=True)
    return {"mAP50": float(metrics.map50), "mAP50-95": float(metrics.map), "minutes": minutes}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Ultralytics' own lines off the screen, its warnings excepted."""
    level = LOGGER.level
    LOGGER.setLevel(logging.WARNING)
    try:
        yield
    finally:
        LOGGER.setLevel(level)


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


def contact_sheet(pictures: list[Path], target: Path, columns: int = 4) -> Path:
    """Put equally large pictures side by side into one file."""
    images = [Image.open(picture) for picture in pictures]
    width, height = images[0].size
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    for index, image in enumerate(images):
        sheet.paste(image, (index % columns * width, index // columns * height))
    sheet.save(target)
    return target
