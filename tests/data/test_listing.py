"""Which pictures a command line names, and what files that are made of them are called."""

import os
from pathlib import Path

import pytest
from PIL import Image

from dualvit.data.label_maps import place
from dualvit.data.listing import free_names, image_files, why_unreadable
from dualvit.files import cut_name, free_paths, read_json, write_json


def test_names_are_those_of_no_other_file(tmp_path):
    for name in ("a.png", "b-2.mask.png", "C.PNG"):
        (tmp_path / name).touch()
    files = [Path(name) for name in ("x/a.jpg", "y/a.jpg", "a-2.jpg", "b.jpg", "b.png", "c.tif", "d.jpg", "D.jpg")]
    about, names = free_names(files, tmp_path, (".png", ".mask.png"))
    assert about == tmp_path / "predictions.json"
    assert names == ["a-2", "a-3", "a-2-2", "b", "b-3", "c-2", "d", "D-2"]
    (tmp_path / "Predictions.json").touch()
    about, many = free_names([Path(f"{number}/a.jpg") for number in range(3000)], tmp_path, (".png",))
    assert len(set(many)) == 3000 and many[-1] == "a-3001" and about.name == "predictions-2.json"


def test_folders_are_listed_without_what_predictions_wrote(tmp_path):
    for name in ("a.png", "a-2.png", "b.jpg", "b.mask.png"):
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    for name, content in (
        ("predictions.json", {"predictions": [{"image": "a.png", "picture": "a-2.png"}, {"mask": "b.mask.png"}]}),
        ("predictions-2.json", {"predictions": 3}),
    ):
        write_json(tmp_path / name, content)
    assert [file.name for file in image_files([tmp_path], tmp_path)] == ["a.png", "b.jpg"]
    assert image_files([tmp_path / "a-2.png"], tmp_path) == [tmp_path / "a-2.png"]  # named, it is taken
    assert len(image_files([tmp_path])) == 4


@pytest.mark.parametrize(
    "rows", ["[3]", "[{}]", '[{"picture": 3}]', '[{"picture": "a\\u0000b"}]', "3", "null", '{"a": 1}']
)
def test_predictions_of_another_kind_leave_nothing_out(tmp_path, rows):
    (tmp_path / "predictions.json").write_text(f'{{"predictions": {rows}}}')
    (tmp_path / "a.jpg").touch()
    assert image_files([tmp_path], tmp_path) == [tmp_path / "a.jpg"]


def test_long_names_are_cut(tmp_path):
    endings = (".json", ".mask.png", ".overlay.png")
    files = [Path(f"{letter * 249}{end}.png") for letter in ("a", "b") for end in ("", "x")] + [Path("é" * 122)]
    names = free_names(files, tmp_path, endings)[1]
    assert len(set(names)) == 5
    for name in names:
        for ending in endings:
            (tmp_path / f"{name}{ending}.part").touch()  # as they are written
    assert names[4] == "é" * 115 and names[1] == f"{names[0]}-2"
    assert cut_name("caf\udce9" * 80, 255).startswith("cafcaf")  # a byte that is no text goes where a name is cut


def test_label_maps_of_long_names_are_two(tmp_path):
    places = [place(tmp_path, Path("data"), Path(f"data/train/a/{'n' * 245}{end}.jpg")) for end in "xy"]
    for path in places:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f"{path.name}.part").touch()
    assert len(set(places)) == 2
    assert place(tmp_path, Path("data"), Path("data/train/a/n.jpg")) == tmp_path / "train/a/n.jpg.safetensors"


def test_names_that_are_no_text_are_kept(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    write_json(tmp_path / "a.json", {"image": name, "text": "café"})
    assert read_json(tmp_path / "a.json") == {"image": name, "text": "café"}
    assert (tmp_path / "a.json").read_bytes().decode().count("\\udce9") == 1


def test_numbers_are_shared_by_what_belongs_together(tmp_path):
    for turn, ending in enumerate(("", "-2", "-3")):
        paths = free_paths(tmp_path, "eval.json", "confusion.png")
        assert paths == [tmp_path / f"eval{ending}.json", tmp_path / f"confusion{ending}.png"]
        paths[turn % 2].touch()


def test_a_pipe_is_left_out_and_named(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    notes = []
    assert image_files([tmp_path], notes=notes) == [tmp_path / "a.png"]
    assert len(notes) == 1 and notes[0].endswith("(pipe.png)")
    assert image_files([tmp_path / "pipe.png"]) == [tmp_path / "pipe.png"]
    assert why_unreadable(tmp_path / "pipe.png").endswith("pipe.png: it is no file; remove it")
