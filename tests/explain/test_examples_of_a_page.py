"""Explanations of a few pictures for a page: of what is found, and a line instead of a failure."""

import pytest
import torch
from PIL import Image

import dualvit
from dualvit.explain.examples import examples
from dualvit.explain.subject import Classifier


@pytest.fixture
def files(tmp_path):
    for name in "abcd":
        Image.new("RGB", (64, 48), (90, 40, 200)).save(tmp_path / f"{name}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    return [tmp_path / f"{name}.png" for name in ("a", "broken", "b", "c", "d")]


def classifier():
    torch.manual_seed(0)
    network = dualvit.create_model("dualvit_n", num_classes=2).eval()
    network.head.bias.data[1] = 9.0
    return Classifier(network, ("cat", "dog"), 64)


def test_three_pictures_are_explained_and_a_broken_one_is_a_line(files):
    shown, lines = examples(lambda: classifier(), files)
    assert [caption.split(",")[0] for caption, _ in shown] == [f"{name}.png: dog 1.00" for name in "abc"]
    assert len(lines) == 1 and lines[0].startswith("broken.png is not explained: ")


def test_if_passes_take_long_the_map_is_one_of_a_single_pass(files, monkeypatch):
    monkeypatch.setattr("dualvit.explain.examples.BACK", 1e9)
    shown, lines = examples(classifier, files[:1])
    assert ["by layercam" in caption for caption, _ in shown] == [True] and not lines


def test_a_network_that_finds_nothing_or_fails_is_a_line(files):
    class Blind(Classifier):
        def found(self, answers, confidence=0.25):
            return []

    blind = Blind(classifier().network, ("cat", "dog"), 64)
    assert examples(lambda: blind, files[:1]) == ([], [
        "No explanations are shown: the network found nothing in the pictures that were asked about."
    ])  # fmt: skip

    def fails():
        raise RuntimeError("no memory")

    assert examples(fails, files) == ([], ["No explanations are shown: no memory"])
