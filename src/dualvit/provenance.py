"""Where a result comes from: versions, commit, machine and date."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch


def environment(cuda: bool) -> dict[str, Any]:
    """Versions, commit and machine, as results keep them."""
    versions = {"python": platform.python_version()}
    for name in ("dualvit", "torch", "torchvision", "timm", "lightning", "ultralytics"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "versions": versions, "commit": commit(), "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": torch.cuda.get_device_name() if cuda else processor(),
    }  # fmt: skip


def commit() -> str | None:
    """The commit of this package's sources; None where they are installed rather than checked out."""
    answers = []
    for command in (["ls-files", "--error-unmatch", Path(__file__).name], ["describe", "--always", "--dirty"]):
        try:
            done = subprocess.run(
                ["git", *command], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10,
                stdin=subprocess.DEVNULL, check=True,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            return None
        answers.append(done.stdout.strip())
    return answers[-1] or None


def processor() -> str:
    """The CPU's name, its cores, and the widest vector instructions that PyTorch uses on it."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {allowed_cores()} cores, {torch.backends.cpu.get_cpu_capability()}"


def allowed_cores() -> int:
    """The CPU cores that this process may use, whatever OMP_NUM_THREADS says: Ultralytics sets it to 1 at import."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores() -> int:
    """The CPU cores that this process may use, or OMP_NUM_THREADS if that is less."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(allowed_cores(), int(wanted)) if wanted.isdigit() and int(wanted) > 0 else allowed_cores()
