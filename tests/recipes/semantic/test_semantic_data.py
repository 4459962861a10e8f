"""Masks move with their images; mistakes in the data are one line; unreadable files are skipped and listed."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

pytest.importorskip("lightning", reason="recipes need Lightning")

from dualvit.recipes.run import kind, load_recipe, prepare
from dualvit.recipes.semantic.config import SemanticAugment, SemanticSettings
from dualvit.recipes.semantic.data import TrainingTransform, ValidationTransform


def test_the_mask_follows_the_image():
    """A picture whose grey is 40 times its class stays that under scale, crop and mirror, but for blurred edges."""
    classes = torch.arange(6).repeat_interleave(16)[None].expand(64, -1)
    augment = SemanticAugment(distort=False, largest_share=1.0, scale=(0.5, 2.0))
    transform = TrainingTransform(SemanticSettings(image_size=64, short_side=64), augment)
    for seed in range(8):
        torch.manual_seed(seed)
        image = tv_tensors.Image((classes * 40).to(torch.uint8)[None].repeat(3, 1, 1))
        pixels, mask = transform(image, tv_tensors.Mask(classes.clone()))
        assert pixels.shape == (3, 64, 64) and mask.shape == (64, 64) and mask.dtype == torch.int64
        grey = (pixels[0] * 0.229 + 0.485) * 255
        inside = mask != 255
        near = (grey[inside] - 40 * mask[inside]).abs() < 21
        assert near.float().mean() > 0.95
        assert set(mask.unique().tolist()) <= {0, 1, 2, 3, 4, 5, 255}


def test_crops_of_one_class_are_drawn_anew():
    """One corner differs; plain crops seldom show it, drawn anew they do more often."""
    mask = torch.zeros(128, 128, dtype=torch.long)
    mask[:40, :40] = 1
    image = tv_tensors.Image(torch.zeros(3, 128, 128, dtype=torch.uint8))
    found = {}
    for share in (1.0, 0.9):
        transform = TrainingTransform(
            SemanticSettings(image_size=64, short_side=128), SemanticAugment(scale=(1, 1), largest_share=share)
        )
        torch.manual_seed(0)
        found[share] = sum(int((transform(image, tv_tensors.Mask(mask))[1] == 1).any()) for _ in range(40))
    assert found[0.9] > found[1.0] + 5


def test_validation_keeps_the_mask():
    image, mask = tv_tensors.Image(torch.zeros(3, 40, 80, dtype=torch.uint8)), torch.zeros(40, 80, dtype=torch.long)
    pixels, same = ValidationTransform(SemanticSettings(image_size=64, short_side=64))(image, tv_tensors.Mask(mask))
    assert pixels.shape == (3, 64, 128) and same.shape == (40, 80)


def batches(small, out=None, split="train"):
    data = prepare(load_recipe("ade20k-upernet-s", small), out)[1]
    return list(data.train_dataloader() if split == "train" else data.val_dataloader())


def test_batches(small):
    images, masks = batches(small)[0]
    assert [tuple(image.shape) for image in images] == [(3, 64, 64)] * 2
    assert all(set(mask.unique().tolist()) <= {0, 1, 2, 255} for mask in masks)
    images, masks = batches(small, split="val")[0]
    assert images[0].shape == (3, 64, 85) and masks[0].shape == (72, 96)


def test_an_unreadable_image_is_skipped_and_listed(small, tiny_ade20k, tmp_path):
    (tiny_ade20k / "images/training/3.png").write_bytes(b"no picture")
    assert len(batches(small, tmp_path)) == 10
    assert "cannot read the picture" in (tmp_path / "unreadable.txt").read_text()
    with pytest.raises(ValueError, match=r"data.unreadable allows 0"):
        batches([*small, "data.unreadable=0"], tmp_path / "ade")


def test_masks_that_do_not_fit(small, tiny_ade20k, tmp_path):
    mask = tiny_ade20k / "annotations/training/3.png"
    Image.fromarray(np.zeros((5, 7), np.uint8)).save(mask)
    assert len(batches(small, tmp_path)) == 10
    assert "3.png is 7x5, and its image 96x72" in (tmp_path / "unreadable.txt").read_text()
    Image.fromarray(np.full((72, 96), 9, np.uint8)).save(mask)
    with pytest.raises(ValueError, match="has index 9, and the 3 classes are 1 to 3"):
        batches(small)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("data.stride=65", "stride 65 leaves gaps"),
        ("augment.scale=[2, 1]", "scale goes from 2 down to 1"),
        ("data.ignore_index=1", "data.ignore_index is 1, which is class 'sky'"),
        ("data.classes=[a, b]", "has index 3, and the 2 classes are 1 to 2"),
    ],
)
def test_mistakes_in_settings(small, change, words):
    with pytest.raises(ValueError, match=words):
        batches([*small, change])


def test_nuclei_as_masks(shared):
    recipe = load_recipe("laptop-semantic", [f"data.root={shared / 'data/nuclei'}"])
    data = kind("semantic").DataType(recipe, None)
    assert data.classes == ("background", "nucleus")
    shares = [float((data.val_data()[index][1] == 1).float().mean()) for index in range(0, 72, 12)]
    assert 0.01 < sum(shares) / len(shares) < 0.5


def test_no_polygon_in_any_image_stops_the_run(tmp_path):
    """Such as where `train` leads to another place than the labels."""
    for split in ("train", "val"):
        (tmp_path / "images" / split).mkdir(parents=True)
        (tmp_path / "labels" / split).mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(tmp_path / "images" / split / "a.png")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cell]\n")
    (tmp_path / "labels/val/a.txt").write_text("0 0.1 0.1 0.9 0.1 0.9 0.9\n")
    (tmp_path / "labels/train/a.txt").write_text("\n")
    data = kind("semantic").DataType(load_recipe("laptop-semantic", [f"data.root={tmp_path}"]), None)
    assert len(data.val_data()) == 1
    with pytest.raises(ValueError, match=r"none of its 1 images to train on has an object: .*labels/train/a\.txt"):
        data.train_data()
