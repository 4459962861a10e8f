"""A whole run on the oldest and the newest supported Ultralytics, in fresh interpreters."""

import hashlib
from pathlib import Path

import pytest
import timm
import ultralytics

VERSIONS = ("oldest", "newest")
TASKS = ("detect", "segment")


def digest(folder: Path) -> str:
    """One hash over every file of an installed package, compiled files aside."""
    total = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            total.update(str(file.relative_to(folder)).encode() + file.read_bytes())
    return total.hexdigest()


@pytest.fixture(scope="module")
def packages():
    """The installed packages that we extend, with their hashes before any run."""
    import sys

    folders = [Path(ultralytics.__file__).parent, Path(timm.__file__).parent]
    oldest = Path(sys.prefix) / "oldest" / "ultralytics"
    folders += [oldest] if oldest.exists() else []
    return {folder: digest(folder) for folder in folders}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("version", VERSIONS)
def test_whole_run(version, task, stages, fresh, digits, out, packages):
    """Three fresh interpreters: train; load and resume; and a DDP worker, which knows the trainer's class alone."""
    options = {"task": task, "data": str(digits), "out": str(out / version)}
    trained, worker = stages("train,ddp", version, **options)
    assert (trained["ultralytics"] == "8.2.103") == (version == "oldest")
    assert trained["epochs"] == 1
    assert 0 <= trained["map50"] <= 1
    assert trained["raw"] > 0
    # From 8.3 on Ultralytics drops a box whose mask is empty; after one epoch at 64 pixels every mask may be.
    assert trained["boxes"] or task == "segment"

    loaded, resumed = stages("load,resume", version, **options)
    assert loaded["boxes"] == trained["boxes"]
    assert loaded["raw"] == trained["raw"]
    assert (resumed["start"], resumed["epochs"]) == (1, 2)
    assert resumed["groups"] == trained["groups"]
    assert len({lr for _, lr, _ in resumed["groups"]}) > 5, "layer_decay gives each layer its lr"

    try:
        fresh(worker["script"], version=version)
    finally:
        Path(worker["script"]).unlink()
    assert (Path(worker["weights"]) / "best.pt").stat().st_size > 1_000_000


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_every_task_and_scale(version, fresh):
    """Each shipped YAML at each scale builds and runs one forward pass."""
    done = fresh(str(Path(__file__).parent / "build_all.py"), version=version)
    lines = done.stdout.strip().splitlines()
    assert lines[-1] == "60 built"


def test_site_packages_unchanged(packages):
    """Runs last in this file: what we extend is what was installed."""
    assert {folder: digest(folder) for folder in packages} == packages
