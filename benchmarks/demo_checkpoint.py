"""Make the checkpoint that the demo starts from: yolov8n-dualvit, trained from scratch on digits.

    python benchmarks/demo_checkpoint.py

Its images come from another seed than the demo's; the handwriting that the demo validates on is in
neither training set. Writes src/dualvit/yolo/assets/digits.safetensors (half precision).
"""

import argparse
from pathlib import Path

from dualvit.data.digits import write_digits
from dualvit.yolo import YOLO
from dualvit.yolo.demo import CHECKPOINT, IMAGE_SIZE

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Draw the data, train, and write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1600)
    parser.add_argument("--epochs", type=int, default=20)
    args = parser.parse_args()
    yaml = write_digits(ROOT / "runs" / "demo-checkpoint-data", args.images, IMAGE_SIZE, seed=1)
    model = YOLO("yolov8n-dualvit.yaml")
    model.train(
        data=str(yaml), imgsz=IMAGE_SIZE, epochs=args.epochs, batch=16, nbs=16, optimizer="AdamW", lr0=1e-3,
        cos_lr=True,
        warmup_epochs=1, close_mosaic=5, seed=0, device="cpu", amp=False, plots=False,
        project=str(ROOT / "runs"), name="demo-checkpoint", exist_ok=True,
    )  # fmt: skip
    best = YOLO(ROOT / "runs" / "demo-checkpoint" / "weights" / "best.pt")
    print(best.save_weights(CHECKPOINT))


if __name__ == "__main__":
    main()
