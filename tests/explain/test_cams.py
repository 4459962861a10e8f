"""LayerCAM and EigenCAM of grad-cam, for the logit of a box or class of every kind of network here."""

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("pytorch_grad_cam", reason="needs dualvit[explain]")

from subjects import classifier, recipe_detector, seen, yolo

from dualvit.errors import InputError
from dualvit.explain.cams import Number, eigen_cam, layer_cam, tapped
from dualvit.explain.subject import Classifier, Found, View, target_of

MAKERS = {
    "dualvit_n": lambda: classifier(),
    "resnet18": lambda: classifier("resnet18"),
    "yolov8n": lambda: yolo(),
    "yolov8n-dualvit": lambda: yolo("yolov8n-dualvit.yaml"),
    "yolo26n": lambda: yolo("yolo26n.yaml"),
    "yolov8n-cls": lambda: yolo("yolov8n-cls.yaml"),
    "retinanet": lambda: recipe_detector("retinanet"),
    "mask-rcnn": lambda: recipe_detector("mask-rcnn"),
}
MAPS = {"dualvit_n": 1, "resnet18": 1, "yolov8n-cls": 1}  # and 3 of the detectors


@pytest.mark.parametrize("name", MAKERS)
def test_every_kind_of_network_has_maps(name):
    subject = MAKERS[name]()
    view, found = seen(subject)
    before = subject.network(view.images)
    size = tuple(view.images.shape[2:])
    for method in (layer_cam, eigen_cam):
        values = method(subject, view, found)
        assert values.shape == size
        assert torch.isfinite(values).all()
        assert float(values.min()) >= 0
        assert float(values.max()) > 0
    with tapped(subject.network) as taps:
        assert len(taps) == MAPS.get(name, 3)
        inside = subject.network(view.images)
    assert all(parameter.grad is None for parameter in subject.network.parameters())
    # Neither taps nor methods change the network's answers, and nothing of them is left.
    for outputs in (inside, subject.network(view.images)):
        one, two = (subject.answers(some)[0].scores for some in (outputs, before))
        assert torch.equal(one, two)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in subject.network.modules())


def test_maps_are_those_of_the_package():
    from pytorch_grad_cam import EigenCAM, LayerCAM

    subject = classifier("resnet18")
    view, found = seen(subject)
    number = Number(subject.network, target_of(subject, found))
    for kind, method in ((LayerCAM, layer_cam), (EigenCAM, eigen_cam)):
        with kind(Rows(number), [subject.network.layer4]) as cam:
            theirs = cam(view.images.clone().requires_grad_(), [lambda output: output])[0]
        ours = method(subject, view, found).numpy()
        assert np.corrcoef(theirs.ravel(), ours.ravel())[0, 1] > 0.98  # they enlarge by another filter


class Rows(nn.Module):
    """The package asks for rows of outputs."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def forward(self, images):
        return self.number(images)[None]


class Mean(nn.Module):
    """A network of one map, whose logit is a weighted mean of it."""

    num_classes = 1
    feature_info = [{"module": "pool", "num_chs": 3, "reduction": 4}]  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.pool = nn.AvgPool2d(4)
        self.weights = nn.Parameter(torch.tensor([2.0, 0.0, -1.0]))

    def forward(self, images):
        return (self.pool(images).mean((2, 3)) * self.weights).sum(1, keepdim=True)


def test_the_raw_scale_is_that_of_the_logit():
    subject = Classifier(Mean(), ("only",), 32, moments=((0.0,) * 3, (1.0,) * 3))
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    values = layer_cam(subject, View(images, (0, 0, 32, 32), (32, 32)), Found(0, "only", 1.0, 0))
    # The gradient of the first channel alone is above 0, so the evidence adds up to what that channel gives.
    assert float(values.sum()) == pytest.approx(2 * float(images[:, 0].mean()), rel=0.02)


def test_a_network_without_maps_is_refused():
    subject = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), ("a", "b"), 2, moments=((0.0,), (1.0,)))
    view = View(torch.rand(1, 3, 2, 2), (0, 0, 2, 2), (2, 2))
    with pytest.raises(InputError, match="take another method"):
        layer_cam(subject, view, Found(0, "a", 1.0, 0))
