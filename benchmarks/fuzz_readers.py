"""Mutated files at every decoder and reader, by hypothesis, for a given time each; `fuzz.py` builds whole networks.

    python benchmarks/fuzz_readers.py --minutes 2
    python benchmarks/fuzz_readers.py pictures coco --minutes 10 --out runs/fuzz-readers

A file must be read, or refused by an error of `dualvit.errors` in one line. A finding is anything else: another
exception, more than 10 seconds of work, more than 1 GB of memory, a crash, a process, a connection. The smallest file
of each finding is kept in OUT. OUT/state.json holds how long each reader was tried, and the same command goes on from
there. The exit status is 1 if there are findings.
"""

import argparse
import json
import multiprocessing
import re
import resource
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from fuzz import TOUCHED
from fuzz_targets import TARGETS, Target
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from dualvit.errors import DualViTError
from dualvit.files import at_limit, write_json

WORK, WALL = 10, 60  # seconds of the processor, and by the clock
MEMORY = 1 << 30  # bytes above what the process had before
SLICE = 20.0  # seconds of a reader before the next one has its turn
LONGEST = 20_000  # characters of a message
NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1]
WORDS = [
    b"NaN", b"-Infinity", b"1e999", b"-1", b"0", b"9" * 40, b"9" * 5000, b"1e-400", b"null", b"true", b"[]", b"{}",
    b'""', b"[" * 3000, b"{" * 3000, b'{"a":' * 3000, b"&a [*a]", b"{<<: *a}", b"!!python/object/apply:os.system [id]",
    b"2020-99-99", b"2020-01-01T99:99:99", b"0x", b"1:99:99", b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"\\ud800",
    b"../../etc/passwd", b"/", b"", b"~", b"1_0", b"0o9", b"=", b"? [a]", b"<a>" * 3000, b"<!DOCTYPE a>", b"&amp;&#0;",
    b"\xc2\x85", b"\xe2\x80\xa8", b"a: &a " + b"[1,1,1,1,1,1,1,1,1]" + b"".join(
        b"\n%c: &%c [%s]" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 9)) for n in range(8)
    ),
]  # fmt: skip
touched: list[str] = []


@st.composite
def mutated(draw: Any, target: Target) -> tuple[str, bytes]:
    """One of a reader's valid files with one to five places changed."""
    name, content = draw(st.sampled_from(target.seeds))
    data = bytearray(content)
    acts = ["flip", "byte", "cut", "leave out", "double", "splice", "number", "number"]
    for _ in range(draw(st.integers(1, 5))):
        act = draw(st.sampled_from([*acts, *(["word"] * 8 if target.words else [])]))
        at = draw(st.one_of(st.integers(0, min(len(data), 128)), st.integers(0, len(data))))
        length = draw(st.integers(1, 64))
        if act == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif act == "byte" and at < len(data):
            data[at] = draw(st.integers(0, 255))
        elif act == "cut" and draw(st.booleans()):
            del data[at:]
        elif act == "leave out":
            del data[at : at + length]
        elif act == "double":
            data[at:at] = data[at : at + length] * draw(st.integers(1, 4))
        elif act == "splice":
            other = draw(st.sampled_from(target.seeds))[1]
            begin = draw(st.integers(0, len(other)))
            data[at : at + length] = other[begin : begin + draw(st.integers(1, 256))]
        elif act == "number":
            size, order = draw(st.sampled_from([1, 2, 4, 8])), draw(st.sampled_from(["little", "big"]))
            data[at : at + size] = (draw(st.sampled_from(NUMBERS)) % (1 << 8 * size)).to_bytes(size, order)
        elif act == "word" and (found := list(re.finditer(rb"[\w.+-]+|[^\w\s]", bytes(data)))):
            one = found[at % len(found)]
            data[one.start() : one.end()] = draw(st.sampled_from(WORDS))
    return name, bytes(data)


class LateError(BaseException):
    """A file took too long."""


def _late(*_: Any) -> None:
    raise LateError


def _memory(field: str) -> int:
    text = Path("/proc/self/status").read_text()
    return 1024 * int((re.search(rf"{field}:\s+(\d+)", text) or [0, 0])[1])


def outcome(target: Target, file: Path) -> str:
    """What came of a file: read, refused, or a finding in words, with the place where it arose."""
    touched.clear()
    Path("/proc/self/clear_refs").write_text("5")  # the peak of memory counts from here
    before = _memory("VmRSS")
    signal.setitimer(signal.ITIMER_PROF, WORK)
    signal.alarm(WALL)
    found = "read"
    try:
        target.read(file)
    except DualViTError as error:
        text = str(error)
        if at_limit(error):
            found = f"memory: {text[:200]}"
        else:
            found = (
                "refused"
                if "\n" not in text and 0 < len(text) < LONGEST
                else f"unclear: {_place(error)} {text[:300]!r}"
            )
    except LateError as error:
        found = f"late: {_place(error)}"
    except BaseException as error:
        found = f"bare {type(error).__name__}: {_place(error)} {str(error)[:200]!r}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
    used = _memory("VmHWM") - before
    if used > MEMORY:
        found = f"memory: {used >> 20} MB, then {found}"
    return f"touched {sorted(set(touched))}" if touched else found


def _place(error: BaseException) -> str:
    """The innermost line of this package that an error went through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/src/dualvit/" in frame.filename]
    return f"{frames[-1].filename.rpartition('/src/dualvit/')[2]}:{frames[-1].lineno}" if frames else "elsewhere"


def kind_of(found: str) -> str:
    """What makes two findings the same."""
    return " ".join(found.split()[:3]) if not found.startswith("memory") else "memory"


def put(folder: Path, files: Any) -> None:
    """Write files at their places below a folder."""
    for name, content in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def child(name: str, number: int, seconds: float, out: Path) -> None:
    """Try one reader for some seconds; OUT/NAME.json takes the counts, and OUT/NAME-*.bin the findings."""
    torch.set_num_threads(1)
    sys.setrecursionlimit(1000)
    target, end = TARGETS[name](), time.monotonic() + seconds
    folder = out / "work" / name
    sys.addaudithook(lambda event, _: touched.append(event) if event in TOUCHED else None)
    signal.signal(signal.SIGPROF, _late)
    signal.signal(signal.SIGALRM, _late)
    resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + 4 * MEMORY,) * 2)
    for place, content in target.seeds:  # the first one waits for imports
        shutil.rmtree(folder, ignore_errors=True)
        put(folder, (*target.beside, (place, content)))
        target.read(folder / place)
    counts: Counter[str] = Counter()
    findings: dict[str, tuple[bytes, str, str]] = {}

    def check(case: tuple[str, bytes]) -> None:
        place, content = case
        if time.monotonic() > end:
            return
        if target.beside or not counts:
            shutil.rmtree(folder, ignore_errors=True)
            put(folder, target.beside)
        put(folder, [case])
        found = outcome(target, folder / place)
        counts[found if found in ("read", "refused") else "findings"] += 1
        if found not in ("read", "refused"):
            key = kind_of(found)
            if key not in findings or len(content) < len(findings[key][0]):
                findings[key] = (content, place, found)
        if not target.beside:
            (folder / place).unlink(missing_ok=True)

    options = settings(
        max_examples=200, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    while time.monotonic() < end:
        seed(number)(options(given(case=mutated(target))(check)))()
        number += 1_000_003
    kept = {}
    for index, (content, place, found) in enumerate(findings.values()):
        file = out / f"{name}-{number % 1_000_003}-{index}{Path(place).suffix}"
        file.write_bytes(content)
        kept[file.name] = f"{place}: {found}"
    write_json(out / f"{name}.json", {"counts": counts, "findings": kept})


def main() -> None:
    """Give each reader its turn until all had their time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=list(TARGETS), help=f"of {', '.join(TARGETS)}; all if left out")
    parser.add_argument("--minutes", type=float, default=2.0, help="of each reader")
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz-readers"))
    options = parser.parse_args()
    if wrong := set(options.what) - set(TARGETS):
        parser.error(f"{', '.join(sorted(wrong))} is no reader; give some of {', '.join(TARGETS)}")
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    state: dict[str, Any] = json.loads((out / "state.json").read_text()) if (out / "state.json").exists() else {}
    fork = multiprocessing.get_context("fork")
    while left := [n for n in options.what if state.get(n, {}).get("seconds", 0) < 60 * options.minutes - 1]:
        name = min(left, key=lambda one: state.get(one, {}).get("seconds", 0))
        mine = state.setdefault(name, {"seconds": 0.0, "rounds": 0, "counts": {}, "findings": {}})
        mine["rounds"] += 1
        begin = time.monotonic()
        (out / f"{name}.json").unlink(missing_ok=True)
        process = fork.Process(target=child, args=(name, mine["rounds"], SLICE, out))
        process.start()
        process.join(SLICE + 3 * WALL)
        if process.is_alive():
            process.kill()
            process.join()
        mine["seconds"] += time.monotonic() - begin
        if (out / f"{name}.json").exists():
            told = json.loads((out / f"{name}.json").read_text())
            mine["counts"] = dict(Counter(mine["counts"]) + Counter(told["counts"]))
        else:  # it crashed, or hung where no signal reaches it: what it read last lies in its folder
            kept = out / f"{name}-crash-{mine['rounds']}"
            shutil.move(out / "work" / name, kept)
            told = {"findings": {kept.name: f"bare crash: ended with {process.exitcode}"}}
        for file, found in told["findings"].items():
            if kind_of(found) not in {kind_of(old) for old in mine["findings"].values()}:
                mine["findings"][file] = found
                print(f"{file}: {found}", flush=True)
            elif (out / file).is_file():
                (out / file).unlink()
        write_json(out / "state.json", state)
    for name in options.what:
        print(
            f"{name}: {state[name]['seconds']:.0f} s, {state[name]['counts']}, {len(state[name]['findings'])} findings"
        )
    sys.exit(any(state[name]["findings"] for name in options.what))


if __name__ == "__main__":
    main()
