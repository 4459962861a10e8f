"""Each mixer against a slow transcription of its equation, pixel by pixel, also where windows do not fit."""

import math
from dataclasses import replace

import pytest
import timm
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from dualvit.models.contract import BlockShape
from dualvit.models.mixers import DualMixer, RegionalMixer
from dualvit.models.mixers.block import MixerBlock
from dualvit.models.mixers.regional import RegionalBlock, RegionalSeed
from dualvit.models.mixers.windows import merge_windows, split_windows
from dualvit.models.registry import MIXERS, create_mixer

DIM, HEADS = 8, 2
SHAPE = BlockShape(0, 0, DIM, HEADS, 2 * DIM, drop_path=0.0, layer_scale=0.5)
SIZES = pytest.mark.parametrize("size", [(6, 9), (7, 5), (2, 3), (4, 4)])  # windows of 3 fit the first alone
OPTIONS = {
    "full": [{}],
    "reduction": [{"ratio": 1}, {"ratio": 3}, {"pool": True}],
    "local": [{"window": 3, "block": 0}, {"window": 3, "ratio": 2, "block": 1}],
    "regional": [{"window": 3}, {"window": 4, "layer_scale": 0.5}],
    "outlook": [{}, {"kernel": 5, "stride": 3}, {"stride": 1}],
    "dual": [{"layer_scale": 0.5}],
}
CASES = pytest.mark.parametrize(
    ("name", "options"), [(name, o) for name, all_of_it in OPTIONS.items() for o in all_of_it], ids=str
)


def build(name, **options):
    """A mixer with values everywhere, in double precision."""
    mixer = create_mixer(name, DIM, HEADS, **options).double().eval()
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return mixer


def inputs(name, size, options, batch=2):
    pixels = torch.randn(batch, *size, DIM, dtype=torch.float64)
    context = None
    if name == "dual":
        context = torch.randn(batch, 5, DIM, dtype=torch.float64)
    if name == "regional":
        grid = [-(-side // options["window"]) for side in size]
        context = torch.randn(batch, *grid, DIM, dtype=torch.float64)
    return pixels, context


# ---- the equations, one image and one query at a time


def linear(module, x):
    return x @ module.weight.T + (0 if module.bias is None else module.bias)


def norm(module, x, eps):
    return F.layer_norm(x, (DIM,), module.weight, module.bias, eps)


def attend(query, keys, values, bias=None):
    """One query (C), keys and values (N, C), and what is added to the scores (heads, N)."""
    out = []
    for head in range(HEADS):
        part = slice(head * DIM // HEADS, (head + 1) * DIM // HEADS)
        scores = torch.stack([query[part] @ key[part] for key in keys]) / math.sqrt(DIM // HEADS)
        if bias is not None:
            scores = scores + bias[head]
        out.append(sum(w * value[part] for w, value in zip(scores.softmax(0), values, strict=True)))
    return torch.cat(out)


def cross(module, queries, context):
    k, v = linear(module.kv, context).split(DIM, -1)
    out = torch.stack([attend(linear(module.q, query), k, v) for query in queries])
    return linear(module.proj, out) if hasattr(module.proj, "weight") else out


def slow_full(mixer, image):
    tokens = image.reshape(-1, DIM)
    return cross(mixer.attention, tokens, tokens).reshape(image.shape)


def slow_reduction(mixer, image):
    height, width, _ = image.shape
    cells = []
    if mixer.pool:
        for i in range(7):
            rows = range(i * height // 7, -(-(i + 1) * height // 7))
            for j in range(7):
                columns = range(j * width // 7, -(-(j + 1) * width // 7))
                mean = sum(image[y, x] for y in rows for x in columns) / (len(rows) * len(columns))
                cell = mixer.reduce.weight[:, :, 0, 0] @ mean + mixer.reduce.bias
                cells.append(F.gelu(norm(mixer.norm, cell, 1e-5)))
    elif mixer.ratio == 1:
        cells = list(image.reshape(-1, DIM))
    else:
        for top in range(0, height, mixer.ratio):
            for left in range(0, width, mixer.ratio):
                cell = mixer.reduce.bias
                for y in range(top, min(top + mixer.ratio, height)):
                    for x in range(left, min(left + mixer.ratio, width)):
                        cell = cell + mixer.reduce.weight[:, :, y - top, x - left] @ image[y, x]
                cells.append(norm(mixer.norm, cell, 1e-5))
    return cross(mixer.attention, image.reshape(-1, DIM), torch.stack(cells)).reshape(image.shape)


def slow_local(mixer, image):
    if not hasattr(mixer.attention, "window"):
        return slow_reduction(mixer.attention, image)
    window, out = mixer.attention.window, torch.empty_like(image)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            top, left = y // window * window, x // window * window
            mates = image[top : top + window, left : left + window].reshape(-1, DIM)
            qkv = mixer.attention.attention.qkv
            query = linear(qkv, image[y, x])[:DIM]
            keys, values = linear(qkv, mates)[:, DIM:].split(DIM, -1)
            out[y, x] = linear(mixer.attention.proj, attend(query, keys, values))
    return out


def slow_regional(mixer, image, regions):
    height, width, _ = image.shape
    window, qkv = mixer.window, mixer.attention.qkv
    scale0, scale1 = (getattr(s, "gamma", torch.ones(DIM, dtype=image.dtype)) for s in (mixer.scale0, mixer.scale1))
    tokens = regions.reshape(-1, DIM)
    q, k, v = linear(qkv, norm(mixer.norm0, tokens, 1e-6)).split(DIM, -1)
    steps = torch.stack([linear(mixer.proj, attend(query, k, v)) for query in q])
    tokens = (tokens + scale0 * steps).reshape(regions.shape)
    table = mixer.rel_pos.reshape(HEADS, 2 * window - 1, 2 * window - 1)
    out, new = torch.empty_like(image), torch.empty_like(regions)
    for row in range(regions.shape[0]):
        for column in range(regions.shape[1]):
            places = [
                (y, x)
                for y in range(row * window, min((row + 1) * window, height))
                for x in range(column * window, min((column + 1) * window, width))
            ]
            own = norm(mixer.norm1, tokens[row, column], 1e-6)
            q, k, v = linear(qkv, torch.stack([own, *(image[place] for place in places)])).split(DIM, -1)
            new[row, column] = tokens[row, column] + scale1 * linear(mixer.proj, attend(q[0], k, v))
            for number, (y, x) in enumerate(places):
                # Python's negative indices wrap around, as they do in the published code.
                offsets = [table[:, ky - y + window // 2, kx - x + window // 2] for ky, kx in places]
                bias = torch.stack([torch.zeros(HEADS, dtype=image.dtype), *offsets], 1)
                out[y, x] = linear(mixer.proj, attend(q[1 + number], k, v, bias))
    return out, new


def slow_outlook(mixer, image):
    height, width, _ = image.shape
    k, s, size = mixer.kernel, mixer.stride, DIM // HEADS
    total, values = torch.zeros_like(image), linear(mixer.value, image)
    for row in range(-(-height // s)):
        for column in range(-(-width // s)):
            centre = image[row * s : row * s + s, column * s : column * s + s].reshape(-1, DIM).mean(0)
            scores = linear(mixer.weights, centre).reshape(HEADS, k * k, k * k)
            around = [(row * s + i // k - k // 2, column * s + i % k - k // 2) for i in range(k * k)]
            inside = [0 <= y < height and 0 <= x < width for y, x in around]
            for head in range(HEADS):
                part = slice(head * size, (head + 1) * size)
                weights = (scores[head] / math.sqrt(size)).softmax(-1)
                for i, target in enumerate(around):
                    for j, source in enumerate(around):
                        if inside[i] and inside[j]:
                            total[target][part] += weights[i, j] * values[source][part]
    return linear(mixer.proj, total)


def slow_dual(mixer, image, semantics):
    pixels, update = image.reshape(-1, DIM), mixer.semantic_update
    q, k, v = linear(update.self_attention.qkv, norm(update.norm1, semantics, 1e-5)).split(DIM, -1)
    semantics = semantics + update.scale1.gamma * torch.stack([attend(query, k, v) for query in q])
    looked = cross(update.cross_attention, norm(update.norm2, semantics, 1e-5), pixels)
    semantics = semantics + update.scale2.gamma * looked
    hidden = linear(update.ffn.fc1, norm(update.norm3, semantics, 1e-5)).relu()
    semantics = semantics + update.scale3.gamma * linear(update.ffn.fc2, hidden)
    out = cross(mixer.attention, pixels, norm(mixer.semantic_norm, semantics, 1e-5))
    return out.reshape(image.shape), semantics


SLOW = {
    "full": slow_full,
    "reduction": slow_reduction,
    "local": slow_local,
    "regional": slow_regional,
    "outlook": slow_outlook,
    "dual": slow_dual,
}


@CASES
@SIZES
@torch.no_grad()
def test_mixer_is_its_equation(name, options, size):
    mixer = build(name, **options)
    pixels, context = inputs(name, size, options)
    update, after = mixer(pixels, context)
    for i, image in enumerate(pixels):
        if context is None:
            assert after is None
            assert_close(update[i], SLOW[name](mixer, image), rtol=1e-9, atol=1e-10)
        else:
            assert_close((update[i], after[i]), SLOW[name](mixer, image, context[i]), rtol=1e-9, atol=1e-10)


@CASES
@pytest.mark.parametrize("size", [(7, 5), (4, 4)])
def test_every_parameter_gets_a_gradient(name, options, size):
    mixer = build(name, **options)
    out = mixer(*inputs(name, size, options))
    sum(value.square().mean() for value in out if value is not None).backward()
    without = [n for n, p in mixer.named_parameters() if p.grad is None or not 0 < p.grad.norm() < math.inf]
    assert not without


def test_the_six_and_what_unknown_names_say():
    assert set(OPTIONS) == set(SLOW) == set(MIXERS)  # a new mixer has its options and its equation here
    assert MIXERS["dual"].mixer is DualMixer
    with pytest.raises(ValueError, match="unknown mixer 'regionl'; did you mean regional") as error:
        create_mixer("regionl", 64, 2)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=f"there are {', '.join(MIXERS)}"):
        create_mixer("zzz", 64, 2)


@pytest.mark.parametrize("name", ["full", "reduction", "local", "outlook"])
def test_what_carries_nothing_hands_its_context_on(name):
    pixels, token = torch.randn(1, 4, 4, DIM, dtype=torch.float64), torch.randn(1, 1, DIM)
    mixer = build(name)
    update, context = mixer(pixels, token)
    assert context is token
    assert torch.equal(update, mixer(pixels)[0])


def test_what_carries_something_says_what_is_missing():
    pixels = torch.randn(1, 8, 4, DIM, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"give \(B, 2, 1, C\)"):
        build("regional")(pixels)
    with pytest.raises(ValueError, match="1x1 regional tokens for 2x1 windows"):
        build("regional")(pixels, pixels[:, :1, :1])


# ---- windows


@pytest.mark.parametrize("size", [(6, 9), (7, 5), (1, 1)])
def test_windows_come_back_and_padding_is_known(size):
    pixels = torch.randn(2, *size, 4)
    tokens, valid = split_windows(pixels, 3)
    assert tokens.shape == (2 * -(-size[0] // 3) * -(-size[1] // 3), 9, 4)
    assert torch.equal(merge_windows(tokens, 3, pixels), pixels)
    if size == (6, 9):
        assert valid is None
    else:
        assert valid.shape == tokens.shape[:2]
        assert valid.sum() == 2 * size[0] * size[1]
        assert (tokens[~valid] == 0).all()
        assert (tokens[valid] != 0).all()


def test_a_padded_map_is_the_map():
    """A map that windows do not fit gives, in whole windows, what its cut to whole windows gives."""
    mixer = build("local", window=3, block=0)
    pixels = torch.randn(1, 8, 7, DIM, dtype=torch.float64)
    assert_close(mixer(pixels)[0][:, :6, :6], mixer(pixels[:, :6, :6])[0])


# ---- what timm has, to the last digit that float32 keeps


@pytest.mark.parametrize("linear_attn", [False, True])
def test_reduction_is_timms_pvt_v2(linear_attn):
    theirs = timm.models.pvt_v2.Attention(32, 2, sr_ratio=4, linear_attn=linear_attn).eval()
    ours = create_mixer("reduction", 32, 2, ratio=4, pool=linear_attn)
    names = {"q.": "attention.q.", "kv.": "attention.kv.", "proj.": "attention.proj.", "sr.": "reduce."}
    state = {}
    for name, value in theirs.state_dict().items():
        prefix = name.split(".")[0] + "."
        state[names.get(prefix, prefix) + name.split(".")[1]] = value
    ours.load_state_dict(state)
    pixels = torch.randn(2, 12, 20, 32)
    assert_close(ours(pixels)[0].flatten(1, 2), theirs(pixels.flatten(1, 2), [12, 20]), rtol=1e-4, atol=1e-5)


def test_local_is_timms_twins():
    theirs = timm.models.twins.LocallyGroupedAttn(32, 2, ws=7).eval()
    ours = create_mixer("local", 32, 2)
    state = theirs.state_dict()
    ours.attention.load_state_dict({k.replace("qkv", "attention.qkv"): v for k, v in state.items()})
    pixels = torch.randn(2, 14, 21, 32)
    assert_close(ours(pixels)[0].flatten(1, 2), theirs(pixels.flatten(1, 2), (14, 21)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 12), (7, 5)])
def test_outlook_is_timms_volo(size):
    theirs = timm.models.volo.OutlookAttention(32, 2, stride=2).eval()
    ours = create_mixer("outlook", 32, 2)
    names = {"v": "value", "attn": "weights", "proj": "proj"}
    ours.load_state_dict({f"{names[k.split('.')[0]]}.{k.split('.')[1]}": v for k, v in theirs.state_dict().items()})
    pixels = torch.randn(2, *size, 32)
    assert_close(ours(pixels)[0], theirs(pixels), rtol=1e-4, atol=1e-5)


# ---- blocks


def test_mixer_block_is_two_residuals():
    ffn = torch.nn.Linear(DIM, DIM)
    block = MixerBlock(SHAPE, create_mixer("full", DIM, HEADS), ffn).eval()
    torch.nn.init.normal_(block.norm2.weight)
    pixels = torch.randn(2, 3, 4, DIM)
    x = pixels + 0.5 * block.mixer(norm(block.norm1, pixels, 1e-6))[0]
    x = x + 0.5 * ffn(norm(block.norm2, x, 1e-6))
    assert_close(block(pixels, None)[0], x)


def test_regional_block_treats_both_kinds_of_token_alike():
    ffn = torch.nn.Linear(DIM, DIM)
    block = RegionalBlock(replace(SHAPE, layer_scale=None), ffn).eval()
    pixels, regions = torch.randn(2, 9, 14, DIM), torch.randn(2, 2, 2, DIM)
    update, r = block.mixer(norm(block.mixer.norm1, pixels, 1e-6), regions)
    expected = [x + ffn(norm(block.norm2, x, 1e-6)) for x in (pixels + update, r)]
    assert_close(block(pixels, regions), tuple(expected))
    assert isinstance(block.mixer, RegionalMixer)


@pytest.mark.parametrize(("size", "grid"), [((56, 84), (2, 3)), ((32, 57), (2, 3))])
def test_a_regional_token_is_a_linear_of_its_windows_image_pixels(size, grid):
    seed = RegionalSeed(3, 4)
    image = torch.randn(1, 3, *size)
    tokens = seed(image)
    assert tokens.shape == (1, *grid, 4)
    for row in range(grid[0]):
        for column in range(grid[1]):
            patch = image[0, :, 28 * row : 28 * row + 28, 28 * column : 28 * column + 28]
            kernel = seed.proj.weight[:, :, : patch.shape[1], : patch.shape[2]]
            expected = (kernel * patch).sum((1, 2, 3)) + seed.proj.bias
            assert_close(tokens[0, row, column], expected, rtol=1e-4, atol=1e-5)
