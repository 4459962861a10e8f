"""RetinaNet and Mask R-CNN on our backbones and timm's: losses, gradients, empty images, weights."""

import pytest
import torch

pytest.importorskip("lightning", reason="needs `pip install dualvit[recipes]`")

import dualvit
from dualvit.recipes.run import load_recipe, prepare
from dualvit.weights.match import full_names

LAPTOPS = {"retinanet": "laptop-detect", "mask-rcnn": "laptop-masks"}


def made(detector, small, *changes):
    return prepare(load_recipe(LAPTOPS[detector], [*small, *changes]), None)


def batch_of(data, *indices):
    samples = data.train_data()
    return data.collate([samples[index] for index in indices])


@pytest.mark.parametrize("detector", LAPTOPS)
def test_each_parameter_gets_a_gradient(detector, small):
    task, data = made(detector, small)
    sum(task.loss(batch_of(data, 0, 1, 3)).values()).backward()
    assert [name for name, p in task.named_parameters() if p.grad is None] == []
    stale = [name for name, p in task.named_parameters() if not p.grad.abs().sum() > 0]
    # What a ReLU or an unchosen class may leave at zero for one batch is no weight of a whole layer.
    assert [name for name in stale if name.endswith("weight")] == []


@pytest.mark.parametrize("detector", LAPTOPS)
def test_images_without_objects_train_as_background(detector, small):
    task, data = made(detector, small)
    loss = sum(task.loss(batch_of(data, 2, 2)).values())
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in task.parameters())  # DDP waits for each of them


@pytest.mark.parametrize("name", ["resnet18", "swin_tiny_patch4_window7_224"])
def test_any_timm_backbone(name, small):
    options = "network.options={embed_dim: 24, depths: [1, 1, 1, 1]}" if "swin" in name else "network.options={}"
    task, data = made("mask-rcnn", small, f"network.name={name}", options)
    assert torch.isfinite(sum(task.loss(batch_of(data, 0, 1)).values()))


def test_backbone_begins_with_a_checkpoint(small, tmp_path):
    model = dualvit.create_model("dualvit_n")
    torch.save(model.state_dict(), tmp_path / "n.pth")
    task, _ = made("mask-rcnn", small, f"network.weights={tmp_path / 'n.pth'}")
    own, source = task.backbone().state_dict(), model.state_dict()
    names = full_names(task.backbone(), model)
    assert len(own) == len(names) > 200
    assert all(torch.equal(value, source[names[name]]) for name, value in own.items())


def test_layer_decay_knows_the_backbones_layers(small):
    task, _ = made("retinanet", small, "optimizer.layer_decay=0.5")
    scales = {id(p): group["lr_scale"] for group in task.configure_optimizers().param_groups for p in group["params"]}
    stem = next(task.network.feature_maps.body.parameters())
    head = next(task.network.model.head.parameters())
    assert scales[id(head)] == 1
    assert scales[id(stem)] < 0.1


@pytest.mark.parametrize("detector", LAPTOPS)
def test_labels_count_from_zero_in_and_out(detector, small):
    """torchvision's Mask R-CNN keeps 0 for the background, its RetinaNet does not; neither must show."""
    task, _ = made(detector, small)
    seen = []

    def inner(images, targets=None):
        seen.extend(targets or [])
        return [{"labels": target["labels"]} for target in seen]

    task.network.model.forward = inner
    task.network([torch.zeros(3, 64, 64)], [{"labels": torch.tensor([0, 1])}])
    assert seen[0]["labels"].tolist() == ([1, 2] if detector == "mask-rcnn" else [0, 1])
    assert task.network([torch.zeros(3, 64, 64)])[0]["labels"].tolist() == [0, 1]
