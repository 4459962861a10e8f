"""Varied scenes: labels are those of the masks, pictures depend on their numbers alone, nothing is overwritten."""

import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dualvit.drawn.formulas import distinct
from dualvit.drawn.scenes import MIN_VISIBLE
from dualvit.drawn.varied import Composition, draw_varied, write_scenes

pytest.importorskip("scipy", reason="the largest visible parts come from SciPy")
ndimage = pytest.importorskip("scipy.ndimage")
pytest.importorskip("contourpy", reason="the outlines come from contourpy")
CLASSES = 20
SIZE = 128


@pytest.fixture(scope="module")
def scenes():
    return [draw_varied(0, "train", index, SIZE, CLASSES) for index in range(24)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes") / "set", images=6, size=64)


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_scene_is_drawn_from_its_numbers_alone(scenes):
    again = draw_varied(0, "train", 7, SIZE, CLASSES)
    np.testing.assert_array_equal(again.image, scenes[7].image)
    assert again.rows() == scenes[7].rows()
    for seed, split, index in ((1, "train", 7), (0, "val", 7), (0, "train", 8)):
        assert not np.array_equal(draw_varied(seed, split, index, SIZE, CLASSES).image, scenes[7].image)


def test_more_images_only_add_files(data, tmp_path):
    small, large = contents(data.parent), contents(write_scenes(tmp_path / "set", images=9, size=64).parent)
    assert len(large) == len(small) + 6
    assert [name for name in small if small[name] != large[name]] == ["dualvit-scenes.json"]


def test_polygons_are_the_masks(scenes):
    for scene in scenes:
        for mask, row in zip(scene.masks, scene.rows(), strict=True):
            points = np.array(row.split()[1:], dtype=float).reshape(-1, 2) * SIZE - 0.5  # Pillow's, of pixel centres
            picture = Image.new("1", mask.shape)
            corners = [tuple(point) for point in np.round(points).tolist()]
            ImageDraw.Draw(picture).polygon(corners, fill=1, outline=1)
            # A hole of the mask is filled; the object in it has a row of its own, further to the front.
            filled = ndimage.binary_fill_holes(mask, structure=np.ones((3, 3)))
            assert (np.asarray(picture) != filled).sum() <= 0.02 * filled.sum()  # tips of one pixel
            rows, columns = np.nonzero(mask)
            np.testing.assert_allclose(points.min(0), [columns.min(), rows.min()], atol=1e-3)
            np.testing.assert_allclose(points.max(0), [columns.max(), rows.max()], atol=1e-3)


def test_masks_are_apart_and_in_one_piece(scenes):
    for scene in scenes:
        assert np.sum(scene.masks, axis=0).max() == 1
        assert all(ndimage.label(mask)[1] == 1 for mask in scene.masks)


def test_pictures_vary(scenes):
    assert {label for scene in scenes for label in scene.classes} == set(range(CLASSES))
    counts = {len(scene.classes) for scene in scenes}
    assert min(counts) >= 2 and max(counts) <= 12 and len(counts) > 4
    areas = [mask.mean() for scene in scenes for mask in scene.masks]
    assert max(areas) > 30 * min(areas)
    light = [scene.image.mean() for scene in scenes]
    assert max(light) > 2 * min(light)


def test_an_object_that_is_mostly_hidden_is_not_painted():
    canvas = Composition(np.random.default_rng(0), SIZE, distinct(3))
    block = np.ones((40, 40), dtype=np.float32)
    canvas.settle(canvas.room(block, 20, 20), 0)
    assert canvas.room(block, 20, 44) is not None  # 60 percent of the first stay
    assert canvas.room(block, 20, 25) is None
    assert canvas.room(block, SIZE - 10, 60) is None
    # A band hides a third, and leaves two parts of which neither shows enough.
    band = np.ones((14, 60), dtype=np.float32)
    assert band[:, :40].sum() < (1 - MIN_VISIBLE) * block.sum()
    assert canvas.room(band, 10, 33) is None


def test_shapes_of_classes_stay_if_there_are_more():
    assert distinct(30)[:20] == distinct(20)
    assert len(set(distinct(30))) == 30


def test_layout(data):
    root = data.parent
    assert sorted(path.name for path in root.iterdir()) == ["data.yaml", "dualvit-scenes.json", "images", "labels"]
    for split, count in (("train", 5), ("val", 1)):
        assert len(list((root / "images" / split).glob("*.jpg"))) == count
        files = sorted((root / "labels" / split).glob("*.txt"))
        assert len(files) == count
        for row in (row for file in files for row in file.read_text().splitlines()):
            label, *values = row.split()
            assert int(label) in range(CLASSES) and len(values) >= 6
            assert all(0 <= float(value) <= 1 for value in values)
    with Image.open(root / "images/train/00000.jpg") as picture:
        assert picture.size == (64, 64) and picture.mode == "RGB"


def test_a_second_call_keeps_the_files_and_other_settings_are_named(data, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in data.parent.rglob("*")}
    monkeypatch.setattr("dualvit.drawn.varied.draw_varied", None)  # nothing is drawn
    assert write_scenes(data.parent, images=6, size=64) == data
    with pytest.raises(ValueError, match=r"scenes of other settings \(classes 20 instead of 5\); name another folder"):
        write_scenes(data.parent, images=6, size=64, classes=5)
    assert {path: path.stat().st_mtime_ns for path in data.parent.rglob("*")} == before


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"images": 4}, "images is 4, below 5"),
        ({"size": 100}, "size is 100, not a multiple of 32"),
        ({"seed": -1}, "seed is -1, below 0"),
        ({"classes": 0}, "classes is 0, not from 1 to 100; try 20"),
        ({"classes": 101}, "classes is 101, not from 1 to 100; try 20"),
    ],
)
def test_values_out_of_range_are_refused(tmp_path, wrong, words):
    with pytest.raises(ValueError, match=words) as error:
        write_scenes(tmp_path / "set", **wrong)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_foreign_files_and_interruptions_leave_nothing_of_ours(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds no scenes data set"):
        write_scenes(tmp_path, images=5, size=64)

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path / "set", images=5, size=64, progress=stop)
    assert contents(tmp_path) == {"thesis.txt": b"mine"}


@pytest.mark.parametrize("module", ["scipy.ndimage", "contourpy"])
def test_a_missing_library_is_named_in_one_line(tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=r"install") as error:
        write_scenes(tmp_path / "set", images=5, size=64)
    assert "\n" not in str(error.value) and "contourpy" in str(error.value)
    assert not list(tmp_path.iterdir())
