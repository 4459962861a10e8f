"""Images of any size, empty batches and torch.fx, in each family, plain and fused."""

import pytest
import torch
from timm.models import get_notrace_functions, get_notrace_modules
from torch.fx import symbolic_trace
from torch.testing import assert_close
from torchvision.models.feature_extraction import create_feature_extractor

import dualvit
from dualvit.models.contract import pad_image

MAKERS = {"plain": lambda model: model, "fused": dualvit.fuse}
SHALLOW = {"depths": (1, 1, 1, 1)}


def filled_up(image, multiples):
    """The rule, written out: zeros below and to the right, up to the next multiple of any."""
    height, width = (min(-(-side // m) * m for m in multiples) for side in image.shape[2:])
    out = image.new_zeros(*image.shape[:2], height, width)
    out[:, :, : image.shape[2], : image.shape[3]] = image
    return out


@pytest.mark.parametrize(
    ("size", "filled"),
    [((67, 71), (96, 96)), ((33, 128), (64, 128)), ((100, 113), (112, 128)), ((337, 225), (352, 256))],
)
def test_images_are_filled_up_to_the_next_multiple(size, filled):
    image = torch.randn(2, 4, *size)
    padded = pad_image(image)
    assert tuple(padded.shape[2:]) == filled
    assert torch.equal(padded, filled_up(image, (32, 112)))
    assert tuple(pad_image(image, (32,)).shape[2:]) == tuple(-(-side // 32) * 32 for side in size)


@pytest.mark.parametrize("size", [(32, 32), (112, 448), (336, 224), (800, 1344)])
def test_sizes_that_the_stages_halve_stay_as_they_are(size):
    image = torch.empty(1, 3, *size)
    assert pad_image(image) is image


@pytest.mark.parametrize("kind", MAKERS)
@torch.no_grad()
def test_any_size_is_the_padded_image_cropped(each, kind):
    model, features = (MAKERS[kind](each(**SHALLOW, **options)) for options in ({}, {"features_only": True}))
    for size in ((67, 71), (100, 45)):
        image = torch.randn(1, 3, *size)
        whole = filled_up(image, model.multiples)
        assert torch.equal(model(image), model(whole))
        assert torch.equal(model.forward_features(image), model.forward_features(whole))
        for stride, out, padded in zip((4, 8, 16, 32), features(image), features(whole), strict=True):
            rows, columns = (-(-side // stride) for side in size)
            assert tuple(out.shape[2:]) == (rows, columns)
            assert torch.equal(out, padded[:, :, :rows, :columns])


def test_gradients_reach_each_pixel_of_an_odd_image(each):
    image = torch.randn(1, 3, 67, 71, requires_grad=True)
    each(**SHALLOW)(image).square().mean().backward()
    assert image.grad.isfinite().all()
    assert image.grad.abs().sum((0, 1)).min() > 0


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 3, 31, 64), "image size 31x64: sides must be at least 32 pixels"),
        ((2, 3, 67, 0), "image size 67x0: sides must be at least 32 pixels"),
        ((3, 64, 64), "image batch has 3 dimensions"),
    ],
)
def test_unusable_images_are_one_clear_line(paper, shape, words):
    with pytest.raises(ValueError, match=words) as error:
        paper()(torch.zeros(shape))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", MAKERS)
@torch.no_grad()
def test_an_empty_batch_gives_empty_answers(each, kind):
    model, features = (MAKERS[kind](each(**SHALLOW, **options)) for options in ({}, {"features_only": True}))
    for size in ((96, 64), (67, 71)):
        image = torch.randn(0, 3, *size)
        assert model(image).shape == (0, 10)
        maps = features(image)
        channels = features.feature_info.channels()
        shapes = [(0, dim, -(-size[0] // s), -(-size[1] // s)) for dim, s in zip(channels, (4, 8, 16, 32), strict=True)]
        assert [tuple(out.shape) for out in maps] == shapes


def close(one, other):
    assert_close(one, other, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_fx_takes_features_out(each):
    """Traced without options, as timm's pyramids are; one graph for all batches and sizes, with named nodes."""
    model = each(**SHALLOW)
    extractor = create_feature_extractor(model, {"stages.1.norm": "map", "head": "logits"})
    for shape in ((2, 3, 96, 64), (1, 3, 67, 71)):
        image = torch.randn(shape)
        found = extractor(image)
        features, (before,) = model.forward_intermediates(image, indices=[1], output_fmt="NHWC")
        close(found["map"][:, : before.shape[1], : before.shape[2]], before)
        close(found["logits"], model.head(model.forward_head(features, pre_logits=True)))


@torch.no_grad()
def test_fx_traces_fused_networks(each):
    model = dualvit.fuse(each(**SHALLOW))
    graph = symbolic_trace(model)
    for shape in ((2, 3, 96, 64), (1, 3, 67, 71)):
        image = torch.randn(shape)
        close(graph(image), model(image))


@torch.no_grad()
def test_fx_by_timms_lists_and_of_maps(paper, image):
    leaves = {"leaf_modules": list(get_notrace_modules()), "autowrap_functions": list(get_notrace_functions())}
    model, features, picture = paper(), paper(features_only=True), image(67, 71)
    traced = create_feature_extractor(model, {"stem.norm": "map"}, tracer_kwargs=leaves)
    assert torch.equal(traced(picture)["map"], model.stem(pad_image(picture)))
    for one, same in zip(symbolic_trace(features)(picture), features(picture), strict=True):
        assert torch.equal(one, same)
