"""Scenes of cut-outs: masks are those of the alpha channel, scenes depend on numbers and pictures alone."""

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dualvit.drawn.cutouts import Pictures, draw_cutouts, write_cutouts
from dualvit.drawn.scenes import MIN_VISIBLE
from dualvit.errors import InputError, MissingFileError

ndimage = pytest.importorskip("scipy.ndimage", reason="the largest visible parts come from SciPy")
pytest.importorskip("contourpy", reason="the outlines come from contourpy")
SIZE = 128
GREEN = (10, 240, 10)


def cutout(path, colour, side=60):
    """Draw a disc of one colour with an empty border."""
    image = Image.new("RGBA", (side, side))
    ImageDraw.Draw(image).ellipse((8, 8, side - 9, side - 9), fill=(*colour, 255))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    for name, colour in (("apple", (230, 20, 20)), ("leaf", GREEN)):
        for number in range(6):
            cutout(root / f"cutouts/{name}/sub/{number}.png", colour, 50 + 5 * number)
    (root / "backgrounds").mkdir()
    for number in range(6):
        Image.new("RGB", (200, 150), (30, 30, 120 + 20 * number)).save(root / f"backgrounds/{number}.png")
    return root


@pytest.fixture(scope="module")
def pictures(folders):
    return Pictures.read(folders / "cutouts", folders / "backgrounds")


@pytest.fixture(scope="module")
def scenes(pictures):
    return [draw_cutouts(pictures, 0, "train", index, SIZE) for index in range(16)]


def test_classes_are_folders_and_a_fifth_is_for_validation(pictures):
    assert pictures.names == ("apple", "leaf")
    assert [len(files) for files in pictures.cutouts] == [6, 6] and len(pictures.backgrounds) == 6
    seen = {split: set() for split in ("train", "val")}
    for split, images in seen.items():
        rng = np.random.default_rng(0)
        images |= {pictures.cutout(rng, split, 0).size for _ in range(60)}
    assert len(seen["train"]) == 4 and len(seen["val"]) == 2 and not seen["train"] & seen["val"]


def test_masks_are_the_discs_that_were_pasted(scenes):
    for scene in scenes:
        assert 1 <= len(scene.classes) == len(scene.masks) <= 8
        assert np.sum(scene.masks, axis=0).max() == 1
        for label, mask in zip(scene.classes, scene.masks, strict=True):
            assert ndimage.label(mask)[1] == 1
            inside = ndimage.binary_erosion(mask, iterations=2)
            if inside.sum() < 30:
                continue
            red, green, blue = scene.image[inside].astype(float).mean(0)
            assert (red > green and red > blue) if label == 0 else (green > red and green > blue)


def test_a_disc_in_the_open_has_a_round_mask(scenes):
    rounds = []
    for scene in scenes:
        for mask in scene.masks:
            rows, columns = np.nonzero(mask)
            box = np.array([np.ptp(rows) + 1, np.ptp(columns) + 1])
            if rows.min() > 0 and columns.min() > 0 and max(rows.max(), columns.max()) < SIZE - 1:
                rounds.append(len(rows) / box.prod())
    assert len(rounds) > 5 and np.median(rounds) == pytest.approx(np.pi / 4, abs=0.04)
    assert min(rounds) > 0.9 * MIN_VISIBLE * np.pi / 4


def test_a_scene_is_made_from_its_numbers_alone(pictures, scenes):
    again = draw_cutouts(pictures, 0, "train", 5, SIZE)
    np.testing.assert_array_equal(again.image, scenes[5].image)
    assert again.rows() == scenes[5].rows()
    for seed, split, index in ((1, "train", 5), (0, "val", 5), (0, "train", 6)):
        assert not np.array_equal(draw_cutouts(pictures, seed, split, index, SIZE).image, scenes[5].image)


def test_a_set_has_labels_for_each_scene_and_stays_with_the_same_pictures(pictures, tmp_path):
    data = write_cutouts(tmp_path / "set", pictures, images=6, size=64)
    root = data.parent
    assert data.read_text().endswith("names:\n  0: 'apple'\n  1: 'leaf'\n")
    folders = [f"{kind}/{split}" for kind in ("images", "labels") for split in ("train", "val")]
    assert [len(list((root / folder).iterdir())) for folder in folders] == [5, 1, 5, 1]
    for file in root.glob("labels/*/*.txt"):
        for row in file.read_text().splitlines():
            label, *corners = row.split()
            assert label in ("0", "1") and len(corners) >= 6 and len(corners) % 2 == 0
            assert all(0 <= float(value) <= 1 for value in corners)
    marker = json.loads((root / "dualvit-cutouts.json").read_text())
    assert marker["pictures"] == pictures.digest() and marker["images"] == 6
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    write_cutouts(root, pictures, images=6, size=64)
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    with pytest.raises(InputError, match=r"holds cutouts of other settings \(images 6 instead of 7\)"):
        write_cutouts(root, pictures, images=7, size=64)


def test_opaque_pictures_are_left_out_with_a_line(folders, tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "plain.png")
    cut = tmp_path / "cutouts/apple"
    cutout(cut / "0.png", GREEN)
    Image.new("RGB", (40, 40)).save(cut / "plain.png")
    notes = []
    read = Pictures.read(tmp_path / "cutouts", folders / "backgrounds", notes)
    assert [len(files) for files in read.cutouts] == [1]
    assert notes == [f"1 pictures without transparent pixels left out, the first one {cut / 'plain.png'}"]


def test_mistakes_are_one_line(folders, tmp_path):
    with pytest.raises(MissingFileError, match=r"no folder .*absent; give one with pictures"):
        Pictures.read(tmp_path / "absent", folders / "backgrounds")
    with pytest.raises(InputError, match="has no cut-outs; give a folder per class"):
        Pictures.read(tmp_path, folders / "backgrounds")
    with pytest.raises(InputError, match="has no pictures; give a folder of photographs"):
        Pictures.read(folders / "cutouts", tmp_path)
    cut = tmp_path / "empty/apple/0.png"
    cut.parent.mkdir(parents=True)
    Image.new("RGBA", (40, 40)).save(cut)
    empty = Pictures.read(tmp_path / "empty", folders / "backgrounds")
    with pytest.raises(InputError, match="is transparent all over; remove it"):
        draw_cutouts(empty, 0, "train", 0, 64)
