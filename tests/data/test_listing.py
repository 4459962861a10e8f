"""Which pictures a command line names, and what files that are made of them are called."""

from pathlib import Path

import pytest
from PIL import Image

from dualvit.data.listing import free_names, image_files
from dualvit.files import write_json


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
