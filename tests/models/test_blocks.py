"""The blocks against slow transcriptions, and what may and may not mix in them."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from dualvit.models.dual_vit import ClassBlock, DualBlock, MergeBlock


def build(block_class, *args, **kwargs):
    """A block with values everywhere: norms and layer scales that are not 1."""
    block = block_class(*args, **kwargs).eval()
    with torch.no_grad():
        for name, parameter in block.named_parameters():
            parameter.normal_(1.0, 0.2) if parameter.ndim == 1 and "bias" not in name else parameter.normal_(std=0.2)
    return block


def norm(module, x, eps):
    return F.layer_norm(x, (x.shape[-1],), module.weight, module.bias, eps)


def heads(x, count):
    return x.reshape(*x.shape[:-1], count, -1).transpose(1, 2)


def softmax_attention(q, k, v, count):
    q, k, v = heads(q, count), heads(k, count), heads(v, count)
    weights = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def cross(module, tokens, context, count):
    k, v = module.kv(context).chunk(2, -1)
    return softmax_attention(module.q(tokens), k, v, count)


def test_dual_block_is_its_description():
    block = build(DualBlock, 32, 2, 48)
    pixels, semantics = torch.randn(2, 5, 6, 32), torch.randn(2, 4, 32)
    update = block.semantic_update
    p = norm(block.norm1, pixels, 1e-6).reshape(2, 30, 32)
    q, k, v = update.self_attention.qkv(norm(update.norm1, semantics, 1e-5)).chunk(3, -1)
    s = semantics + update.scale1.gamma * softmax_attention(q, k, v, 2)
    s = s + update.scale2.gamma * cross(update.cross_attention, norm(update.norm2, s, 1e-5), p, 2)
    hidden = update.ffn.fc1(norm(update.norm3, s, 1e-5)).relu()
    assert hidden.shape[-1] == 4 * 32
    s = s + update.scale3.gamma * update.ffn.fc2(hidden)
    x = cross(block.attention, p, norm(block.semantic_norm, s, 1e-5), 2)
    x = pixels + block.scale1.gamma * block.attention.proj(x).reshape(2, 5, 6, 32)
    x = x + block.scale2.gamma * block.ffn(norm(block.norm2, x, 1e-6))
    assert_close(block(pixels, semantics), (x, s), rtol=1e-4, atol=1e-4)


def test_merge_block_is_its_description():
    block = build(MergeBlock, 32, 2, 48)
    pixels, semantics = torch.randn(2, 5, 6, 32), torch.randn(2, 4, 32)
    tokens = torch.cat([pixels.reshape(2, 30, 32), semantics], 1)
    normed = norm(block.norm1, tokens, 1e-6)
    tokens = tokens + block.scale1.gamma * block.attention.proj(cross(block.attention, normed, normed, 2))
    x, s = tokens[:, :30].reshape(2, 5, 6, 32), tokens[:, 30:]
    x = x + block.scale2.gamma * block.ffn(norm(block.norm2, x, 1e-6))
    hidden = F.gelu(block.semantic_ffn.fc1(norm(block.norm2, s, 1e-6)))
    assert hidden.shape[-1] == 2 * 32
    s = s + block.scale2.gamma * block.semantic_ffn.fc2(hidden)
    assert_close(block(pixels, semantics), (x, s), rtol=1e-4, atol=1e-4)


def test_class_block_is_its_description():
    block = build(ClassBlock, 32, 2, 64)
    pixels, semantics = torch.randn(2, 3, 4, 32), torch.randn(2, 5, 32)
    tokens = torch.cat([pixels.reshape(2, 12, 32), semantics], 1)
    token = tokens.mean(1, keepdim=True)
    context = norm(block.norm1, torch.cat([token, tokens], 1), 1e-6)
    token = token + block.attention.proj(cross(block.attention, context[:, :1], context, 2))
    token = token + block.ffn(norm(block.norm2, token, 1e-6))
    assert_close(block(tokens), token, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("block_class", [DualBlock, MergeBlock])
def test_a_batch_equals_its_images(block_class):
    block = build(block_class, 32, 2, 64)
    pixels, semantics = torch.randn(3, 6, 4, 32), torch.randn(3, 5, 32)
    batch = block(pixels, semantics)
    for i in range(3):
        single = block(pixels[i : i + 1], semantics[i : i + 1])
        assert_close([t[i : i + 1] for t in batch], list(single), rtol=1e-5, atol=1e-5)


def reach(block, height=7, width=7):
    """Which input pixels the output pixel in the middle depends on, as an (H, W) mask."""
    pixels = torch.randn(1, height, width, 32, requires_grad=True)
    out, _ = block(pixels, torch.randn(1, 4, 32))
    (gradient,) = torch.autograd.grad(out[0, height // 2, width // 2].square().sum(), pixels)
    return gradient[0].abs().amax(-1) > 0


def test_dual_attention_mixes_pixels_through_the_semantics_alone():
    """With the semantics' look at the pixels off, only the 3x3 convolution is left between pixels."""
    block = build(DualBlock, 32, 2, 64)
    assert reach(block).all()
    block.semantic_update.scale2.gamma.data.zero_()
    neighbours = torch.zeros(7, 7, dtype=torch.bool)
    neighbours[2:5, 2:5] = True
    assert torch.equal(reach(block), neighbours)
    block.ffn.conv.weight.data[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0
    assert reach(block).nonzero().tolist() == [[3, 3]]


def test_merge_attention_mixes_all_pixels():
    assert reach(build(MergeBlock, 32, 2, 64)).all()


def test_dual_block_is_equivariant_to_the_order_of_semantics():
    block = build(DualBlock, 32, 2, 64)
    pixels, semantics, order = torch.randn(1, 4, 4, 32), torch.randn(1, 6, 32), torch.randperm(6)
    out, out_semantics = block(pixels, semantics)
    same, permuted = block(pixels, semantics[:, order])
    assert_close(same, out, rtol=1e-5, atol=1e-5)
    assert_close(permuted, out_semantics[:, order], rtol=1e-5, atol=1e-5)


def test_merge_block_without_semantic_ffn_gives_the_same_pixels():
    block = build(MergeBlock, 32, 2, 64)
    pixels, semantics = torch.randn(2, 4, 4, 32), torch.randn(2, 6, 32)
    full, full_semantics = block(pixels, semantics)
    block.semantic_ffn = None
    pruned, pruned_semantics = block(pixels, semantics)
    assert torch.equal(pruned, full)
    assert not torch.allclose(pruned_semantics, full_semantics)


@pytest.mark.parametrize("block_class", [DualBlock, MergeBlock])
def test_a_zero_layer_scale_makes_the_block_the_identity(block_class):
    block = block_class(32, 2, 64, layer_scale=0.0)
    pixels, semantics = torch.randn(1, 4, 4, 32), torch.randn(1, 6, 32)
    out, out_semantics = block(pixels, semantics)
    assert torch.equal(out, pixels)
    assert torch.equal(out_semantics, semantics)


@pytest.mark.parametrize("block_class", [DualBlock, MergeBlock])
def test_layer_scales_start_at_1e6th(block_class):
    scales = [p for n, p in block_class(32, 2, 64).named_parameters() if n.endswith("gamma")]
    assert len(scales) == (5 if block_class is DualBlock else 2)
    assert all(torch.equal(p, torch.full_like(p, 1e-6)) for p in scales)


@pytest.mark.parametrize("block_class", [DualBlock, MergeBlock])
def test_drop_path_drops_whole_branches_in_training_only(block_class):
    block = build(block_class, 32, 2, 64, drop_path=0.999999)
    pixels, semantics = torch.randn(2, 4, 4, 32), torch.randn(2, 6, 32)
    assert not torch.allclose(block(pixels, semantics)[0], pixels)
    block.train()
    out, out_semantics = block(pixels, semantics)
    assert torch.equal(out, pixels)
    assert torch.equal(out_semantics, semantics)


def test_merge_block_with_a_key_grid_is_the_papers_on_a_map_of_that_size():
    paper = build(MergeBlock, 32, 2, 64)
    linear = build(MergeBlock, 32, 2, 64, key_grid=(4, 6))
    linear.load_state_dict(paper.state_dict())
    pixels, semantics = torch.randn(2, 4, 6, 32), torch.randn(2, 5, 32)
    for ours, theirs in zip(linear(pixels, semantics), paper(pixels, semantics), strict=True):
        assert torch.equal(ours, theirs)


def test_merge_block_with_a_key_grid_attends_to_means():
    """On a map of constant 2x2 cells the means lose nothing, so each pixel gets what the halved map's does."""
    paper = build(MergeBlock, 32, 2, 64)
    linear = MergeBlock(32, 2, 64, key_grid=(3, 5)).eval()
    linear.load_state_dict(paper.state_dict())
    pixels, semantics = torch.randn(2, 3, 5, 32), torch.randn(2, 4, 32)
    doubled = pixels.repeat_interleave(2, 1).repeat_interleave(2, 2)
    normed = paper.norm1(torch.cat([pixels.flatten(1, 2), semantics], 1))
    small = paper.attention(normed, normed)[:, :15].view(2, 3, 5, 32)
    seen = {}
    linear.attention.register_forward_hook(lambda _m, _i, out: seen.update(out=out))
    linear(doubled, semantics)
    assert_close(seen["out"][:, :60].view(2, 6, 10, 32), small.repeat_interleave(2, 1).repeat_interleave(2, 2))
