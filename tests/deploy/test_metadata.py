"""What an exported file says of itself is read as it was written, and nothing else is believed."""

import zipfile

import pytest

from dualvit.deploy.metadata import EXTRA_FILE, KEY, Metadata, from_json, read_metadata
from dualvit.errors import InputError, MissingFileError

METADATA = Metadata("dualvit_n", "classify", ("cat", "été"), (224, 320), (0.5, 0.4, 0.3), crop_pct=0.875, version="1.0")


def test_json_there_and_back():
    assert from_json(METADATA.to_json(), "n.onnx") == METADATA
    newer = METADATA.to_json().replace("{", '{"unheard_of": 1, ', 1)
    assert from_json(newer, "n.onnx") == METADATA


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "no JSON object"),
        ("{", "no JSON object"),
        ('{"name": "x"}', "without name or task"),
        ('{"name": "x", "task": "fly"}', "task 'fly'"),
        ('{"name": "x", "task": "classify", "mean": [1, 2]}', r"mean \(1, 2\)"),
        ('{"name": "x", "task": "classify", "stride": true}', "stride True"),
        ('{"name": "x", "task": "classify", "image_size": [0, 1]}', "sizes that no picture has"),
        ('{"name": "x", "task": "classify", "std": [1, 1, 0]}', "sizes that no picture has"),
        ('{"name": "x", "task": "classify", "classes": ["../up"]}', "leads out of a folder"),
    ],
)
def test_what_cannot_be_is_one_line(text, said):
    with pytest.raises(InputError, match=said) as error:
        from_json(text, "n.onnx")
    assert "\n" not in str(error.value)


def test_of_files(tmp_path):
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph([], "empty", [], [])
    model = onnx.helper.make_model(graph)
    onnx.save(model, tmp_path / "bare.onnx")
    with pytest.raises(InputError, match=r"bare.onnx has no metadata under dualvit; dualvit export writes them"):
        read_metadata(tmp_path / "bare.onnx")
    onnx.helper.set_model_props(model, {KEY: METADATA.to_json(), "other": "1"})
    onnx.save(model, tmp_path / "n.onnx")
    with zipfile.ZipFile(tmp_path / "n.pt2", "w") as archive:
        archive.writestr(f"n/extra/{EXTRA_FILE}", METADATA.to_json())
    assert read_metadata(tmp_path / "n.onnx") == read_metadata(tmp_path / "n.pt2") == METADATA
    (tmp_path / "broken.pt2").write_bytes(b"none")
    with pytest.raises(InputError, match=r"cannot read the metadata of .*broken.pt2: .*; export it anew"):
        read_metadata(tmp_path / "broken.pt2")
    with pytest.raises(MissingFileError, match="no exported network at"):
        read_metadata(tmp_path / "none.onnx")
    (tmp_path / "n.txt").write_text("")
    with pytest.raises(InputError, match=r"n.txt is no exported network"):
        read_metadata(tmp_path / "n.txt")
