"""Predictions: a file of its own for each picture, and no file of anyone's overwritten."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("lightning", reason="needs dualvit[recipes]")

from dualvit.locks import only_writer
from dualvit.recipes import run
from dualvit.recipes.config import plain

CASES = {
    "classify": ("laptop-classify", ["data.image_size=32"], "predictions", "image"),
    "detect": (
        "laptop-detect",
        ["data.short_side=32", "data.long_side=48", "head.channels=16", "head.rois=16"],
        "images",
        "file_name",
    ),
    "semantic": (
        "laptop-semantic",
        ["data.short_side=32", "data.image_size=32", "data.stride=32"],
        "predictions",
        "image",
    ),
}


@pytest.fixture
def case(request, tmp_path, monkeypatch):
    """A checkpoint of a network that learned nothing, and where its predictions.json has a row for each picture."""
    monkeypatch.setattr("dualvit.pictures.boxes.LONG", 1)  # no enlarged pictures
    name, changes, *place = CASES[request.param]
    settings = run.load_recipe(name, ["data.root=x", "network.name=dualvit_n", *changes])
    task = run.kind(settings.task).TaskType(settings, ("a", "b"))
    held = {"recipe": plain(settings), "classes": ["a", "b"]}
    torch.save({"dualvit": held, "state_dict": task.state_dict()}, tmp_path / "best.ckpt")
    return tmp_path / "best.ckpt", *place


@pytest.fixture
def pictures(tmp_path):
    """Twelve pictures, of which some have one name."""
    for folder in ("x", "y"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        for number, name in enumerate(("a.jpg", "a.png", "b.png", "c.jpg", "a-2.png", "predictions.png")):
            pixels = np.random.default_rng(number).integers(0, 255, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "in" / folder / name)
    return tmp_path / "in"


def contents(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("case", "inside"), [(task, "") for task in CASES] + [("classify", "x"), ("classify", "out")], indirect=["case"]
)
def test_into_the_folder_of_the_pictures_and_again(case, pictures, inside):
    checkpoint, key, name = case
    out, before = pictures / inside, contents(pictures)
    asked = sorted(map(str, before))
    for turn in range(2):
        lines = list(run.predict(checkpoint, [pictures], out))
        about = (
            Path(lines[12].split(", since")[0].removeprefix("predictions in ")) if turn else out / "predictions.json"
        )
        rows = json.loads(about.read_text())[key]
        assert [row[name] for row in rows] == asked and len(lines) == 12 + turn
        written = {out / row["picture"] for row in rows}
        after = contents(pictures)
        assert len({str(file).casefold() for file in written}) == 12 and written <= set(after) - set(before)
        assert {file: after[file] for file in before} == before  # nothing that was there has changed
        before = after


@pytest.mark.parametrize("case", ["classify"], indirect=True)
def test_one_at_a_time(case, pictures, tmp_path):
    with only_writer(tmp_path / "out", "dualvit recipe predict"), pytest.raises(RuntimeError, match="is at work in"):
        list(run.predict(case[0], [pictures], tmp_path / "out"))
