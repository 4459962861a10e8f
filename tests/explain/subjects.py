"""Small subjects of every kind, with new weights: YOLO, RetinaNet, Mask R-CNN and classifiers."""

from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

import dualvit
from dualvit.explain.subject import Classifier, Found


def classifier(name="dualvit_n"):
    torch.manual_seed(3)
    return Classifier(dualvit.create_model(name, num_classes=3), ("a", "b", "c"), 64)


def yolo(name="yolov8n.yaml"):
    from dualvit.yolo import YOLO
    from dualvit.yolo.explained import YoloClassifier, YoloDetector

    torch.manual_seed(0)
    model = YOLO(name)
    return YoloClassifier(model, 64) if model.task == "classify" else YoloDetector(model, 64)


def recipe_detector(detector):
    from dualvit.recipes.detect.network import Detector
    from dualvit.recipes.explained import RecipeDetector
    from dualvit.recipes.run import load_recipe

    torch.manual_seed(0)
    name = {"retinanet": "laptop-detect", "mask-rcnn": "laptop-masks"}[detector]
    head = "head={channels: 16, norm: group, anchor: 16, detections: 5, score: 0}"
    recipe = load_recipe(name, ["data.root=none", "data.short_side=64", "data.long_side=64", head])
    return RecipeDetector(SimpleNamespace(network=Detector(recipe, 2), classes=("a", "b"), recipe=recipe))


def picture(size=64):
    pixels = np.random.default_rng(0).integers(0, 60, (size, size, 3), np.uint8)
    pixels[20:40, 24:50] = (220, 120, 40)
    return Image.fromarray(pixels)


def seen(subject):
    """A picture as a subject sees it, and the surest object in it, however unsure."""
    view = subject.view(picture())
    with torch.no_grad():
        answers = subject.answers(subject.network(view.images))[0]
    found = subject.found(answers, 0.0)
    assert isinstance(found[0], Found)
    return view, found[0]
