"""What another form of the small network's pixels would cost: batch norms that fold away, in place of layer norms.

    python benchmarks/forms.py --image-size 640 --threads 1

The form of today is the pyramid of dualvit_n, fused as it is exported. The others are as wide and as deep, and stand
for a network whose pixels have a batch norm behind each convolution, as LeViT has (Graham et al., 2021, arXiv
2104.01136), so that nothing is left of the norms: feed-forward networks are three convolutions in one layout, and the
attention of pixels and semantics reads the pixels as they are, its Linears absorbed by the few semantics. Their
weights are random: this measures time, and says nothing of accuracy. The table goes to docs/results/forms.json.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dualvit
from dualvit.bench.rounds import in_turn
from dualvit.bench.runtimes import NEEDS, export_onnx, open_runtime, versions
from dualvit.files import write_json
from dualvit.models.dual_vit import HEAD_DIM, DualViTConfig, SelfAttention, TokenFFN
from dualvit.models.dual_vit_small import CONFIGS
from dualvit.provenance import environment

OUT = Path(__file__).resolve().parents[1] / "docs" / "results" / "forms.json"
TODAY = "layer norms, GELU (today)"
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"GELU": F.gelu, "SiLU": F.silu, "ReLU": F.relu}
GRID = 4


def conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Return a convolution as it is once its batch norm is folded."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)


class Block(nn.Module):
    """A dual block of that form. Shapes: pixels (B, C, H, W), semantics (B, M, C), both unchanged."""

    def __init__(self, dim: int, hidden: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.heads, self.activation = dim // HEAD_DIM, activation
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(4))
        self.refine, self.ffn = SelfAttention(dim, self.heads), TokenFFN(dim, 4 * dim, nn.ReLU)
        self.ask, self.told = nn.Linear(dim, self.heads * dim), nn.Linear(self.heads * dim, dim)
        self.key, self.value = nn.Linear(dim, self.heads * dim), nn.Linear(dim, self.heads * dim)
        self.wide, self.narrow = conv(dim, hidden), conv(hidden, dim)
        self.depthwise = conv(hidden, hidden, 3, groups=hidden)

    def forward(self, pixels: Tensor, semantics: Tensor) -> tuple[Tensor, Tensor]:
        tokens = pixels.permute(0, 2, 3, 1).flatten(1, 2)  # (B, H W, C)
        semantics = semantics + self.refine(self.norms[0](semantics))
        asked = self._by_head(self.ask(self.norms[1](semantics)))  # (B, heads M, C)
        read = (asked @ tokens.transpose(1, 2)).softmax(-1) @ tokens  # (B, heads M, C)
        semantics = semantics + self.told(read.unflatten(1, (self.heads, -1)).transpose(1, 2).flatten(2))
        semantics = semantics + self.ffn(self.norms[2](semantics))
        normed = self.norms[3](semantics)
        scores = tokens @ self._by_head(self.key(normed)).transpose(1, 2)  # (B, H W, heads M)
        shares = scores.unflatten(2, (self.heads, -1)).softmax(-1).flatten(2)
        update = (shares @ self._by_head(self.value(normed))).unflatten(1, pixels.shape[2:])  # (B, H, W, C)
        pixels = pixels + update.permute(0, 3, 1, 2)
        return pixels + self.narrow(self.activation(self.depthwise(self.wide(pixels)))), semantics

    def _by_head(self, tokens: Tensor) -> Tensor:
        """(B, M, heads C) to (B, heads M, C)."""
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2).flatten(1, 2)


class Pyramid(nn.Module):
    """A pyramid of such blocks: an image to maps at strides 8, 16 and 32, as a detector reads them."""

    def __init__(self, config: DualViTConfig, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        dims, width = config.dims, config.stem_width
        self.stem = nn.Sequential(conv(3, width, 3, 2), nn.ReLU(), conv(width, dims[0], 3, 2))
        self.seed = nn.Parameter(torch.randn(1, GRID * GRID, dims[0]))
        pairs = list(pairwise(dims))
        self.down = nn.ModuleList(conv(dim, out, 3, 2) for dim, out in pairs)
        self.widen = nn.ModuleList(nn.Linear(dim, out) for dim, out in pairs)
        self.stages = nn.ModuleList(
            nn.ModuleList(Block(dim, dim * ratios[index % len(ratios)], activation) for index in range(depth))
            for dim, depth, ratios in zip(dims, config.depths, config.ffn_ratios, strict=True)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        pixels, maps = self.stem(image), []
        semantics = self.seed + F.adaptive_avg_pool2d(pixels, GRID).flatten(2).transpose(1, 2)
        for index, stage in enumerate(self.stages):
            if index:
                pixels, semantics = self.down[index - 1](pixels), self.widen[index - 1](semantics)
            for block in stage:  # type: ignore[union-attr]
                pixels, semantics = block(pixels, semantics)
            maps.append(pixels)
        return maps[1:]


def main() -> None:
    """Measure all forms in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-size", type=int, default=640)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    image = torch.rand(1, 3, args.image_size, args.image_size)
    today = timm.create_model("dualvit_n", features_only=True, out_indices=(1, 2, 3))
    models = {TODAY: dualvit.fuse(today.eval())}
    models |= {f"batch norms, {name}": Pyramid(CONFIGS["dualvit_n"], one).eval() for name, one in ACTIVATIONS.items()}
    steps: dict[str, dict[str, Callable[[], object]]] = {runtime: {} for runtime in NEEDS}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, model) in enumerate(models.items()):
            file = Path(folder) / f"{number}.onnx"
            export_onnx(model, image, file)
            for runtime, own in steps.items():
                own[f"{runtime}: {name}"] = partial(open_runtime(runtime, file, args.threads), image.numpy())
        rounds = in_turn(list(steps.values()), args.rounds, 300.0)
    rows = []
    for runtime in steps:
        for name in models:
            ratio = rounds.ratio(f"{runtime}: {name}", f"{runtime}: {TODAY}")
            rows.append({"runtime": runtime, "form": name, "of today": asdict(ratio)})
            print(f"{runtime:12s} {name:28s} {ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})", flush=True)
    settings = {"image_size": args.image_size, "threads": args.threads, "versions of runtimes": versions(steps)}
    write_json(OUT, settings | {"rows": rows, "environment": environment(False)})


if __name__ == "__main__":
    main()
