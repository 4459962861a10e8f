"""Make the checkpoint that the demo starts from: yolov8n-dualvit, trained from scratch on digits.

    python benchmarks/demo_checkpoint.py
    python benchmarks/demo_checkpoint.py --more --seed 2    # goes on from what is there, on other images

Its images come from another seed than the demo's; the handwriting that the demo validates on is in
neither training set. Writes src/dualvit/yolo/assets/digits.safetensors (half precision).
"""

import argparse
from pathlib import Path

from dualvit.drawn.digits import write_digits
from dualvit.yolo import YOLO
from dualvit.yolo.demo import AUGMENTATION, CHECKPOINT, IMAGE_SIZE, use_all_cores

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Draw the data, train, and write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1, help="of the pictures; the demo's is 0")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--more", action="store_true", help="start from the checkpoint that is there")
    args = parser.parse_args()
    yaml = write_digits(ROOT / "runs" / f"demo-checkpoint-data-{args.seed}", args.images, IMAGE_SIZE, seed=args.seed)
    model = YOLO(CHECKPOINT if args.more else "yolov8n-dualvit.yaml")
    model.add_callback("on_train_start", use_all_cores)
    model.train(
        data=str(yaml), imgsz=IMAGE_SIZE, epochs=args.epochs, batch=16, nbs=16, optimizer="AdamW", lr0=args.lr,
        cos_lr=True, warmup_epochs=1, seed=0, device="cpu", amp=False, plots=False, **AUGMENTATION,
        project=str(ROOT / "runs"), name="demo-checkpoint", exist_ok=True,
    )  # fmt: skip
    best = YOLO(ROOT / "runs" / "demo-checkpoint" / "weights" / "best.pt")
    print(best.save_weights(CHECKPOINT))


if __name__ == "__main__":
    main()
