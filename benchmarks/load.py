"""Load on a server of its own: good and bad requests, clients that leave, killed workers, swaps, and an end.

    python benchmarks/load.py best.onnx PICTURES --minutes 30 --json docs/results/serve-load.json

The server works on one core, this script on another one, both over the loopback. The time is cut into cycles of five
minutes, or one cycle if there are fewer, and each cycle into five phases of the same length:

    peak        sixteen clients, each of which asks again when it is answered: answers per second are the peak
    mixed       good requests at even distances, at 80 % of the peak, and a bad one after each tenth; a worker is killed
    cancelled   at the same rate, but four of five clients leave before their answer
    clean       good requests alone, at the same rate
    swapped     likewise, and the version is swapped twice

Every answer is compared with the predictor's own in this process. In the end a worker is killed and the time to a false
health is taken. Then SIGTERM comes while requests are on their way: each that was accepted must be answered.

The file of `--json` is written after each phase, and its `checks` at the end. The exit status is 1 if one of them
fails. `others` is the share of the server's core that other programs had: times mean nothing if it is not near 0.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from load_clients import CONFIDENCE, MAX_BYTES, MAX_PIXELS, TIMEOUT, Good, Outcome, closed, ended, paced

EDGE = 0.01  # pictures with a score so near to the confidence are not asked about
PICTURES = 24
CYCLE = 300.0  # seconds
PHASES = ("peak", "mixed", "cancelled", "clean", "swapped")
SHARE = 0.8  # of the peak
BAD_EVERY = 10
GROWTH = 0.05  # of memory, that counts as flat


class Serving:
    """A server in a process of its own, on one core."""

    def __init__(self, model: Path, runtime: str, log: Path, core: int) -> None:
        command = [
            sys.executable, "-m", "dualvit", "serve", f"model={model}", "--port", "0", "--runtime", runtime,
            "--timeout", str(TIMEOUT), "--max-bytes", str(MAX_BYTES), "--max-pixels", str(MAX_PIXELS), "--threads", "1",
        ]  # fmt: skip
        self.log, self.core = log, core
        self.started = time.monotonic()
        with log.open("w") as handle:
            self.process = subprocess.Popen(["taskset", "-c", str(core), *command], stdout=handle, stderr=handle)
        self.memory: list[tuple[float, float]] = []

    def wait(self, seconds: float = 300.0) -> int:
        """Wait until it is up; return its port."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            lines = [line for line in self.log.read_text().splitlines() if "http://" in line]
            if lines:
                return int(lines[0].split(":")[-1].split("/")[0])
            time.sleep(0.2)
        raise SystemExit(f"the server did not come up:\n{self.log.read_text()[-2000:]}")

    def processes(self) -> list[psutil.Process]:
        """Return it and all processes below it."""
        try:
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill_worker(self) -> None:
        """Kill a worker: the forking process has them below it."""
        for child in psutil.Process(self.process.pid).children():
            for worker in child.children()[:1]:
                worker.kill()

    def swap(self) -> None:
        """Let it open its model anew."""
        self.process.send_signal(signal.SIGHUP)

    def measure(self) -> None:
        """Note the memory of all processes: what each holds alone, and its part of what they share."""
        total = 0
        for process in self.processes():
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
        self.memory.append((time.monotonic() - self.started, total / 1e6))

    def seconds(self) -> dict[str, float]:
        """Return the clock, the seconds that the core worked, and those of the server's processes, dead ones too."""
        own = 0.0
        for process in self.processes():
            try:
                own += sum(process.cpu_times()[:4])
            except psutil.Error:
                continue
        core = psutil.cpu_times(percpu=True)[self.core]
        return {"clock": time.monotonic(), "core": core.user + core.nice + core.system + core.steal, "server": own}


def answers_of(model: Path, runtime: str, folder: Path) -> Good:
    """Return pictures and what the predictor says of them, without those whose answer hangs by a hair."""
    from dualvit.data.images import open_rgb, pictures_in
    from dualvit.deploy.predictor import open_predictor

    predictor = open_predictor(model, runtime, threads=1)
    found: list[tuple[bytes, dict[str, Any]]] = []
    for file in pictures_in(folder):
        data = file.read_bytes()
        if len(data) > MAX_BYTES or len(found) == PICTURES:
            continue
        picture = open_rgb(file)
        low, high = (predictor.predict([picture], CONFIDENCE + edge)[0] for edge in (-EDGE, EDGE))
        if len(low.get("objects", ())) == len(high.get("objects", ())):
            found.append((data, {"width": picture.width, "height": picture.height, **high}))
    if not found:
        raise SystemExit(f"{folder} has no picture that can be asked about; give another folder")
    return found


def health_seconds(serving: Serving, port: int) -> tuple[float, float]:
    """Kill a worker; return the seconds until health is false, and until it is true again."""
    serving.kill_worker()
    start, false = time.monotonic(), None
    while time.monotonic() < start + 120:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            if false is not None:
                return false, time.monotonic() - start
        except urllib.error.HTTPError:
            false = time.monotonic() - start if false is None else false
        time.sleep(0.005)
    return false or float("inf"), float("inf")


class Run:
    """A load: its phases, its end, and what came of them.

    Attributes:
        found: What is written: settings, phases, and in the end the checks.
        faults: Wrong answers and statuses, a line each.
    """

    def __init__(self, serving: Serving, port: int, files: Good, file: Path, minutes: float) -> None:
        self.serving, self.port, self.files, self.file = serving, port, files, file
        self.cycles = max(1, round(60 * minutes / CYCLE))
        self.part = 60 * minutes / self.cycles / len(PHASES)
        self.found: dict[str, Any] = {"minutes": minutes, "part_s": round(self.part, 2), "pictures": len(files)}
        self.found["phases"] = []
        self.faults: list[str] = []

    async def go(self) -> None:
        """Go through the phases, and then end the server."""
        watching = asyncio.create_task(self._watch())
        await closed(self.port, "model", self.files, min(self.part, 10))  # what is slow at first does not count
        for _ in range(self.cycles):
            rate = 0.0
            for phase in PHASES:
                out = await self._phase(phase, rate)
                rate = rate or SHARE * len(out.seconds) / self.part
                if self.serving.process.poll() is not None:
                    raise SystemExit(f"the server ended by itself: {self.serving.log.read_text()[-1000:]}")
        watching.cancel()
        false, true = await asyncio.to_thread(health_seconds, self.serving, self.port)
        ends = await ended(self.port, "model", self.files, self.serving.process.terminate)
        status = await asyncio.to_thread(self.serving.process.wait, 60)
        self.found |= {
            "health_false_after_s": round(false, 3), "health_true_after_s": round(true, 3),
            "end": dict(ends), "exit_status": status, "faults": self.faults, **self._memory(),
            "together": {phase: together(self.found["phases"], phase) for phase in PHASES},
        }  # fmt: skip
        self.found["checks"] = checks(self.found)
        self._write()

    async def _phase(self, phase: str, rate: float) -> Outcome:
        part, serving = self.part, self.serving
        plans: dict[str, dict[str, Any]] = {
            "mixed": {"bad_every": BAD_EVERY, "events": [(part / 2, serving.kill_worker)]},
            "cancelled": {"left": 0.8},
            "clean": {},
            "swapped": {"events": [(part / 4, serving.swap), (0.6 * part, serving.swap)]},
        }
        before, own = serving.seconds(), time.process_time()
        if phase == "peak":
            out = await closed(self.port, "model", self.files, part)
        else:
            out = await paced(self.port, "model", self.files, part, rate, **plans[phase])
        after = serving.seconds()
        spent = {key: after[key] - before[key] for key in after}
        shares = {
            "rate": round(rate or len(out.seconds) / part, 2),
            "server": round(spent["server"] / spent["clock"], 2),
            "others": round(max(0.0, spent["core"] - spent["server"]) / spent["clock"], 2),
            "clients": round((time.process_time() - own) / spent["clock"], 2),
        }
        self.found["phases"].append({"phase": phase, **shares, **out.row()})
        self.faults += [f"{phase}: {fault}" for fault in out.wrong]
        print(json.dumps(self.found["phases"][-1]), flush=True)
        self._write()
        return out

    async def _watch(self) -> None:
        while True:
            await asyncio.to_thread(self.serving.measure)
            await asyncio.sleep(min(5, self.part / 6))

    def _memory(self) -> dict[str, Any]:
        """The memory of the second and of the last quarter, and the slope from the second on."""
        points = self.serving.memory
        steady = points[len(points) // 4 :]
        ends = [
            statistics.median(size for _, size in steady[part])
            for part in (slice(len(steady) // 3), slice(-len(steady) // 3, None))
        ]
        slope = statistics.linear_regression(*zip(*steady, strict=True)).slope
        return {"memory_mb": [round(size, 1) for size in ends], "memory_mb_per_minute": round(60 * slope, 3)}

    def _write(self) -> None:
        self.file.write_text(json.dumps(self.found, indent=1) + "\n")


def together(rows: Sequence[dict[str, Any]], phase: str) -> dict[str, Any]:
    """Return the median and the largest of a phase's quantiles over its times, and the sums of its counts."""
    own = [row for row in rows if row["phase"] == phase]
    ratios = [row["p99_ms"] / row["p50_ms"] for row in own]
    statuses = {status for row in own for status in row["statuses"]}
    return {
        "p50_ms": round(statistics.median(row["p50_ms"] for row in own), 2),
        "p99_ms": round(statistics.median(row["p99_ms"] for row in own), 2),
        "p99_of_p50": round(statistics.median(ratios), 2), "worst_p99_of_p50": round(max(ratios), 2),
        "statuses": {status: sum(row["statuses"].get(status, 0) for row in own) for status in sorted(statuses)},
        "cancelled": sum(row["cancelled"] for row in own), "unsent": sum(row["unsent"] for row in own),
    }  # fmt: skip


def checks(found: dict[str, Any]) -> dict[str, bool]:
    """Return each thing that a server must do, and whether this one did."""
    statuses = {status for part in found["together"].values() for status in part["statuses"]}
    first, last = found["memory_mb"]
    return {
        "no wrong answer": not found["faults"],
        "no broken connection": "0" not in statuses,
        "no good request refused": statuses <= {"200", "0"},
        "p99 under 3 medians in clean minutes": found["together"]["clean"]["worst_p99_of_p50"] < 3,
        "flat memory": last < (1 + GROWTH) * first,
        "health false within 2 s": found["health_false_after_s"] < 2,
        "killed worker replaced": found["health_true_after_s"] < 60,
        "nothing lost at the end": set(found["end"]) <= {"answered", "refused", "reset"} and not found["exit_status"],
    }


def main() -> None:
    """Start a server, load it, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--cores", default="0,1", help="of the server and of this script")
    parser.add_argument("--json", type=Path, default=Path("runs/load/load.json"))
    options = parser.parse_args()
    core, own = map(int, options.cores.split(","))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    from dualvit.provenance import environment

    serving = Serving(options.model, options.runtime, options.json.with_suffix(".server.log"), core)
    try:
        files = answers_of(options.model, options.runtime, options.pictures)
        port = serving.wait()
        os.sched_setaffinity(0, {own})
        run = Run(serving, port, files, options.json, options.minutes)
        run.found |= {"runtime": options.runtime, "environment": environment(False)}
        asyncio.run(run.go())
    finally:
        if serving.process.poll() is None:
            serving.process.kill()
    print(json.dumps({key: value for key, value in run.found.items() if key != "phases"}, indent=1))
    sys.exit(0 if all(run.found["checks"].values()) else 1)


if __name__ == "__main__":
    main()
