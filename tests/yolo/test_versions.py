"""A whole run on the oldest and the newest supported Ultralytics, each stage in a fresh interpreter."""

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
def test_train_load_resume(version, task, stage, digits, out, packages):
    options = {"task": task, "data": str(digits), "out": str(out / version)}
    trained = stage("train", version, **options)
    assert (trained["ultralytics"] == "8.2.103") == (version == "oldest")
    assert trained["epochs"] == 1
    assert 0 <= trained["map50"] <= 1
    assert trained["raw"] > 0
    # From 8.3 on Ultralytics drops a box whose mask is empty; after one epoch at 64 pixels every mask may be.
    assert trained["boxes"] or task == "segment"

    loaded = stage("load", version, **options)
    assert loaded["boxes"] == trained["boxes"]
    assert loaded["raw"] == trained["raw"]

    resumed = stage("resume", version, **options)
    assert (resumed["start"], resumed["epochs"]) == (1, 2)
    assert resumed["groups"] == trained["groups"]
    assert len({lr for _, lr, _ in resumed["groups"]}) > 5, "layer_decay gives each layer its lr"


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("version", VERSIONS)
def test_ddp_worker(version, task, stage, fresh, digits, out, packages):
    """The worker's script knows nothing of us but the trainer's class, and trains all the same."""
    report = stage("ddp", version, task=task, data=str(digits), out=str(out / version))
    try:
        fresh(report["script"], version=version)
    finally:
        Path(report["script"]).unlink()
    assert (Path(report["weights"]) / "best.pt").stat().st_size > 1_000_000


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
