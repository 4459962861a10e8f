"""N and T: Dual-ViT for real-time detectors and short runs, whose pixels have batch norms that fold away.

The pathways, the blocks and their order are those of `dual_vit.py`. What differs is the form of the pixels' products,
as LeViT has it (Graham et al., 2021, arXiv 2104.01136, section 4.1): a batch norm behind each, and no layer norm
before. After training it folds into the product, so that a deployed network has no norm on its maps; and it divides
the scale of the weights out, so that they learn at the same rate as the convolutions of a detector's neck and head.
The semantics are few, and keep their layer norms.
"""

from collections.abc import Iterator
from pathlib import Path

from timm.layers import trunc_normal_
from timm.models import generate_default_cfgs
from torch import Tensor, nn

from dualvit.models.contract import BlockShape, entrypoints, pretrained_cfg
from dualvit.models.dual_vit import Downsample, DualBlock, DualViT, DualViTConfig, Stage, Stem, TokenFFN, dual_block

GAIN = 0.125  # of new weights with a norm behind, over 1 / sqrt(inputs): how fast they turn, and not what they compute


class NormedLinear(nn.Linear):
    """Multiply tokens, then normalise each channel over the batch. Shapes: (B, N, C) to (B, N, C')."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__(dim, out_dim, bias=False)
        self.norm = nn.BatchNorm2d(out_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        # A map of one row, in channels-last order. As one column, (B, C', N, 1), its strides also fit the other order,
        # and PyTorch's batch norm then reads the gradient in the wrong one.
        out = super().forward(tokens).transpose(1, 2).unsqueeze(2)  # (B, C', 1, N)
        return self.norm(out).squeeze(2).transpose(1, 2)  # (B, N, C')


class NormedConv(nn.Conv2d):
    """Convolve, then normalise each channel over the batch. Shapes: (B, C, H, W) to (B, C', H / stride, W / stride)."""

    def __init__(self, dim: int, out_dim: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(dim, out_dim, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_dim)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.norm(super().forward(pixels))


class NormedConvFFN(nn.Module):
    """Feed the pixels forward by three convolutions with SiLU, as YOLO has it. Shapes: (B, H, W, C), unchanged."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = NormedConv(dim, hidden), NormedConv(hidden, dim)
        self.conv = NormedConv(hidden, hidden, 3, groups=hidden)
        self.act = nn.SiLU()

    def forward(self, pixels: Tensor) -> Tensor:
        hidden = self.act(self.conv(self.fc1(pixels.permute(0, 3, 1, 2))))  # (B, hidden, H, W)
        return self.fc2(hidden).permute(0, 2, 3, 1)


class SmallDualBlock(DualBlock):
    """A dual block whose pixels are normalised behind each of their products, and scaled by that norm alone.

    Shapes: pixels (B, H, W, C), semantics (B, M, C), both unchanged.

    Example:
        >>> import torch
        >>> block = SmallDualBlock(BlockShape(0, 0, dim=32, num_heads=1, hidden=64, drop_path=0.0, layer_scale=1.0))
        >>> pixels, semantics = block(torch.randn(1, 48, 48, 32), torch.randn(1, 16, 32))
        >>> pixels.shape, semantics.shape
        (torch.Size([1, 48, 48, 32]), torch.Size([1, 16, 32]))
    """

    def __init__(self, shape: BlockShape) -> None:
        dim = shape.dim
        super().__init__(dim, shape.num_heads, shape.hidden, shape.drop_path, 1.0)
        for name in ("norm1", "norm2", "scale1", "scale2"):
            setattr(self, name, nn.Identity())
        self.semantic_update.ffn = TokenFFN(dim, dim, nn.ReLU)
        self.semantic_update.cross_attention.kv = NormedLinear(dim, 2 * dim)
        self.attention.q, self.attention.proj = NormedLinear(dim, dim), NormedLinear(dim, dim)
        self.ffn = NormedConvFFN(dim, shape.hidden)  # type: ignore[assignment]


class SmallStem(Stem):
    """The stem with a batch norm at its end. Shapes: (B, in_chans, H, W) to (B, H/4, W/4, dim)."""

    def __init__(self, in_chans: int, width: int, dim: int, kernel: int = 3, depth: int = 0) -> None:
        super().__init__(in_chans, width, dim, kernel, depth)
        self.proj = NormedConv(width, dim, 3, stride=2)
        self.norm = nn.Identity()  # type: ignore[assignment]


class SmallDownsample(Downsample):
    """Halve the map and widen both pathways, as `Downsample`, with a batch norm behind the convolution."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__(dim, out_dim)
        self.proj = NormedConv(dim, out_dim, 3, stride=2)
        self.norm = nn.Identity()  # type: ignore[assignment]


_SMALL = {  # of N and T, made for real-time detectors and short runs
    "depths": (1, 1, 3, 1), "ffn_ratios": ((2,), (3,), (3, 2), (3,)), "dual_stages": 4, "semantic_grid": (4, 4),
    "drop_path_rate": 0.0, "layer_scale": 1.0, "linear_std": None, "stem_kernel": 3, "stem_depth": 0,
}  # fmt: skip
CONFIGS = {
    "dualvit_n": DualViTConfig(stem_width=16, dims=(32, 64, 96, 160), **_SMALL),  # type: ignore[arg-type]
    "dualvit_t": DualViTConfig(stem_width=32, dims=(64, 128, 192, 320), **_SMALL),  # type: ignore[arg-type]
}


class SmallDualViT(DualViT):
    """N and T: `DualViT` with the pixels' norms behind their products; its args, shapes and errors are the same.

    The maps are handed out as they leave the blocks, without a norm: whatever reads them begins with a product.

    Example:
        >>> import torch, dualvit
        >>> model = dualvit.create_model("dualvit_n", num_classes=10)
        >>> model(torch.randn(1, 3, 96, 128)).shape
        torch.Size([1, 10])
    """

    def build_stem(self, config: DualViTConfig) -> nn.Module:
        """Return the module that makes the first map."""
        return SmallStem(self.in_chans, config.stem_width, config.dims[0], config.stem_kernel, config.stem_depth)

    def build_downsample(self, dim: int, out_dim: int) -> nn.Module:
        """Return the module between two stages."""
        return SmallDownsample(dim, out_dim)

    def build_block(self, shape: BlockShape, config: DualViTConfig) -> nn.Module:
        """Return one block; merge blocks are the paper's."""
        return SmallDualBlock(shape) if shape.stage < config.dual_stages else dual_block(shape, config)

    def build_stages(self, config: DualViTConfig) -> Iterator[Stage]:
        """Yield the four stages, without a norm of the pixels behind them."""
        for stage in super().build_stages(config):
            stage.norm = nn.Identity()
            yield stage

    def feature_map(self, index: int, before: Tensor, after: Tensor) -> Tensor:
        """Return the map after a stage as it is; the model's norm is for the heads."""
        return after

    def prune_semantics(self) -> None:
        """Drop the class block and its norm, and each module that updates the semantics after their last reader."""
        super().prune_semantics()
        self.norm = nn.Identity()

    def _init_module(self, module: nn.Module) -> None:
        super()._init_module(module)
        if isinstance(module, NormedLinear | NormedConv):
            trunc_normal_(module.weight, std=GAIN * module.weight[0].numel() ** -0.5)


# ---- timm -----------------------------------------------------------------------------------------------------------

# With the tag `start`, as in `create_model("dualvit_n.start", pretrained=True)`, the weights that the package ships.
SHIPPED = Path(__file__).parents[1] / "weights" / "shipped"
default_cfgs = generate_default_cfgs(
    {
        f"{name}.start": pretrained_cfg(
            first_conv="stem.conv.0", classifier=("head", "aux_head"), file=str(SHIPPED / f"{name}.safetensors")
        )
        for name in CONFIGS
    }
)
dualvit_n, dualvit_t = entrypoints(__name__, SmallDualViT, CONFIGS)
