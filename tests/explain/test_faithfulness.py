"""Methods over pictures: scores go on where they stopped, failures are lines, differences are paired."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from linear import BLOCK, SIZE, LinearDetector, bright_view, true_map
from PIL import Image
from rich.console import Console

from dualvit.errors import InputError, MissingFileError
from dualvit.explain.curves import Removal
from dualvit.explain.faithfulness import BoxScore, Journal, Measured, files_of, measure
from dualvit.explain.methods import Method

REMOVAL = Removal(steps=8)


class Camera(LinearDetector):
    """Sees a bright block in every picture; its name decides how bright the rest is."""

    def view(self, picture):
        values = torch.from_numpy(np.asarray(picture)).permute(2, 0, 1)[None].float() / 255
        return replace(bright_view(), images=values)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 30 + 10 * number, (SIZE, SIZE, 3), np.uint8)
        pixels[BLOCK] += 150
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def noise(subject, view, found):
    return torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def broken(subject, view, found):
    raise RuntimeError("no such\nlayer")


TRUE = Method("true", 1, lambda *_: true_map())
NOISE = Method("noise", 1, noise)


def test_the_true_map_wins_with_an_interval_that_leaves_zero_out(pictures):
    told = []
    found = measure(
        Camera(), files_of(pictures), [TRUE, NOISE], REMOVAL, progress=lambda done, total: told.append((done, total))
    )
    assert len(found.scores) == 12
    assert found.methods() == ["true", "noise"]
    assert told[-1] == (6, 100)
    assert len(found.skipped) == 1
    assert "broken.png" in found.skipped[0]
    gap = found.difference("true", "noise", "insertion")
    assert gap.clear
    assert gap.low > 0.2
    assert found.difference("true", "noise", "deletion").high < -0.2
    assert found.mean("true", "inside").mean == 1.0
    assert found.mean("noise", "inside").mean < 0.2


def test_a_method_that_fails_is_a_line_and_the_rest_goes_on(pictures):
    picky = Method(
        "picky", 1, lambda subject, view, found: true_map() if view.images.mean() < 0.12 else broken(0, 0, 0)
    )
    found = measure(Camera(), files_of(pictures), [Method("broken", 1, broken), picky, TRUE], REMOVAL)
    assert found.failures["broken"] == "on 1 of 6 objects: no such layer"
    assert found.failures["picky"].startswith("on ")
    assert found.methods() == ["picky", "true"]
    assert 0 < len(found.of("picky", "deletion")) < 6
    # Differences are over the objects that both have: here the maps are the same.
    assert found.difference("picky", "true", "deletion").mean == 0
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(found.table("title"))
    assert "no such layer" in console.export_text()


def test_scores_go_on_where_they_stopped(pictures, tmp_path):
    about, file, files = {"model": "a"}, tmp_path / "scores.jsonl", files_of(pictures)
    first = Camera()
    measure(first, files, [TRUE], REMOVAL, 3, Journal(file, about))
    with file.open("a") as unfinished:
        unfinished.write('{"picture": "3.png", "ind')  # killed while it wrote
    second = Camera()
    whole = measure(second, files, [TRUE], REMOVAL, 6, Journal(file, about))
    assert sum(second.network.batches) < 6 * REMOVAL.passes
    assert whole.scores == measure(Camera(), files, [TRUE], REMOVAL, 6, Journal(file, about)).scores
    without = [replace(one, seconds=0) for one in measure(Camera(), files, [TRUE], REMOVAL).scores]
    assert without == [replace(one, seconds=0) for one in whole.scores]
    with pytest.raises(InputError, match="other settings"):
        Journal(file, {"model": "b"})


def test_means_and_differences_by_hand():
    def one(picture, index, method, deletion):
        return BoxScore(picture, index, "block", 0.9, method, deletion, 0.5, 0.0, None, None, None, 7, 0.1)

    found = Measured((one("a", 0, "x", 0.2), one("a", 1, "x", 0.4), one("b", 0, "x", 0.9), one("a", 1, "y", 0.1)))
    assert found.mean("x", "deletion").mean == pytest.approx(0.5)
    assert found.mean("x", "inside") is None
    assert found.difference("x", "y", "deletion").mean == pytest.approx(0.3)
    summary = json.loads(json.dumps(found.summary()))
    assert (summary["boxes"], summary["pictures"]) == (3, 2)
    assert summary["methods"]["x"]["passes"] == 7
    assert summary["differences"][0]["method"] == "x"


def test_pictures_of_a_data_set(pictures, tmp_path):
    file = tmp_path / "data.yaml"
    file.write_text(f"train: {pictures}\nval: {pictures}\nnames: [block]\n")
    assert len(files_of(file)) == len(files_of(pictures)) == 7
    assert len(files_of(file, ("val", "train"))) == 14
    with pytest.raises(MissingFileError):
        files_of(tmp_path / "absent")
