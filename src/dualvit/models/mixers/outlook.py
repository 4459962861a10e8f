"""Outlook attention: a pixel says by itself how its neighbourhood is mixed."""

import torch
import torch.fx
import torch.nn.functional as F
from timm.models import register_notrace_function
from torch import Tensor, nn

from dualvit.models.contract import BlockShape, crop, known
from dualvit.models.dual_vit import DualViTConfig
from dualvit.models.mixers.block import MixerBlock
from dualvit.models.mixers.full import full_block
from dualvit.models.registry import Mixer, register_mixer

OUTLOOK_STAGES = 2  # VOLO's full attention starts at stride 16


@torch.fx.wrap
@register_notrace_function
def overlap_add(patches: Tensor, like: Tensor, kernel: int, stride: int) -> Tensor:
    """Add up overlapping patches (B, C * kernel * kernel, positions) in a (B, C, H, W) map as large as `like`."""
    height, width = like.shape[2:]
    if known(height, width):
        return F.fold(patches, (height, width), kernel, padding=kernel // 2, stride=stride)
    # ONNX has no fold of a size that it reads off the map; a transposed convolution puts each pixel at its place.
    area, rows, columns = kernel * kernel, (height - 1) // stride + 1, (width - 1) // stride + 1
    places = torch.eye(area, dtype=patches.dtype, device=patches.device).view(area, 1, kernel, kernel)
    centres = patches.reshape(-1, area, rows, columns)  # (B C, kernel * kernel, rows, columns)
    whole = F.conv_transpose2d(centres, places, None, stride, kernel // 2, output_padding=stride - 1)
    return crop(whole.permute(0, 2, 3, 1), height, width).reshape(like.shape)


class OutlookMixer(nn.Module):
    """Mix each neighbourhood by its centre: the weights in a k x k neighbourhood are a Linear of its (averaged) centre.

    For each centre i on the grid of `stride`: A_i = softmax(Linear(mean of the stride x stride pixels
    at i) / sqrt(d)), a k^2 x k^2 matrix a head; Y_i = A_i V_i, with V_i the values of the k x k
    neighbourhood; out = Linear(sum of all Y_i where they overlap). No query meets a key, so there
    is nothing for a fused kernel to do. Beyond the border values are zero, as in the paper's code.

    Shapes: pixels (B, H, W, C) to their update; semantics are handed on. Source: VOLO, arXiv 2106.13112,
    eqs. 3 to 5.

    Args:
        dim, num_heads: C, and attention heads.
        kernel: k, odd.
        stride: Pixels between two centres.
    """

    def __init__(self, dim: int, num_heads: int, kernel: int = 3, stride: int = 2) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.kernel = kernel
        self.stride = stride
        self.scale = (dim // num_heads) ** -0.5
        self.value = nn.Linear(dim, dim, bias=False)
        self.weights = nn.Linear(dim, kernel**4 * num_heads)
        self.proj = nn.Linear(dim, dim)

    def forward(self, pixels: Tensor, semantics: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        area = self.kernel * self.kernel
        values = self.value(pixels).permute(0, 3, 1, 2)
        patches = F.unfold(values, self.kernel, padding=self.kernel // 2, stride=self.stride)
        patches = patches.unflatten(1, [self.num_heads, -1, area]).permute(0, 4, 1, 3, 2)  # B, positions, heads, k², d
        centres = F.avg_pool2d(pixels.permute(0, 3, 1, 2), self.stride, ceil_mode=True).flatten(2).transpose(1, 2)
        scores = self.weights(centres).unflatten(2, [self.num_heads, area, area])  # B, positions, heads, k², k²
        mixed = (scores * self.scale).softmax(-1) @ patches
        mixed = mixed.permute(0, 2, 4, 3, 1).flatten(1, 3)  # B, heads * d * k², positions
        out = overlap_add(mixed, values, self.kernel, self.stride).permute(0, 2, 3, 1)
        return self.proj(out), semantics


def outlook_block(shape: BlockShape, config: DualViTConfig) -> nn.Module:
    """Return VOLO's block: 3x3 outlook with centres two pixels apart at strides 4 and 8, full attention after."""
    if shape.stage >= OUTLOOK_STAGES:
        return full_block(shape, config)
    return MixerBlock(shape, OutlookMixer(shape.dim, shape.num_heads))


register_mixer("outlook", Mixer(OutlookMixer, outlook_block))
