"""Token labelling: MixToken and the loss against a plain transcription, and label maps that follow the picture."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

pytest.importorskip("lightning", reason="needs dualvit[recipes]")

import dualvit
from dualvit.data.label_maps import LabelMaps, compact, crop, place, write_index, write_map
from dualvit.files import write_json
from dualvit.recipes.classify.config import ClassifyAugment
from dualvit.recipes.classify.task import Classify
from dualvit.recipes.classify.token_labels import mix, random_box, smoothed, token_logits, token_loss
from dualvit.recipes.classify.transforms import TrainTransform
from dualvit.recipes.run import load_recipe

WHOLE = torch.tensor([[0.0, 0.0, 1.0, 1.0]])


def plain_box(rows, columns, beta):
    """Token labelling's box, as its paper's code draws it."""
    ratio = np.sqrt(1.0 - np.random.beta(beta, beta))
    height, width = int(rows * ratio), int(columns * ratio)
    y, x = np.random.randint(rows), np.random.randint(columns)
    ends = np.clip([y - height // 2, y + height // 2], 0, rows), np.clip([x - width // 2, x + width // 2], 0, columns)
    return ends[0][0], ends[1][0], ends[0][1], ends[1][1]


def plain_forward(network, images, box):
    """A Dual-ViT's training pass step by step, one picture and one token at a time where something is mixed."""
    top, left, bottom, right = box
    pixels = network.stem(images)
    mixed = pixels.clone()
    for index in range(len(pixels)):
        for y in range(8 * top, 8 * bottom):
            for x in range(8 * left, 8 * right):
                mixed[index, y, x] = pixels[len(pixels) - 1 - index, y, x]
    pixels, semantics = mixed, network.seed(mixed)
    for stage in network.stages:
        pixels, semantics = stage(pixels, semantics)
    features = network.finish(pixels, semantics)
    tokens = network.aux_head(features[:, 1:])
    back = tokens.clone()
    for index in range(len(tokens)):
        for y in range(top, bottom):
            for x in range(left, right):
                back[index, y, x] = tokens[len(tokens) - 1 - index, y, x]
    return network.head(features[:, 0, 0]), back


def plain_loss(logits, tokens, box, target, maps):
    """Cross-entropies written out."""
    rows, columns = tokens.shape[1:3]
    own = 1 - (box[2] - box[0]) * (box[3] - box[1]) / (rows * columns)
    total = 0.0
    for index in range(len(logits)):
        label = own * target[index] + (1 - own) * target[len(logits) - 1 - index]
        total += -(label * F.log_softmax(logits[index], 0)).sum() / len(logits)
        for y in range(rows):
            for x in range(columns):
                part = -(maps[index, :, y, x] * F.log_softmax(tokens[index, y, x], 0)).sum()
                total += 0.5 * part / (len(logits) * rows * columns)
    return total


@pytest.mark.parametrize("seed", range(4))
def test_loss_and_gradients_are_those_of_the_transcription(seed):
    network = dualvit.create_model("dualvit_n", num_classes=5).train()
    images = torch.randn(4, 3, 128, 96)
    target = smoothed(torch.tensor([0, 3, 2, 4]), 5, 0.1)
    maps = torch.rand(4, 5, 4, 3).softmax(1)

    np.random.seed(seed)
    box = plain_box(4, 3, 1.0)
    expected = plain_loss(*plain_forward(network, images, box), box, target, maps)
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in network.named_parameters()}
    network.zero_grad()

    np.random.seed(seed)
    parts = token_loss(token_logits(network, images, 1.0), target, maps, 0.5, 1.0)
    loss = parts["class"] + parts["token"]
    loss.backward()
    assert torch.allclose(loss, expected, atol=1e-5)
    for name, parameter in network.named_parameters():
        assert torch.allclose(parameter.grad, gradients[name], atol=1e-5), name


def test_boxes_cover_the_share_that_beta_asks_for():
    np.random.seed(0)
    for seed in range(50):
        np.random.seed(seed)
        box = plain_box(7, 7, 1.0)
        np.random.seed(seed)
        assert random_box(7, 7, 1.0) == tuple(box)
    boxes = [random_box(7, 7, 1.0) for _ in range(200)]
    assert any(box[2] > box[0] and box[3] > box[1] for box in boxes)
    assert all(0 <= box[0] <= box[2] <= 7 and 0 <= box[1] <= box[3] <= 7 for box in boxes)
    assert random_box(7, 7, 0) == (0, 0, 0, 0)


def test_mixing_twice_is_no_mixing():
    maps = torch.randn(3, 16, 24, 2)
    mixed = mix(maps, (0, 1, 2, 3), 8)
    assert torch.equal(mixed[0, :16, 8:24], maps[2, :16, 8:24])
    assert torch.equal(mixed[0, :, :8], maps[0, :, :8])
    assert torch.equal(mix(mixed, (0, 1, 2, 3), 8), maps)


# ---- maps under crop and mirror


def checkerboard(rows, columns):
    """A map whose cells each have their own class."""
    count = rows * columns
    dense = F.one_hot(torch.arange(count), count).float().T.reshape(count, rows, columns)
    kept = compact(dense, 1)
    return kept["scores"][None], kept["classes"].long()[None], count


def best(targets):
    return targets[0].argmax(0).tolist()


def test_a_whole_map_is_itself():
    scores, classes, count = checkerboard(2, 3)
    targets = crop(scores, classes, WHOLE, torch.tensor([False]), count, (2, 3))
    assert best(targets) == [[0, 1, 2], [3, 4, 5]]
    assert torch.equal(targets[0].amax(0), torch.ones(2, 3))


def test_a_mirrored_map():
    scores, classes, count = checkerboard(2, 3)
    assert best(crop(scores, classes, WHOLE, torch.tensor([True]), count, (2, 3))) == [[2, 1, 0], [5, 4, 3]]


@pytest.mark.parametrize(("flipped", "expected"), [(False, [[6, 7], [10, 11]]), (True, [[7, 6], [11, 10]])])
def test_a_cropped_map(flipped, expected):
    """The quarter from the middle to the right, of rows 1 and 2 of 4."""
    scores, classes, count = checkerboard(4, 4)
    box = torch.tensor([[0.5, 0.25, 1.0, 0.75]])
    targets = crop(scores, classes, box, torch.tensor([flipped]), count, (2, 2))
    assert best(targets) == expected
    assert torch.equal(targets[0].amax(0), torch.ones(2, 2))


def test_a_finer_target_interpolates():
    """Between the centres of two cells, a quarter and three quarters of either."""
    scores, classes, _ = checkerboard(1, 2)
    targets = crop(scores, classes, WHOLE, torch.tensor([False]), 2, (1, 4))
    assert torch.allclose(targets[0, 1, 0], torch.tensor([0.0, 0.25, 0.75, 1.0]), atol=1e-6)
    assert torch.allclose(targets.sum(1), torch.ones(1, 1, 4))


def test_the_map_follows_the_picture():
    """Pictures of four colours with a class for each: after any crop and mirror, the map names the colours seen."""
    colours = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]])
    pixels = colours.reshape(2, 2, 3).repeat_interleave(120, 0).repeat_interleave(160, 1)
    image = Image.fromarray(pixels.numpy().astype(np.uint8))
    dense = F.one_hot(torch.arange(4), 4).float().T.reshape(4, 2, 2)
    dense = dense.repeat_interleave(30, 1).repeat_interleave(40, 2)
    kept = compact(dense, 4)
    augment = ClassifyAugment(crop_scale=0.3, flip=0.5, colour_jitter=0)
    transform = TrainTransform(augment, 64, (0.0,) * 3, (1.0,) * 3)
    flips = set()
    for _ in range(12):
        seen, view = transform(image)
        flips.add(view.flipped)
        box, flipped = torch.tensor([view.box]), torch.tensor([view.flipped])
        targets = crop(kept["scores"][None], kept["classes"].long()[None], box, flipped, 4, (64, 64))[0]
        shown = (seen.permute(1, 2, 0)[:, :, None] - colours / 255).abs().sum(-1).argmin(-1)
        assert (targets.argmax(0) == shown).float().mean() > 0.96  # all but the borders
    assert flips == {True, False}


# ---- files


def test_what_compact_leaves_out_is_shared():
    probabilities = torch.tensor([0.5, 0.25, 0.15, 0.1])[:, None, None]
    kept = compact(probabilities, 2)
    assert kept["classes"].flatten().tolist() == [0, 1] and kept["classes"].dtype == torch.int16
    assert kept["scores"].dtype == torch.float16
    targets = crop(kept["scores"][None], kept["classes"].long()[None], WHOLE, torch.tensor([False]), 4, (1, 1))
    assert torch.allclose(targets.flatten(), torch.tensor([2 / 3, 1 / 3, 0, 0]), atol=1e-3)
    assert compact(torch.rand(40_000, 1, 1), 2)["classes"].dtype == torch.int32


def test_maps_that_do_not_fit(tmp_path):
    file = tmp_path / "data" / "train" / "a" / "1.png"
    maps, root = tmp_path / "maps", tmp_path / "data"
    with pytest.raises(FileNotFoundError, match=r"no label maps in .*token-labels"):
        LabelMaps(maps, root, ("a", "b"))
    maps.mkdir()
    write_index(maps, ["a", "b", "c"], {})
    with pytest.raises(ValueError, match="have 3 classes and the data set 2"):
        LabelMaps(maps, root, ("a", "b"))
    found = LabelMaps(maps, root, ("a", "b", "c"))
    with pytest.raises(FileNotFoundError, match=r"no label map of .*1.png"):
        found.read(file)
    path = place(maps, root, file)
    write_map(path, compact(torch.rand(5, 2, 2), 5))
    with pytest.raises(ValueError, match="up to 4 of 3"):
        found.read(file)
    path.write_bytes(b"no map")
    with pytest.raises(ValueError, match="cannot read the label map"):
        found.read(file)


@pytest.mark.parametrize(("probability", "mixed"), [(0.0, 0), (0.5, None), (1.0, 20)])
def test_mixtoken_touches_as_many_batches_as_asked(probability, mixed, monkeypatch, tmp_path):
    """Counted by the beta that a batch's box is drawn with: 0 mixes nothing."""
    betas = []

    def logits(network, images, beta):
        betas.append(beta)
        return token_logits(network, images, beta)

    monkeypatch.setattr("dualvit.recipes.classify.task.token_logits", logits)
    changes = [f"token_labels.probability={probability}", "data.root=none", "token_labels.maps=none"]
    task = Classify(load_recipe("laptop-token-labels", changes), ("a", "b")).eval()
    maps = {
        "scores": torch.ones(2, 5, 4, 4), "classes": torch.zeros(2, 5, 4, 4).long(),
        "boxes": torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 2), "flipped": torch.zeros(2).bool(),
    }  # fmt: skip
    np.random.seed(0)
    for _ in range(20):
        task.loss((torch.randn(2, 3, 64, 64), torch.tensor([0, 1]), maps))
    found = sum(beta > 0 for beta in betas)
    assert 4 < found < 16 if mixed is None else found == mixed


def rows(*shape, dtype=torch.float16, value=0.5):
    return torch.full(shape, value, dtype=dtype)


HOSTILE_MAPS = {
    "NaN": (rows(2, 2, 2, value=float("nan")), rows(2, 2, 2, dtype=torch.int16, value=0)),
    "infinite": (rows(2, 2, 2, value=float("inf")), rows(2, 2, 2, dtype=torch.int16, value=0)),
    "below zero": (rows(2, 2, 2, value=-1.0), rows(2, 2, 2, dtype=torch.int16, value=0)),
    "above one": (rows(2, 2, 2, value=7.0), rows(2, 2, 2, dtype=torch.int16, value=0)),
    "whole scores": (rows(2, 2, 2, dtype=torch.int16, value=1), rows(2, 2, 2, dtype=torch.int16, value=0)),
    "broken classes": (rows(2, 2, 2), rows(2, 2, 2, dtype=torch.float32)),
    "a class below zero": (rows(2, 2, 2), rows(2, 2, 2, dtype=torch.int16, value=-1)),
    "a class too many": (rows(2, 2, 2), rows(2, 2, 2, dtype=torch.int16, value=3)),
    "more classes than there are": (rows(4, 2, 2), rows(4, 2, 2, dtype=torch.int16, value=0)),
    "other grids": (rows(2, 3, 2), rows(2, 3, 2, dtype=torch.int16, value=0)),
    "two grids": (rows(2, 2, 2), rows(2, 2, 3, dtype=torch.int16, value=0)),
    "flat": (rows(8), rows(8, dtype=torch.int16, value=0)),
    "four axes": (rows(1, 2, 2, 2), rows(1, 2, 2, 2, dtype=torch.int16, value=0)),
    "empty": (rows(2, 0, 2), rows(2, 0, 2, dtype=torch.int16, value=0)),
}


@pytest.mark.parametrize("name", HOSTILE_MAPS)
def test_a_map_that_is_none_is_one_line(tmp_path, name):
    names = ("a", "b", "c")
    (tmp_path / "maps").mkdir()
    write_index(tmp_path / "maps", names, {"shape": [2, 2, 2]})
    maps, picture = LabelMaps(tmp_path / "maps", tmp_path, names), tmp_path / "train/a/1.png"
    write_map(place(tmp_path / "maps", tmp_path, picture), {"scores": rows(2, 2, 2), "classes": rows(2, 2, 2).short()})
    assert maps.read(picture)[0].shape == (2, 2, 2)
    scores, classes = HOSTILE_MAPS[name]
    write_map(place(tmp_path / "maps", tmp_path, picture), {"scores": scores, "classes": classes})
    with pytest.raises(ValueError, match=r"1.png.safetensors does not fit: .*; make the label maps again") as error:
        maps.read(picture)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("index", [{}, {"classes": 3}, {"classes": [1]}, {"classes": ["a"], "shape": [0, 1, 1]}])
def test_an_index_that_is_none_is_one_line(tmp_path, index):
    write_json(tmp_path / "maps.json", index)
    with pytest.raises(ValueError, match=r"maps.json is not what .* wrote"):
        LabelMaps(tmp_path, tmp_path, ("a",))
