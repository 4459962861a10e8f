"""A whole run on the oldest and the newest supported Ultralytics, in fresh interpreters."""

import functools
import hashlib
import sys
from pathlib import Path

import pytest
import timm
import ultralytics

from dualvit.yolo import YOLO
from dualvit.yolo.groups import backbone_of

CASES = [("oldest", "detect"), ("oldest", "segment"), ("oldest", "timm"), ("newest", "detect"), ("newest", "segment")]


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
    folders = [Path(ultralytics.__file__).parent, Path(timm.__file__).parent]
    oldest = Path(sys.prefix) / "oldest" / "ultralytics"
    folders += [oldest] if oldest.exists() else []
    return {folder: digest(folder) for folder in folders}


@pytest.fixture(scope="module")
def runs(stages, digits, tmp_path_factory, packages):
    """What the whole runs of a version report, by task, and how many models it built; run once, in one interpreter.

    A run is three processes: train; load and resume; and a DDP worker, which knows the trainer's class alone.
    """

    @functools.cache
    def of(version):
        tasks = [task for which, task in CASES if which == version]
        out = tmp_path_factory.mktemp(version)
        options = [{"task": task, "data": str(digits), "out": str(out)} for task in tasks]
        jobs = [(names, one) for one in options for names in ("train,ddp", "load,resume", "work")]
        *found, built = stages([*jobs, ("build_all", {})], version)
        return {task: found[3 * index : 3 * index + 3] for index, task in enumerate(tasks)} | {"built": [built]}

    def reports(version, name):
        found = of(version)[name]
        failures = [report for report in found if isinstance(report, str)]
        assert not failures, failures[0]
        return found

    return reports


@pytest.mark.slow
@pytest.mark.parametrize(("version", "task"), CASES)
def test_whole_run(version, task, runs):
    (trained, _), (loaded, resumed), (worker,) = runs(version, task)
    assert (trained["ultralytics"] == "8.2.103") == (version == "oldest")
    assert trained["epochs"] == 1
    assert 0 <= trained["map50"] <= 1
    assert trained["raw"] > 0
    # From 8.3 on Ultralytics drops a box whose mask is empty; after one epoch at 64 pixels every mask may be.
    assert trained["boxes"] or task == "segment"

    assert loaded["boxes"] == trained["boxes"]
    assert loaded["raw"] == trained["raw"]
    assert (resumed["start"], resumed["epochs"]) == (1, 2)
    # Of two to validate on the best and the worst one, and up to two explanations.
    assert resumed["pictures"] in (2, 3, 4)
    assert resumed["groups"] == trained["groups"]
    assert len({lr for _, lr, _ in resumed["groups"]}) > 5, "layer_decay gives each layer its lr"

    assert Path(worker).stat().st_size > 1_000_000
    if task == "timm":  # the YAML that the worker was given arrived, and the newest reads what the oldest wrote
        spec = backbone_of(YOLO(worker).model).spec
        assert spec == {"name": "swin_tiny_patch4_window7_224", "embed_dim": 24, "depths": [1, 1, 2, 1], "in_chans": 3}


@pytest.mark.slow
@pytest.mark.parametrize("version", ("oldest", "newest"))
def test_every_task_and_scale(version, runs):
    """Each model YAML builds and runs one forward pass, those of YOLOv8 at each scale."""
    assert runs(version, "built") == [[64 if version == "oldest" else 94]]


def test_site_packages_unchanged(packages):
    """Runs last in this file: what we extend is what was installed."""
    assert {folder: digest(folder) for folder in packages} == packages
