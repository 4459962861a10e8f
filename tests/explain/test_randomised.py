"""Maps that depend on the weights change with them; an edge detector's do not, and the check says so."""

import copy

import pytest
import torch
from subjects import classifier, seen, yolo

from dualvit.errors import InputError
from dualvit.explain.methods import Method
from dualvit.explain.randomised import correlations, networks, randomised, relocated


def gradient(subject, view, found):
    images = view.images.clone().requires_grad_()
    subject.answers(subject.network(images))[0].logits[found.index, found.label].backward()
    return images.grad[0].abs().sum(0)


def edges(subject, view, found):
    return (view.images[0].sum(0).diff(dim=0).abs())[:, 1:]


def test_maps_of_weights_fall_and_maps_of_pixels_stay():
    subject = classifier()
    view, found = seen(subject)
    state = copy.deepcopy(subject.network.state_dict())
    cases = [("a", view, found), ("b", view, found)]
    one, two = (
        randomised(subject, cases, Method(method.__name__, 1, method), levels=3) for method in (gradient, edges)
    )
    assert one.falls
    assert not two.falls
    assert two.spearman[-1].mean == pytest.approx(1)
    assert one.shares == pytest.approx((1 / 3, 2 / 3, 1))
    assert one.plain()["falls"] is True
    assert all(torch.equal(value, state[name]) for name, value in subject.network.state_dict().items())


def test_weights_become_new_from_the_head_down():
    subject = classifier()
    before = dict(subject.network.named_parameters())
    changed = []
    for _, other in networks(subject, 4, seed=0):
        now = dict(other.network.named_parameters())
        changed.append({name for name in now if not torch.equal(now[name], before[name])})
    assert "head.weight" in changed[0]
    assert not any(name.startswith("stem") for name in changed[0])
    assert changed[0] < changed[1] < changed[2] < changed[3]
    assert any(name.startswith("stem") for name in changed[3])
    same = [other.network.head.weight.clone() for _, other in networks(subject, 1, seed=0)]
    assert torch.equal(same[0], next(networks(subject, 1, seed=0))[1].network.head.weight)


def test_a_box_is_asked_for_where_it_lies_now():
    subject = yolo()
    view, found = seen(subject)
    assert relocated(subject, view, found).index == found.index
    _, other = next(networks(subject, 1, seed=0))
    again = relocated(other, view, found)
    assert (again.box, again.label) == (found.box, found.label)


def test_correlations_and_failures():
    values = torch.arange(10.0)
    assert correlations(values, -values) == pytest.approx((-1, -1))
    assert correlations(values, torch.ones(10)) == (0.0, 0.0)
    subject = classifier()
    view, found = seen(subject)

    def broken(*_):
        raise RuntimeError("no such layer")

    result = randomised(subject, [("a", view, found)], Method("broken", 1, broken))
    assert (result.failure, result.spearman, result.falls) == ("no such layer", (), False)
    with pytest.raises(InputError, match="one or more"):
        randomised(subject, [], Method("broken", 1, broken))
