import importlib
import importlib.util
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dualvit.drawn import digits
from dualvit.drawn import scenes as drawing
from dualvit.drawn.digits import write_digits, write_single_digits
from dualvit.drawn.scenes import MIN_CONTRAST, Canvas, Sources, contrast, draw_scene, hull

MARKER = "dualvit-digits.json"
pytest.importorskip("sklearn", reason="the digits come with scikit-learn")


@pytest.fixture(scope="module")
def sources():
    return Sources()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_digits(tmp_path_factory.mktemp("digits") / "set", images=25, size=96)


@pytest.fixture(scope="module")
def scenes(sources):
    return [draw_scene(sources, 0, "train", index, 160) for index in range(30)]


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_seed_decides_every_byte(tmp_path):
    first, again, other = (
        contents(write_digits(tmp_path / name, images=6, size=64, seed=seed).parent)
        for name, seed in (("first", 3), ("again", 3), ("other", 4))
    )
    assert first == again
    assert first.keys() == other.keys()
    assert [name for name in first if first[name] == other[name]] == ["data.yaml"]


def test_a_scene_is_drawn_from_its_numbers_alone(sources, scenes):
    # A new Sources and another order of drawing change nothing.
    again = draw_scene(Sources(), 0, "train", 7, 160)
    np.testing.assert_array_equal(again.image, scenes[7].image)
    assert again.rows() == scenes[7].rows()
    for args in ((1, "train", 7, 160), (0, "val", 7, 160), (0, "train", 8, 160)):
        assert not np.array_equal(draw_scene(sources, *args).image, scenes[7].image)


def test_more_images_only_add_files(tmp_path):
    small = contents(write_digits(tmp_path / "small", images=10, size=64).parent)
    large = contents(write_digits(tmp_path / "large", images=14, size=64).parent)
    assert len(large) > len(small)
    assert {name: large[name] for name in small if name != MARKER} == {n: v for n, v in small.items() if n != MARKER}


def test_layout_and_counts(data):
    root = data.parent
    assert data.is_absolute()
    assert sorted(path.name for path in root.parent.iterdir()) == ["set"]  # nothing unfinished is left
    for split, count in (("train", 20), ("val", 5)):
        images = sorted(path.stem for path in (root / "images" / split).iterdir())
        assert images == [f"{index:05}" for index in range(count)]
        assert sorted(path.stem for path in (root / "labels" / split).iterdir()) == images
        each = [len(list((root / "classify" / split / str(digit)).glob("*.png"))) for digit in range(10)]
        assert each == [2 * count // 10] * 10
    with Image.open(root / "images/train/00000.jpg") as picture:
        assert picture.size == (96, 96) and picture.mode == "RGB"
    with Image.open(root / "classify/val/3/00003.png") as picture:
        assert picture.size == (64, 64) and picture.mode == "RGB"


def test_every_class_has_a_single_digit_even_in_the_smallest_set(tmp_path):
    root = write_digits(tmp_path / "set", images=5, size=64).parent
    for split in ("train", "val"):
        assert sorted(path.name for path in (root / "classify" / split).iterdir()) == [str(d) for d in range(10)]


def test_label_rows_are_classes_and_polygons_in_range(data):
    files = sorted((data.parent / "labels").rglob("*.txt"))
    assert len(files) == 25
    for file in files:
        rows = file.read_text().splitlines()
        assert 2 <= len(rows) <= 8
        for row in rows:
            digit, *values = row.split()
            assert int(digit) in range(10)
            assert len(values) % 2 == 0 and 3 <= len(values) // 2 <= 60
            assert all(0 <= float(value) <= 1 for value in values)


def test_polygons_surround_the_visible_pixels(scenes):
    for scene in scenes:
        for mask, row in zip(scene.masks, scene.rows(), strict=True):
            points = np.array(row.split()[1:], dtype=float).reshape(-1, 2) * 160
            rows, columns = np.nonzero(mask)
            np.testing.assert_allclose(points.min(0), [columns.min(), rows.min()], atol=1e-3)
            np.testing.assert_allclose(points.max(0), [columns.max() + 1, rows.max() + 1], atol=1e-3)
            # Inside a convex polygon is on the same side of every edge.
            edges = np.roll(points, -1, axis=0) - points
            x, y = columns + 0.5 - points[:, :1], rows + 0.5 - points[:, 1:]
            sides = edges[:, :1] * y - edges[:, 1:] * x
            assert (sides >= 0).all() or (sides <= 0).all()
            area = abs((points[:, 0] * np.roll(points[:, 1], -1) - points[:, 1] * np.roll(points[:, 0], -1)).sum()) / 2
            assert mask.sum() <= area + 1e-2


def test_visible_pixels_of_two_digits_never_coincide_and_sizes_vary(scenes):
    assert all(np.sum(scene.masks, axis=0).max() == 1 for scene in scenes)
    heights = [np.ptp(hull(mask)[:, 1]) for scene in scenes for mask in scene.masks]
    assert min(heights) < 20 and max(heights) > 55
    assert {digit for scene in scenes for digit in scene.classes} == set(range(10))
    counts = {len(scene.classes) for scene in scenes}
    assert min(counts) >= 2 and max(counts) <= 8 and len(counts) > 3


def test_the_mask_is_where_the_picture_changed(sources):
    rng = np.random.default_rng(0)
    painted = 0
    for number in range(10):
        canvas = Canvas(rng, 96)
        before = canvas.pixels.copy()
        glyph = drawing._glyph(rng, sources.draw(rng, "train", number), 50.0)
        if canvas.paint(glyph, number, 15, 10):
            painted += 1
            changed = np.abs(canvas.pixels - before).max(-1) > 8
            assert changed[canvas.masks[0]].mean() > 0.9
            assert (changed & ~canvas.masks[0]).sum() < 0.5 * canvas.masks[0].sum()  # the soft edge alone
    assert painted >= 8


def test_a_digit_that_would_hide_another_is_refused(sources):
    rng = np.random.default_rng(1)
    canvas = Canvas(rng, 96)
    glyph = drawing._glyph(rng, sources.draw(rng, "train", 0), 40.0)
    while not canvas.paint(glyph, 0, 20, 20):
        pass
    before = canvas.pixels.copy()
    assert not canvas.paint(glyph, 0, 20, 20)  # on the very same place
    assert not canvas.paint(glyph, 0, 90, 20)  # nearly all of it out of the picture
    assert canvas.classes == [0] and canvas.masks[0].sum() == canvas.areas[0]
    np.testing.assert_array_equal(canvas.pixels, before)


def test_colours_stand_out_or_the_place_is_refused(sources, monkeypatch):
    rng = np.random.default_rng(0)
    half = np.repeat(np.array([[128, 128, 128], [200, 30, 30]], dtype=np.float32), 25, axis=0)
    for _ in range(20):
        colour = drawing.striking_colour(rng, half)
        assert colour is not None and contrast(colour, half) >= MIN_CONTRAST
    black, white = np.zeros((1, 3), dtype=np.float32), np.full((1, 3), 255, dtype=np.float32)
    assert contrast(black[0], white) == pytest.approx(255, abs=0.1)
    monkeypatch.setattr(drawing, "MIN_CONTRAST", 1000.0)
    canvas = Canvas(rng, 96)
    before = canvas.pixels.copy()
    assert not canvas.paint(drawing._glyph(rng, sources.draw(rng, "val", 5), 40.0), 5, 20, 20)
    np.testing.assert_array_equal(canvas.pixels, before)


def test_a_digit_outside_the_picture_is_not_painted(sources):
    rng = np.random.default_rng(0)
    canvas = Canvas(rng, 96)
    glyph = drawing._glyph(rng, sources.draw(rng, "train", 3), 40.0)
    height, width = glyph.fill.shape
    for left, top in ((-width - 10, 10), (10, -height - 10), (106, 10), (10, 106)):
        assert not canvas.paint(glyph, 3, left, top)
    assert not canvas.masks


def test_train_and_val_share_no_source(sources):
    train, val = (np.concatenate(sources.indices[split]) for split in ("train", "val"))
    assert not set(train) & set(val)
    assert sorted([*train, *val]) == list(range(1797))
    shares = [len(v) / (len(v) + len(t)) for t, v in zip(sources.indices["train"], sources.indices["val"], strict=True)]
    assert all(abs(share - 0.2) < 0.01 for share in shares)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"images": 4}, "images is 4, below 5; ask for 5"),
        ({"size": 100}, "size is 100, not a multiple of 32.*; try 96"),
        ({"size": 32}, "size is 32, .*from 64 on; try 64"),
        ({"val_fraction": 1.0}, "val_fraction is 1.0, not between 0 and 1; try 0.2"),
        ({"seed": -1}, "seed is -1, below 0"),
    ],
)
def test_values_out_of_range_are_refused(tmp_path, wrong, words):
    with pytest.raises(ValueError, match=words) as error:
        write_digits(tmp_path / "set", **wrong)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_foreign_files_are_never_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"is not empty and holds no digits.*name another folder"):
        write_digits(tmp_path, images=5, size=64)
    with pytest.raises(ValueError, match="name another folder"):
        write_digits(tmp_path / "thesis.txt", images=5, size=64)
    assert contents(tmp_path) == {"thesis.txt": b"mine"}


def test_a_second_call_keeps_the_files(data, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in data.parent.rglob("*")}
    monkeypatch.setattr(digits, "Sources", None)  # nothing is drawn, nor is scikit-learn needed
    assert write_digits(data.parent, images=25, size=96) == data
    assert {path: path.stat().st_mtime_ns for path in data.parent.rglob("*")} == before


def test_other_settings_or_a_damaged_set_are_named(data, tmp_path):
    with pytest.raises(ValueError, match=r"other settings \(seed 0 instead of 1\); name another folder"):
        write_digits(data.parent, images=25, size=96, seed=1)
    shutil.copytree(data.parent, tmp_path / "set")
    (tmp_path / "set/labels/val/00002.txt").unlink()
    with pytest.raises(ValueError, match=r"is incomplete \(4 of 5 in images/val\); delete it"):
        write_digits(tmp_path / "set", images=25, size=96)
    (tmp_path / "set" / MARKER).write_text("{")
    with pytest.raises(ValueError, match="other settings"):
        write_digits(tmp_path / "set", images=25, size=96)


def test_an_empty_folder_is_filled_and_progress_told(tmp_path):
    calls = []
    root = tmp_path / "set"
    root.mkdir()
    write_digits(root, images=5, size=64, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 25) for done in range(1, 26)]  # five scenes, twice ten single digits


def test_single_digits_by_class(tmp_path):
    root = write_single_digits(tmp_path / "singles", images=60, seed=1)
    pictures = {split: sorted(root.glob(f"{split}/*/*.png")) for split in ("train", "val")}
    assert [len(pictures[split]) for split in ("train", "val")] == [45, 15]
    assert {file.parent.name for file in pictures["val"]} == {str(digit) for digit in range(10)}
    assert Image.open(pictures["train"][0]).size == (64, 64)
    assert all(int(file.stem) % 10 == int(file.parent.name) for split in pictures.values() for file in split)
    before = {file: file.stat().st_mtime_ns for file in root.rglob("*")}
    assert write_single_digits(root, images=60, seed=1) == root
    assert {file: file.stat().st_mtime_ns for file in root.rglob("*")} == before
    with pytest.raises(ValueError, match="digits of other settings"):
        write_single_digits(root, images=80, seed=1)
    with pytest.raises(ValueError, match="digits of other settings"):
        write_digits(root, images=60, seed=1)
    with pytest.raises(ValueError, match="images is 5, below 20"):
        write_single_digits(tmp_path / "few", images=5)


def test_an_interrupted_run_leaves_nothing(tmp_path):
    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_digits(tmp_path / "set", images=5, size=64, progress=stop)
    assert not list(tmp_path.iterdir())


def test_without_scikit_learn_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs scikit-learn; install dualvit\[data\]$"):
        write_digits(tmp_path / "set", images=5, size=64)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_ultralytics_reads_every_label(data, tmp_path, monkeypatch, task):
    if importlib.util.find_spec("ultralytics") is None:
        pytest.skip("the yolo extra is not installed")
    importlib.import_module("dualvit.yolo")  # first, because it keeps ultralytics offline
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    shutil.copytree(data.parent, tmp_path / "moved")  # it may be moved, and read from any folder
    monkeypatch.chdir(os.sep)
    found = check_det_dataset(str(tmp_path / "moved/data.yaml"))
    assert found["names"] == {digit: str(digit) for digit in range(10)}
    for split, count in (("train", 20), ("val", 5)):
        dataset = YOLODataset(img_path=found[split], data=found, task=task, imgsz=96, augment=False)
        cache = dataset.get_labels()
        assert len(dataset) == len(cache) == count
        report = np.load(tmp_path / f"moved/labels/{split}.cache", allow_pickle=True).item()
        assert report["results"] == (count, 0, 0, 0, count)  # found, missing, empty, corrupt, total
        for label in cache:
            file = tmp_path / "moved/labels" / split / f"{Path(label['im_file']).stem}.txt"
            rows = file.read_text().splitlines()
            assert label["cls"].ravel().tolist() == [float(row.split()[0]) for row in rows]
            for (x, y, width, height), row in zip(label["bboxes"], rows, strict=True):
                points = np.array(row.split()[1:], dtype=float).reshape(-1, 2)
                np.testing.assert_allclose([x, y], (points.min(0) + points.max(0)) / 2, atol=1e-5)
                np.testing.assert_allclose([width, height], np.ptp(points, axis=0), atol=1e-5)
        if task == "segment":
            assert all(len(label["segments"]) == len(label["cls"]) for label in cache)
