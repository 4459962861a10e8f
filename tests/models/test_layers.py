"""Stem, downsampling and feed-forward networks: transcriptions, sizes, and no copy between layouts."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from dualvit.models.dual_vit import ConvFFN, Downsample, Stem, TokenFFN


def randomise(module):
    """Give every parameter and statistic a value that shows whether it is used."""
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5) if "var" in name else tensor.normal_(std=0.3)
    return module.eval()


@pytest.mark.parametrize(("kernel", "depth", "convs"), [(7, 2, 4), (3, 0, 2)])
def test_stem_is_convolutions_with_norm_and_relu(kernel, depth, convs):
    stem = randomise(Stem(3, 8, 16, kernel, depth))
    image = torch.randn(2, 3, 64, 32)
    x, layers = image, list(stem.conv)
    for conv, norm, _ in zip(layers[::3], layers[1::3], layers[2::3], strict=True):
        assert conv.bias is None
        x = F.conv2d(x, conv.weight, stride=conv.stride, padding=conv.kernel_size[0] // 2)
        x = (x - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + 1e-5).sqrt()
        x = (x * norm.weight[:, None, None] + norm.bias[:, None, None]).clamp(min=0)
    x = F.conv2d(x, stem.proj.weight, stem.proj.bias, stride=2, padding=1).permute(0, 2, 3, 1)
    expected = F.layer_norm(x, (16,), stem.norm.weight, stem.norm.bias, 1e-5)
    out = stem(image)
    assert out.shape == (2, 16, 8, 16)
    assert sum(isinstance(m, nn.Conv2d) for m in stem.modules()) == convs
    assert_close(out, expected, rtol=1e-4, atol=1e-5)


def test_downsample_halves_pixels_and_widens_both():
    layer = randomise(Downsample(16, 32))
    pixels, semantics = torch.randn(2, 8, 12, 16), torch.randn(2, 5, 16)
    out, out_semantics = layer(pixels, semantics)
    conv = F.conv2d(pixels.permute(0, 3, 1, 2), layer.proj.weight, layer.proj.bias, stride=2, padding=1)
    expected = F.layer_norm(conv.permute(0, 2, 3, 1), (32,), layer.norm.weight, layer.norm.bias, 1e-5)
    assert out.shape == (2, 4, 6, 32)
    assert_close(out, expected, rtol=1e-4, atol=1e-5)
    linear = semantics @ layer.semantic_proj.weight.T + layer.semantic_proj.bias
    norm = layer.semantic_norm
    assert_close(out_semantics, F.layer_norm(linear, (32,), norm.weight, norm.bias, 1e-5), rtol=1e-4, atol=1e-5)


def test_conv_ffn_is_linear_depthwise_gelu_linear():
    ffn = randomise(ConvFFN(16, 24))
    pixels = torch.randn(2, 5, 7, 16)
    hidden = (pixels @ ffn.fc1.weight.T + ffn.fc1.bias).permute(0, 3, 1, 2)
    padded = F.pad(hidden, (1, 1, 1, 1))
    conv = sum(
        padded[:, :, dy : dy + 5, dx : dx + 7] * ffn.conv.weight[:, 0, dy, dx, None, None]
        for dy in range(3)
        for dx in range(3)
    )
    conv = (conv + ffn.conv.bias[:, None, None]).permute(0, 2, 3, 1)
    gelu = 0.5 * conv * (1 + torch.erf(conv / 2**0.5))
    assert_close(ffn(pixels), gelu @ ffn.fc2.weight.T + ffn.fc2.bias, rtol=1e-4, atol=1e-5)


def test_conv_ffn_sees_a_view_and_not_a_copy():
    """The depthwise convolution reads the Linear's own memory, channels last, and writes it so."""
    ffn = ConvFFN(16, 24)
    seen = {}
    ffn.fc1.register_forward_hook(lambda _m, _i, out: seen.update(linear=out.data_ptr()))
    ffn.conv.register_forward_hook(lambda _m, i, out: seen.update(conv=i[0].data_ptr(), given=i[0], out=out))
    out = ffn(torch.randn(1, 6, 6, 16))
    assert seen["linear"] == seen["conv"]
    assert seen["given"].is_contiguous(memory_format=torch.channels_last)
    assert seen["out"].is_contiguous(memory_format=torch.channels_last)
    assert out.is_contiguous()


@pytest.mark.parametrize(("activation", "function"), [(nn.GELU, F.gelu), (nn.ReLU, F.relu)])
def test_token_ffn(activation, function):
    ffn = TokenFFN(16, 40, activation)
    tokens = torch.randn(2, 3, 16)
    hidden = function(tokens @ ffn.fc1.weight.T + ffn.fc1.bias)
    assert_close(ffn(tokens), hidden @ ffn.fc2.weight.T + ffn.fc2.bias, rtol=1e-5, atol=1e-6)
