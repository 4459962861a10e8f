"""What int8 costs a detector, by the pictures that it is calibrated on, beside bf16 and int8 of everything.

    python benchmarks/int8.py last.pt datasets/raccoon/data.yaml --other datasets/bccd/images/train --large 640

Rows: many pictures of the training split, few of them, pictures of another domain, all eligible layers in int8, bf16,
fp16; then other checkpoints and another size with many pictures. Each row's file is timed beside float32 in turn.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from dualvit.bench.results import Latency
from dualvit.bench.rounds import in_turn
from dualvit.data.images import pictures_in
from dualvit.deploy.precision import HINTS, Settings, Smaller, smaller
from dualvit.deploy.quantise import Compiled, open_model
from dualvit.deploy.runtimes import versions
from dualvit.deploy.subjects import Subject, chosen, open_subject
from dualvit.files import read_json, write_json
from dualvit.provenance import environment

OUT = Path(__file__).resolve().parents[1] / "docs" / "results" / "int8.json"
FEW, ANY = 8, 1e9  # pictures; a limit that any error meets, so that nothing is searched
FLAGS = ("avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "avx512_fp16")


def timed(made: Smaller, image: Any, settings: Settings, rounds: int) -> dict[str, Any]:
    """Time both files in turn."""
    hints = {"float32": (made.float_model, "f32"), settings.precision: (made.model, HINTS[settings.precision])}
    passes = {name: partial(Compiled(model, 1, hint), image) for name, (model, hint) in hints.items()}
    found = in_turn([passes], rounds)
    latency = {name: asdict(Latency.of(times)) for name, times in found.times.items()}
    return {"times as fast": asdict(found.ratio("float32", settings.precision)), "latency": latency}


def row(subject: Subject, whole: Any, files: Sequence[Path], settings: Settings, rounds: int) -> dict[str, Any]:
    """Make, score and time one file."""
    made = smaller(subject, whole, {}, files, settings)
    picture = subject.example()
    found = {"pictures": len(files), "settings": asdict(settings), "image_size": subject.image_size}
    found |= made.plain() | timed(made, picture, settings, rounds)
    fast = found["times as fast"]["median"]
    print(f"{subject.name} {subject.image_size} {settings.precision} {len(files)}: kept {made.kept:.4f}", flush=True)
    print(f"  {made.shift}, {fast:.2f} times as fast, {len(made.floats)} layers in float", flush=True)
    return found


def opened(checkpoint: Path, data: Path, size: int | None, work: Path) -> tuple[Subject, Any]:
    """Open a checkpoint and export it."""
    subject = open_subject(checkpoint, data, image_size=size)
    file = work / "network.onnx"
    subject.export(file)
    return subject, open_model(file)


def main() -> None:
    """Measure all rows that the JSON does not have yet, and write it after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--other", type=Path, help="folder of pictures of another domain")
    parser.add_argument("--more", type=Path, nargs="*", default=[], help="other checkpoints on the same data")
    parser.add_argument("--large", type=int, help="another size, for the speed")
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--work", type=Path, default=Path("runs/int8"))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    words = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    result: dict[str, Any] = {"rows": {}, "flags": [flag for flag in FLAGS if flag in words], **environment(False)}
    result["versions"] |= versions(["openvino"])

    result["rows"] = (read_json(OUT) or {}).get("rows", {})

    def keep(name: str, measured: Callable[[], dict[str, Any]]) -> None:
        if name not in result["rows"]:
            result["rows"][name] = measured()
            write_json(OUT, result)

    subject, whole = opened(args.checkpoint, args.data, None, args.work)
    many = chosen(subject.training_files(), args.pictures, str(args.data))
    measure = partial(row, subject, whole, rounds=args.rounds)
    keep("in domain", partial(measure, many, Settings()))
    if args.large:
        large = opened(args.checkpoint, args.data, args.large, args.work)
        keep(f"{args.large} px", partial(row, *large, many, Settings(), args.rounds))
    keep("few pictures", partial(measure, chosen(many, FEW, "few"), Settings()))
    if args.other is not None:
        others = chosen(pictures_in(args.other), args.pictures, str(args.other))
        keep("out of domain", partial(measure, others, Settings()))
    keep("no search", partial(measure, many, Settings(shift=ANY)))
    for precision in ("bf16", "fp16"):
        keep(precision, partial(measure, [], Settings(precision)))
    for number, other in enumerate(args.more, 1):
        more = opened(other, args.data, None, args.work)
        keep(f"checkpoint {number}", partial(row, *more, many, Settings(), args.rounds))


if __name__ == "__main__":
    main()
