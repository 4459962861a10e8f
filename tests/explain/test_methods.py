"""Methods by name: what they cost is known before, and what they make fits the images."""

import pytest
import torch
from linear import FOUND, SIZE, LinearDetector, bright_view

from dualvit.errors import InputError
from dualvit.explain.drise import Masks
from dualvit.explain.methods import METHODS, Method, drise_method, methods_of


def test_the_passes_that_are_said_are_those_that_are_made():
    subject, view = LinearDetector(), bright_view()
    method = drise_method(Masks(count=45, batch=10))
    assert method.cost(subject, view) == 45
    assert method.map(subject, view, FOUND).shape == (SIZE, SIZE)
    assert sum(subject.network.batches) == 45
    counted = Method("counted", lambda subject, view: view.images.shape[2], lambda *_: torch.zeros(4, 4))
    assert counted.cost(subject, view) == SIZE


def test_maps_of_any_resolution_are_brought_to_the_images():
    values = Method("coarse", 1, lambda *_: torch.full((4, 8), 3.0)).map(LinearDetector(), bright_view(), FOUND)
    assert torch.equal(values, torch.full((SIZE, SIZE), 3.0))


@pytest.mark.parametrize("values", [torch.full((4, 4), float("nan")), torch.zeros(3)])
def test_what_is_no_map_is_refused(values):
    with pytest.raises(InputError, match="odd gave no finite map for block"):
        Method("odd", 1, lambda *_: values).map(LinearDetector(), bright_view(), FOUND)


def test_names():
    assert {"layercam", "eigencam", "drise"} <= set(METHODS)
    assert [one.name for one in methods_of(" drise,layercam,drise")] == ["drise", "layercam"]
    for names in ("gradcam", ""):
        with pytest.raises(InputError, match="give some of relevance, layercam, eigencam, drise"):
            methods_of(names)
