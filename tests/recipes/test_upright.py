"""A photograph that its EXIF block turns: every reader sees it upright, and its labels cover the same pixels."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("lightning", reason="needs dualvit[recipes]")

from dualvit.data.pictures import training_pictures
from dualvit.recipes import run
from dualvit.recipes.classify.data import Photos, in_order
from dualvit.recipes.config import kind, load_recipe, plain
from dualvit.recipes.loading import Skipped
from dualvit.recipes.pretrain.data import Views

RED = (220, 30, 30)
PLAIN = ("augment.flip=0", "augment.flip_vertical=0", "augment.colour_jitter=0")


def is_red(pixels):
    """Whether all pixels (3, N) are about red, which JPEG changes a little."""
    return np.abs(np.asarray(pixels, float).mean(-1) - RED).max() < 15


def pixels_of(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def data_of(recipe, root, *changes):
    settings = load_recipe(recipe, [f"data.root={root}", *changes])
    return kind(settings.task).DataType(settings, None)


def test_boxes_of_detection(case):
    data = data_of("laptop-detect", case("rotated-photographs"), *PLAIN)
    for samples in (data.train_data(), data.val_data()):
        for index in range(4):
            image, target = samples[index]
            assert image.shape == (3, 96, 64)
            assert target["boxes"].tolist() == [[32, 24, 48, 48]]
            assert is_red(image[:, 25:47, 33:47].flatten(1)) and not is_red(image[:, 24:48, 8:24].flatten(1))


def test_masks_of_segmentation(case):
    changes = ["data.short_side=64", "data.image_size=64", "data.stride=64"]
    data = data_of("laptop-semantic", case("rotated-with-upright-masks"), *changes)
    samples = data.val_data()
    for index in range(4):
        image, mask = samples[index]
        mean, std = (torch.tensor(values)[:, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        assert image.shape == (3, 96, 64) and mask.shape == (96, 64) and int(mask.sum()) == 24 * 16
        assert is_red((image[:, mask == 1] * std + mean) * 255)


def test_classes(case, tmp_path):
    """What training, `eval`, `probe`, `token-labels` and `pretrain` are shown."""
    folder = case("rotated-photographs") / "images"
    files = training_pictures(folder.parent)
    shown = [Photos(((file, 0),), pixels_of)[0][0] for file in files] + [Views(files, pixels_of)[0][0]]
    batches = in_order(tuple((file, 0) for file in files), pixels_of, 2, 0, Skipped(None, 0))
    shown += [image for images, _ in batches for image in images]
    assert len(shown) == 9
    for image in shown:
        assert image.shape == (3, 96, 64) and is_red(image[:, 25:47, 33:47].flatten(1))


def test_predictions_are_of_the_upright_picture(case, tmp_path):
    root = case("rotated-photographs")
    changes = ["data.root=x", "network.name=dualvit_n", "head.channels=16", "data.short_side=32", "data.long_side=48"]
    settings = load_recipe("laptop-detect", changes)
    task = kind(settings.task).TaskType(settings, ("a", "b"))
    held = {"recipe": plain(settings), "classes": ["a", "b"]}
    torch.save({"dualvit": held, "state_dict": task.state_dict()}, tmp_path / "best.ckpt")
    list(run.predict(tmp_path / "best.ckpt", [root / "images/val/p0.jpg"], tmp_path / "out"))
    row = json.loads((tmp_path / "out/predictions.json").read_text())["images"][0]
    assert (row["width"], row["height"]) == (64, 96)
    with Image.open(tmp_path / "out" / row["picture"]) as drawn:
        factor = drawn.width // 64
        assert drawn.size == (64 * factor, 96 * factor)
        middle = np.asarray(drawn)[36 * factor, 40 * factor]
        assert np.abs(middle.astype(int) - RED).max() < 25


def test_what_cannot_be_read_is_skipped_and_named(case, tmp_path):
    """A very large picture, and 16 bits of grey: the rest goes on."""
    data = data_of("laptop-detect", case("very-large-picture"))
    data.skipped = Skipped(tmp_path / "unreadable.txt", 1)
    assert sum(batch is not None and len(batch[0]) for batch in data.val_dataloader()) == 4
    assert data.skipped.lines()[0].endswith("the limit is 150000000; shrink it, or set DUALVIT_MAX_PIXELS=196000000")
    image = data_of("laptop-detect", case("sixteen-bit-grey")).val_data()[0][0]
    assert image[0, 0].tolist() == [value >> 8 for value in np.linspace(0, 65535, 96).astype(np.uint16).tolist()]


def test_names_of_skipped_files_may_be_no_text(tmp_path):
    skipped = Skipped(tmp_path / "unreadable.txt", 1)
    for _ in range(2):
        skipped.add("cannot read the picture caf\udce9.png: no format")
    assert skipped.lines() == ["cannot read the picture caf\\udce9.png: no format"]


def test_thin_pictures_are_named_in_training_and_their_middle_is_classified(tmp_path):
    from dualvit.recipes.classify.transforms import eval_transform

    thin = Image.new("RGB", (1, 20000))
    transform = eval_transform(224, 0.875, (0.5,) * 3, (0.5,) * 3)
    assert transform(thin).shape == (3, 224, 224)
    for folder in ("images/train", "images/val", "labels/train", "labels/val"):
        (tmp_path / folder).mkdir(parents=True)
    for split in ("train", "val"):
        thin.save(tmp_path / "images" / split / "thin.png")
        (tmp_path / "labels" / split / "thin.txt").write_text("0 0.5 0.5 1 1\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [a]\n")
    data = data_of("laptop-detect", tmp_path)
    with pytest.raises(
        ValueError, match=r"thin.png: it has 1x20000 pixels, and at data.long_side=\d+ its shorter side"
    ):
        data.val_data()[0]


def test_notes_of_what_is_left_out(case, tmp_path, capsys):
    root = case("mac-leftovers") / "images"
    for split in ("train", "val"):
        (root / split).rename(root / "a")
        (root / split).mkdir()
        (root / "a").rename(root / split / "a")
        (root / split / "b").symlink_to(Path("a"))
    (root / "train/a/raw.cr2").touch()
    data = data_of("laptop-classify", root)
    assert len(data.split.train) == len(data.split.val) == 8
    assert data.split.notes == (
        f"{root}/train/a: 1 file is no picture that can be read here, and is left out: 1 .cr2 (raw.cr2)",
        f"{root}/train/b: 1 file is no picture that can be read here, and is left out: 1 .cr2 (raw.cr2)",
    )
