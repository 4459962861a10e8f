"""Kill `dualvit batch` while it works, go on, and hold its rows against those of a run that nobody killed.

    python benchmarks/batch_kills.py --images 5000 --kills 20

20 of the pictures are bad. First comes a calm run. Then a run is killed by SIGKILL when 30 % and when 70 % of the parts
are there. Then come random kills: of the command, of a worker, or of Ray's own process on this machine, at a random
share of the parts. After each kill of a command, the same command goes on; a killed worker is Ray's affair. A run
passes if its rows are those of the calm run, each once, with 20 reasons. Each run is a line of OUT/kills.jsonl, and the
same command goes on from there; `--json` keeps the summary.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image
from pyarrow import parquet

BAD = 20
SIZE = 64  # pixels of a picture's side; the network sees 32
VICTIMS = ("command", "worker", "raylet")
CODE = "import sys; from dualvit_cli import main; main()"
LATE = 900  # seconds after which a start counts as hung


def make_pictures(folder: Path, images: int) -> None:
    """Draw pictures of noise, 20 of them bad in five ways."""
    if folder.is_dir():
        return
    unfinished = folder.with_name("unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    rng = np.random.default_rng(0)
    for number in range(images):
        file = unfinished / f"{number // 1000}" / f"{number:06}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(file, quality=80)
    for place, number in enumerate(sorted(random.Random(0).sample(range(images), BAD))):
        file = unfinished / f"{number // 1000}" / f"{number:06}.jpg"
        whole = file.read_bytes()
        kind = place % 5
        if kind == 3:  # leads nowhere, as a picture that has vanished
            file.unlink()
            file.symlink_to("absent.jpg")
        elif kind == 4:
            Image.new("1", (20_000, 10_000)).save(file, "PNG")  # 200 million pixels
        else:
            file.write_bytes((b"", b"no picture" * 20, whole[: len(whole) // 2])[kind])
    unfinished.rename(folder)


def make_model(file: Path) -> None:
    """Save a network of random weights, by a fixed seed."""
    if not file.exists():
        import timm
        import torch

        import dualvit  # noqa: F401

        torch.manual_seed(0)
        torch.save(timm.create_model("dualvit_n").state_dict(), file)


class Forked:
    """The work of the command without Ray, in a fork of this process: it starts at once, as nothing is imported."""

    def __init__(self, source: Path, model: Path, out: Path) -> None:
        self.process = multiprocessing.get_context("fork").Process(target=self._work, args=(source, model, out))
        self.process.start()
        self.pid = self.process.pid or 0

    @staticmethod
    def _work(source: Path, model: Path, out: Path) -> None:
        import torch

        from dualvit.batch.plan import Settings
        from dualvit.batch.run import run as work
        from dualvit.deploy.predictor import open_predictor

        torch.set_num_threads(1)
        settings = Settings(str(source), "dualvit_n", weights=str(model), image_size=32)
        work(out, settings, open_predictor, workers=0)

    @property
    def returncode(self) -> int | None:
        """The exit status."""
        return self.process.exitcode

    def poll(self) -> int | None:
        """Return the exit status, or None while it works."""
        return self.process.exitcode

    def wait(self) -> None:
        """Wait for the end."""
        self.process.join()

    def kill(self) -> None:
        """Send SIGKILL."""
        self.process.kill()


def start(source: Path, model: Path, out: Path, workers: int) -> Any:
    """The command, in a process of its own."""
    if not workers:
        return Forked(source, model, out)
    arguments = ["batch", str(source), "--model", "dualvit_n", "--weights", str(model), "--image-size", "32"]
    arguments += ["--out", str(out), "--workers", str(workers), "--batch", "16"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with out.with_suffix(".log").open("ab") as log:
        return subprocess.Popen([sys.executable, "-c", CODE, *arguments], env=environment, stdout=log, stderr=log)


def share(out: Path) -> float:
    """The share of a batch's parts that are there."""
    plan = out / "plan.json"
    if not plan.exists():
        return 0.0
    about = json.loads(plan.read_text())
    return len(list((out / "parts").glob("[0-9]*.parquet"))) / -(-about["images"] // about["part"])


def kill(process: Any, victim: str) -> bool:
    """Kill the command, one of its workers, or its raylet; False if there is none."""
    if victim == "command":
        process.kill()
        return True
    try:
        below = psutil.Process(process.pid).children(recursive=True)
        for one in below:
            words = " ".join(one.cmdline())
            if ("raylet/raylet" in words) if victim == "raylet" else ("MapWorker" in words or "_MapWorker" in words):
                one.kill()
                return True
    except psutil.Error:
        pass
    return False


def ended(process: Any, moment: float, out: Path, victim: str) -> str:
    """Wait for the end, or for the moment, which is a share of the parts, and kill then; says what happened."""
    begin = time.monotonic()
    while process.poll() is None:
        if share(out) >= moment and kill(process, victim):
            if victim == "command":
                process.wait()
            return victim
        if time.monotonic() - begin > LATE:
            process.kill()
            process.wait()
            return "hung"
        time.sleep(0.05)
    return "end"


def run(source: Path, model: Path, out: Path, workers: int, plan: list[tuple[float, str]]) -> dict[str, Any]:
    """One batch with kills at given shares, each by its victim, and as many starts as it takes."""
    kills: list[dict[str, Any]] = []
    left, starts, codes, begin = list(plan), 0, [], time.monotonic()
    while True:
        process, starts = start(source, model, out, workers), starts + 1
        while True:
            moment, victim = left[0] if left else (2.0, "command")
            what = ended(process, moment, out, victim)
            if what in ("end", "hung"):
                break
            left.pop(0)
            kills.append({"victim": what, "at": round(share(out), 3), "wanted": round(moment, 3)})
            if what == "command":
                break
            time.sleep(0.5)
        codes.append(process.returncode)
        if process.returncode == 0 or what == "hung" or starts > len(plan) + 3:
            break
        time.sleep(1.0)  # Ray's processes end with the command
    return {"kills": kills, "starts": starts, "codes": codes, "seconds": round(time.monotonic() - begin, 1)}


def rows(out: Path) -> list[dict[str, Any]]:
    """The rows of a finished batch, sorted."""
    return sorted(parquet.read_table(out / "predictions.parquet").to_pylist(), key=lambda row: row["index"])


def judged(result: dict[str, Any], out: Path, images: int, calm: list[dict[str, Any]] | None) -> dict[str, Any]:
    """A run's result with what is wrong with its rows."""
    if result["codes"][-1] != 0:
        log = out.with_suffix(".log")
        said = log.read_text(errors="replace")[-500:] if log.exists() else ""
        return result | {"problem": f"ended with {result['codes'][-1]}: {said}"}
    found = rows(out)
    names = Counter(row["image"] for row in found)
    reasons = Counter(row["reason"] for row in found if row["reason"])
    problem = ""
    if len(found) != images or len(names) != images:
        problem = f"{len(found)} rows of {len(names)} pictures instead of {images}"
    elif reasons.total() != BAD:
        problem = f"{reasons.total()} reasons instead of {BAD}"
    elif calm is not None and found != calm:
        problem = f"{sum(a != b for a, b in zip(found, calm, strict=True))} rows are others than those of the calm run"
    return result | {"problem": problem, "rows": len(found), "reasons": dict(reasons)}


def main() -> None:
    """Run calmly, kill at 30 and 70 %, kill at random, and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=20, help="random ones")
    parser.add_argument("--each", type=int, default=5, help="random kills of one run")
    parser.add_argument("--workers", type=int, default=2, help="of Ray; 0 works without it")
    parser.add_argument("--out", type=Path, default=Path("runs/batch-kills"))
    parser.add_argument("--json", type=Path, help="takes the summary")
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    source, model = out / "pictures", out / "dualvit_n.pth"
    make_pictures(source, options.images)
    make_model(model)
    record = out / "kills.jsonl"
    done = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    plans: list[list[tuple[float, str]]] = [[], [(0.3, "command"), (0.7, "command")]]
    rng = random.Random(1)
    for first in range(0, options.kills, options.each):
        moments = sorted(rng.uniform(0.0, 0.98) for _ in range(min(options.each, options.kills - first)))
        plans.append([(moment, rng.choice(VICTIMS) if options.workers else "command") for moment in moments])
    for number, plan in enumerate(plans[len(done) :], len(done)):
        place = out / f"run-{number}"
        shutil.rmtree(place, ignore_errors=True)
        place.with_suffix(".log").unlink(missing_ok=True)
        result = run(source, model, place, options.workers, plan)
        result = judged(result, place, options.images, rows(out / "run-0") if number else None)
        done.append(result)
        print(json.dumps(result), flush=True)
        with record.open("a") as file:
            file.write(json.dumps(result) + "\n")
    kills = [kill for result in done for kill in result["kills"]]
    summary = {
        "images": options.images, "bad": BAD, "workers": options.workers, "runs": done,
        "kills": dict(Counter(kill["victim"] for kill in kills)),
        "problems": [result["problem"] for result in done if result["problem"]],
    }  # fmt: skip
    print(json.dumps(summary | {"runs": len(done)}, indent=1))
    if options.json:
        from dualvit.files import write_json
        from dualvit.provenance import environment

        write_json(options.json, summary | {"command": sys.argv, **environment(cuda=False)})
    sys.exit(bool(summary["problems"]))


if __name__ == "__main__":
    main()
