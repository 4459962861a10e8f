"""Kill trainings at random moments, go on, and hold what comes out against a run that nobody killed.

    python benchmarks/kills.py --what recipe --kills 100

`--what` is recipe (`dualvit recipe fit`), pretrain (`dualvit pretrain`), compare (a classification cell of `dualvit
compare`) or yolo (a detection cell). SIGKILL, SIGTERM and SIGINT take turns. The moments are spread over the whole
life of the process, the imports included. Each finished run is a line in OUT/kills-WHAT.jsonl, and the same command
goes on from there.

A run passes if its epochs are 1..N, each once and as they were reported before a kill, and if its weights and its
optimizer hold the same bits as those of the reference. The latter does not hold for YOLO: its last.pt is Ultralytics'
own, in half precision. A kill is clean if the process printed no traceback and ended by the signal or with 130 or 143;
an interrupt before the command line is loaded is Python's own.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import timm
import torch
import yaml

MOST = 12  # kills of one run: on a busy machine it would never end
FITS = ("recipe", "pretrain")  # runs of `fit`
TEACHER = "mobilenetv3_small_050"
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
START = "import sys; print('up', file=sys.stderr, flush=True); from dualvit_cli import main; main()"


def command(what: str, out: Path, data: Path, epochs: int) -> list[str]:
    """What is run, and run again, in the folder `out`."""
    if what == "recipe":
        changes = (
            f"data.root={data}", "network.name=dualvit_n", "data.image_size=32", "data.batch=10", "ema=0.8",
            "mix.mixup=0.8", f"schedule.epochs={epochs}", "trainer.accelerator=cpu",
        )  # fmt: skip
        return ["recipe", "fit", "laptop-classify", *(f"--set={change}" for change in changes), "--out", str(out)]
    if what == "pretrain":
        changes = ("data.image_size=64", "data.batch=10", "data.samples=40", "trainer.accelerator=cpu")
        teacher = ("--teacher", TEACHER, "--weights", str(data.parent / "teacher.pth"))
        length = ("--epochs", str(epochs), "--out", str(out))
        return ["pretrain", str(data), *teacher, *length, *(f"--set={change}" for change in changes)]
    detect = what == "yolo"
    settings = {
        "engine": "yolo" if detect else "recipe", "task": "detect" if detect else "classify",
        "data": str(data / "data.yaml" if detect else data),
        "models": ["yolov8n-dualvit.yaml" if detect else "dualvit_n"], "epochs": epochs, "device": "cpu",
        "image_size": 64 if detect else 32, "batch": 10, "workers": 0, "output": str(out),
    }  # fmt: skip
    file = out.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(settings))
    return ["compare", str(file)]


def start(arguments: list[str], folder: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """The command in a process that hears Ctrl-C, also if this script runs in the background; and what it prints."""
    code = START.replace("import sys;", f"import sys; sys.argv[1:] = {arguments!r};")
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "YOLO_OFFLINE": "true", "YOLO_CONFIG_DIR": str(folder), "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    log = folder / f"{arguments[0]}-{os.getpid()}.log"  # no pipe: processes that outlive the command would hold it open
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=file, stderr=subprocess.STDOUT,
            start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
    return process, log


def rows(what: str, out: Path, finished: bool) -> list[dict[str, Any]]:
    """The epochs that a run has reported, or those of its result."""
    if what in FITS:
        file = out / "results.json"
        key = "history"
    else:
        file = next(out.glob(f"cells/*/{'result' if finished else 'progress'}.json"), out / "absent")
        key = "epochs"
    return json.loads(file.read_text())[key] if file.exists() else []


def state(what: str, out: Path) -> Any:
    """The weights and the optimizer of a finished run; none of YOLO."""
    if what == "yolo":
        return None
    file = out / "last.ckpt" if what in FITS else next(out.glob("cells/*/weights/last.ckpt"))
    content = torch.load(file, weights_only=True)
    ends = [file.read_bytes() for file in sorted(out.glob("*.safetensors"))]  # of a student
    return content["state_dict"], content["optimizer_states"], ends


def equal(one: Any, other: Any) -> bool:
    """Whether two values, tensors in them included, are the same bits."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def strip(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without their clock."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in found]


def run(what: str, out: Path, data: Path, epochs: int, reference: Any, rng: random.Random, number: int, left: int,
        seconds: float) -> dict[str, Any]:  # fmt: skip
    """One run, killed again and again until it ends by itself, which it may after so many kills."""
    kills: list[dict[str, Any]] = []
    reported: list[dict[str, Any]] = []
    while True:
        process, log = start(command(what, out, data, epochs), out.parent)
        moment = rng.uniform(0, seconds) if len(kills) < min(left, MOST) else 600.0
        sent = SIGNALS[(number + len(kills)) % 3]
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.send_signal(sent)
            process.wait(120)
        said = log.read_text()
        log.unlink()
        if process.returncode in (0, 1):  # it ended by itself
            break
        traceback = "Traceback" in said
        clean = process.returncode in (-sent, 130, 143) and not (traceback and said.startswith("up"))
        now = rows(what, out, False)
        kill = {"signal": sent.name, "after": round(moment, 2), "code": process.returncode, "traceback": traceback}
        kills.append(kill | {"clean": clean, "epochs": len(now), "said": said[-400:]})
        if what not in FITS and now[: len(reported)] != reported:
            return {"kills": kills, "problem": f"reported {reported}, and then {now}"}
        reported = now
    result = {"kills": kills, "problem": ""}
    if process.returncode:
        return result | {"problem": f"ended with {process.returncode}: {said[-600:]}"}
    found = rows(what, out, True)
    if [row["epoch"] for row in found] != list(range(1, epochs + 1)):
        return result | {"problem": f"epochs {[row['epoch'] for row in found]}"}
    if what == "compare" and found[: len(reported)] != reported:
        return result | {"problem": f"reported {reported}, and then {found}"}
    if what != "yolo" and not (equal(state(what, out), reference[0]) and strip(found) == strip(reference[1])):
        return result | {"problem": "other bits than those of the reference"}
    return result


def main() -> None:
    """Kill, go on, compare, and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--what", choices=(*FITS, "compare", "yolo"), required=True)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seconds", type=float, help="kills come in this time; that of the reference if left out")
    parser.add_argument("--out", type=Path, default=Path("runs/kills"))
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    done = verify(options.what, out, options.kills, options.epochs, options.seconds)
    print(json.dumps(summary(done), indent=1))
    sys.exit(any(line["problem"] for line in done))


def verify(what: str, out: Path, kills: int, epochs: int, seconds: float | None = None) -> list[dict[str, Any]]:
    """Make the data and the reference, and kill until there are enough kills; returns all lines of the record."""
    from dualvit.drawn.digits import write_digits, write_single_digits

    data = write_digits(out / "scenes", 20, 64).parent if what == "yolo" else write_single_digits(out / "singles", 40)
    if what == "pretrain" and not (out / "teacher.pth").exists():
        torch.save(timm.create_model(TEACHER).state_dict(), out / "teacher.pth")
    place = out / f"{what}-reference"
    begin = time.monotonic()
    if not rows(what, place, True):
        process, log = start(command(what, place, data, epochs), out)
        assert process.wait() == 0, log.read_text()
        log.unlink()
        (out / f"{what}-seconds").write_text(str(time.monotonic() - begin))
    seconds = seconds or float((out / f"{what}-seconds").read_text())
    reference = state(what, place), rows(what, place, True)
    record = out / f"kills-{what}.jsonl"
    lines = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    while (left := kills - sum(len(line["kills"]) for line in lines)) > 0:
        number = len(lines)
        folder = out / f"{what}-{number}"
        shutil.rmtree(folder, ignore_errors=True)
        before = sum(len(line["kills"]) for line in lines)
        rng = random.Random(f"{what} {number}")
        lines.append(run(what, folder, data, epochs, reference, rng, before, left, seconds))
        with record.open("a") as file:
            file.write(json.dumps(lines[-1]) + "\n")
        if not lines[-1]["problem"]:
            shutil.rmtree(folder)
    return lines


def summary(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The count of kills by signal, of runs, and of what went wrong."""
    kills = [kill for line in lines for kill in line["kills"]]
    return {
        "kills": len(kills), "by signal": dict(Counter(kill["signal"] for kill in kills)), "runs": len(lines),
        "problems": [line["problem"] for line in lines if line["problem"]],
        "codes": dict(Counter(f"{kill['signal']} {kill['code']}" for kill in kills)),
        "tracebacks": sum(kill["traceback"] for kill in kills), "not clean": sum(not kill["clean"] for kill in kills),
    }  # fmt: skip


if __name__ == "__main__":
    main()
