"""Who reads where, head by head, as numbers and as a picture."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from subjects import classifier, picture

from dualvit.explain import Wanted
from dualvit.explain.attention import attention_of
from dualvit.explain.reads import largest_regions, name_of, reads_arrays, reads_picture
from dualvit.explain.regions import regions
from dualvit.explain.run import Source, run
from dualvit_cli import main


@pytest.fixture(scope="module")
def subject():
    return classifier()


@pytest.fixture(scope="module")
def seen(subject):
    view = subject.view(Image.fromarray(np.asarray(picture())))
    return view, attention_of(subject.network, view.images)


def test_arrays_hold_each_attention_of_each_head(seen):
    _, attentions = seen
    arrays = reads_arrays(attentions)
    assert len(arrays) == len(attentions) and arrays["stage0-block0-reads"].shape[1:] == (16, 16, 16)
    for one in attentions:
        array = arrays[name_of(one)].astype(np.float32)
        assert array.shape[0] == one.queries.shape[1] and np.abs(array - one.maps()[0].numpy()).max() < 1e-3
        over = (2, 3) if name_of(one).endswith("reads") else 1
        assert array.sum(over) == pytest.approx(1, abs=0.02)


def test_the_largest_regions_come_first(seen):
    _, attentions = seen
    pixels = torch.bincount(regions(attentions, 0).flatten()).tolist()
    tokens = largest_regions(attentions, 0, 3)
    assert [pixels[token] for token in tokens] == sorted(filter(None, pixels), reverse=True)[:3]


def test_a_picture_has_two_rows_per_block_and_head(seen):
    view, attentions = seen
    for stage in (0, 3):
        drawn = reads_picture(Image.new("RGB", (64, 64)), view, attentions, stage)
        columns = len(largest_regions(attentions, stage))
        rows = sum(one.queries.shape[1] for one in attentions if one.stage == stage)
        assert drawn.width == columns * 220 + (columns - 1) * 12 and drawn.height == rows * 250 + (rows - 1) * 12


def test_the_command_writes_it_beside_the_sheet_and_over_nothing(subject, tmp_path):
    picture().save(tmp_path / "a.png")
    wanted = Wanted("layercam", label="a")
    for name in ("a", "a-attention"):
        picture().save(tmp_path / f"{name}.png")

    def again(attention=True):
        return run(subject, Source(tmp_path), tmp_path, wanted, {}, lambda line: None, attention=attention)

    done = again()
    assert [file.name for file in done.written] == ["a-attention-2.png", "a-2.png"]
    assert Image.open(tmp_path / "a-attention.png").size == (64, 64)  # the picture itself
    assert Image.open(tmp_path / "a-2-attention.png").width > 220
    assert "stage3-block0-read" in np.load(tmp_path / "a-2.npz")
    assert json.loads((tmp_path / "a-2.json").read_text())["settings"]["attention"] is True
    assert not again().written and not again().failed
    assert len(again(attention=False).written) == 2  # another wish, and so further files


def test_the_benchmark_has_no_attention_to_write(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["dualvit", "explain", "--benchmark", "--attention"])
    with pytest.raises(SystemExit):
        main()
    assert "leave --attention out" in capsys.readouterr().err
