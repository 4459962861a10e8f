"""The benchmark of known evidence: a map of the evidence scores 1, and a network that did not learn gives no scores."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from dualvit.drawn.cues import draw_cue
from dualvit.errors import InputError
from dualvit.explain import benchmark
from dualvit.explain.benchmark import MOMENTS, Learning, Trained, as_inputs, located, run
from dualvit.explain.methods import Method
from dualvit.explain.subject import Classifier

TINY = Learning(size=32, pictures=12, steps=2, batch=4)
FLAT = Method("flat", 1, lambda subject, view, found: torch.ones(4, 4))


def test_perfect_wrong_and_empty_maps():
    cued = draw_cue("planted", 0, "val", 3)
    evidence = torch.from_numpy(cued.evidence).float()
    assert located(evidence, cued) == {"pointing": 1.0, "energy": 1.0, "iou": 1.0}
    assert located(1 - evidence, cued) == {"pointing": 0.0, "energy": 0.0, "iou": 0.0}
    flat = located(torch.ones(64, 64), cued)
    assert flat["energy"] == pytest.approx(float(evidence.mean()))
    assert flat["iou"] < 0.1
    assert located(-evidence, cued)["energy"] == 0.0


def test_inputs_are_those_of_the_subject():
    subject = Classifier(torch.nn.Flatten(), ("a",), 64, moments=MOMENTS)
    image = draw_cue("colour", 0, "val", 0).image
    assert torch.allclose(subject.view(Image.fromarray(image)).images, as_inputs([image]), atol=1e-6)


def test_a_network_that_did_not_learn_gives_a_line_and_no_scores(tmp_path):
    told = []
    found = run([FLAT], tmp_path, ["planted"], 3, TINY, lambda done, total, what: told.append(what))
    assert found.scores == ()
    assert found.notes[0].startswith("planted: the network reached 0.")
    assert told == ["learning planted"] * 2
    run([FLAT], tmp_path, ["planted"], 3, TINY, lambda done, total, what: told.append(what))
    assert len(told) == 2  # the network in the folder was taken
    run([FLAT], tmp_path, ["planted"], 3, replace(TINY, seed=1), lambda done, total, what: told.append(what))
    assert len(told) == 4


def test_methods_are_scored_and_failures_are_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "controlled", lambda cue, *_: Trained(cue, 1.0, 0.3, 0.6, 0.04))

    def broken(*_):
        raise RuntimeError("no such layer")

    found = run([FLAT, Method("broken", 1, broken)], tmp_path, ["colour"], 9, TINY)
    assert found.notes == ("colour, broken: no such layer",)
    assert [(one.cue, one.method) for one in found.scores] == [("colour", "flat")]
    assert found.scores[0].energy.mean < 0.3
    assert (tmp_path / "benchmark.json").is_file()
    assert found.table().row_count == 4


def test_a_seed_repeats_the_network(tmp_path):
    one, two = (benchmark.learnt("occlusion", tmp_path / name, TINY, lambda *_: None) for name in "ab")
    again = benchmark.learnt("occlusion", tmp_path / "a", TINY, lambda *_: None)
    for other in (two, again):
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    assert not one.training
    assert not again.training


def test_bad_settings_are_refused(tmp_path):
    with pytest.raises(InputError, match="give 1 or more"):
        run([FLAT], tmp_path, pictures=0)
    with pytest.raises(InputError, match="planted, occlusion, colour"):
        run([FLAT], tmp_path, ["shadow"])
