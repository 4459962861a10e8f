"""Predictions: a file of its own for each picture, and no file of anyone's overwritten."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("lightning", reason="needs dualvit[recipes]")

from dualvit.data.images import LONGEST
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


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_one_bad_name_costs_only_itself(case, tmp_path):
    """Names that are no text or very long, a pipe, a bomb, a link to nowhere, and pictures of one pixel's width."""
    checkpoint, key, name = case
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    good = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8))
    no_text = os.fsdecode(b"caf\xe9.png")
    for file in (no_text, "n" * 249 + ".png", "ok.png"):
        good.save(folder / file)
    Image.new("RGB", (1, 20000)).save(folder / "thin.png")
    Image.new("1", (14000, 14000)).save(folder / "bomb.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "link.png").symlink_to("nowhere.png")
    (folder / "._ok.png").write_bytes(b"\0\5\x16\7")
    lines = list(run.predict(checkpoint, [folder], out))
    rows = json.loads((out / "predictions.json").read_text())[key]
    seen = [Path(row[name]).name for row in rows]
    thin = ["thin.png"] if key == "predictions" and rows[0].get("classes") else []  # a classifier looks at its middle
    assert seen == [no_text, "n" * 249 + ".png", "ok.png", *thin]
    assert all((out / row["picture"]).is_file() for row in rows)
    skipped = [line for line in lines if line.startswith("skipped: ")]
    assert "1 .png (pipe.png)" in lines[0] and len(skipped) == 3 - len(thin)
    assert "bomb.png: it has 196000000 pixels, and the limit is 150000000; shrink it" in skipped[0]
    assert skipped[1].endswith("link.png: No such file or directory; repair or remove it")
    if not thin:
        assert "thin.png: it has 1x20000 pixels, and " in skipped[2] and "cut it into pieces" in skipped[2]


@pytest.mark.parametrize("case", ["detect", "semantic"], indirect=True)
def test_none_of_the_pictures_can_be_used(case, tmp_path):
    Image.new("RGB", (1, 100 * LONGEST)).save(tmp_path / "thin.png")
    with pytest.raises(ValueError, match=r"none of the 1 images can be used; nothing is written to .*out"):
        list(run.predict(case[0], [tmp_path / "thin.png"], tmp_path / "out"))
    assert not (tmp_path / "out" / "predictions.json").exists()


@pytest.mark.parametrize("case", ["semantic"], indirect=True)
def test_same_names_are_two_results(case, tmp_path):
    for number, folder in enumerate("ab"):
        (tmp_path / folder).mkdir()
        pixels = np.random.default_rng(number).integers(0, 255, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / folder / "1.png")
    list(run.predict(case[0], [tmp_path / "a", tmp_path / "b"], tmp_path / "out"))
    rows = json.loads((tmp_path / "out/predictions.json").read_text())["predictions"]
    assert [(row["image"], row["picture"]) for row in rows] == [
        (str(tmp_path / "a/1.png"), "1.overlay.png"), (str(tmp_path / "b/1.png"), "1-2.overlay.png")
    ]  # fmt: skip
