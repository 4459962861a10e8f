"""The student, with a 1x1 convolution for each of its maps, and the teacher."""

import math
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional as F

from dualvit.backbones.maps import Maps, maps_of
from dualvit.backbones.recompute import recompute_blocks
from dualvit.backbones.timm_model import as_maps
from dualvit.errors import InputError
from dualvit.recipes.network import weights_file
from dualvit.recipes.pretrain.config import PretrainRecipe

SEMANTICS = 0.33  # weight of the semantics' loss, beside 1 / strides of each map's; see docs/results/README.md


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm over the batches of all processes: on several of them a step is that of one, on a CPU too.

    PyTorch's own, SyncBatchNorm, is for GPUs alone.
    """

    def forward(self, input: Tensor) -> Tensor:
        world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        if not self.training or world == 1:
            return super().forward(input)
        moments = torch.stack([input.mean((0, 2, 3)), input.square().mean((0, 2, 3))])
        mean, square = (all_reduce(moments) / world).unbind()
        variance = square - mean.square()
        with torch.no_grad():
            count = world * input.numel() / input.shape[1]
            momentum = self.momentum or 0.0
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
            self.running_mean.lerp_(mean, momentum)  # type: ignore[union-attr]
            self.running_var.lerp_(variance * count / (count - 1), momentum)  # type: ignore[union-attr]
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return input * scale[:, None, None] + shift[:, None, None]


class Student(nn.Module):
    """The network that learns: images (B, 3, H, W) to its guess of each of the teacher's maps, (B, C, H/s, W/s).

    Without a teacher the guess is one of the formulas, (B, classes).

    Attributes:
        maps, teacher: How both are built; the teacher's is None without one.
        features: The network itself, as far as maps depend on it.
        semantics: Weight of the loss between semantics and teacher.
        heads: One for each stride, one for the semantics if they are matched; thrown away in the end.
        mean, deviation: Of each channel of the teacher's maps, one after the other; found before the first step.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, recipe: PretrainRecipe) -> None:
        super().__init__()
        network, strides = recipe.network, recipe.match.strides
        options = dict(network.options) | ({"drop_path_rate": network.drop_path} if network.drop_path else {})
        self.maps = maps_of(network.name, options, strides)
        self.teacher = teacher_maps(recipe)
        self.features = self.maps.build(weights_file(network))
        recompute_blocks(self.features, network.grad_checkpointing)
        for module in self.features.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = SharedBatchNorm
        self.channels = self.teacher.channels if self.teacher else (recipe.data.classes,)
        own = self.maps.channels if self.teacher else self.maps.channels[-1:]
        pairs = list(zip(own, self.channels, strict=True))
        self.tokens: list[Tensor] = []  # the semantics of the current forward pass
        stage = semantic_stage(self.features)
        asked = recipe.match.semantics
        if asked and stage is None:
            raise InputError(f"{network.name} has no semantics that could be matched; leave match.semantics out")
        self.semantics = SEMANTICS if asked is None else asked  # their weight in the loss
        if self.semantics and stage is not None and self.teacher:
            stage.register_forward_hook(self._keep)
            pairs.append((stage.semantic_norm.weight.numel(), self.channels[-1]))
        self.heads = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairs)
        self.register_buffer("mean", torch.zeros(sum(self.channels)))
        self.register_buffer("deviation", torch.zeros(sum(self.channels)))  # 0: not found yet

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = as_maps(self.features(images), self.maps.channels_last)
        if self.teacher is None:
            return [self.heads[0](maps[-1].mean((2, 3), keepdim=True)).flatten(1)]
        if len(self.heads) > len(maps):
            tokens = self.tokens.pop()  # (B, M, C) of a square of areas
            maps.append(tokens.transpose(1, 2).unflatten(2, (math.isqrt(tokens.shape[1]), -1)))
        return [head(one) for head, one in zip(self.heads, maps, strict=True)]

    def targets(self, maps: list[Tensor], areas: tuple[int, ...]) -> list[Tensor]:
        """Return the teacher's maps whitened, and their mean in each area if semantics are matched."""
        whitened = self.whitened(maps)
        if len(self.heads) > len(maps):
            whitened.append(F.adaptive_avg_pool2d(whitened[-1], areas))  # type: ignore[arg-type]
        return whitened

    def _keep(self, stage: nn.Module, given: object, answer: tuple[Tensor, Tensor]) -> None:
        self.tokens.append(answer[1])

    def whitened(self, maps: list[Tensor]) -> list[Tensor]:
        """Return the teacher's maps with mean 0 and deviation 1 in each channel."""
        moments = zip(self.mean.split(self.channels), self.deviation.split(self.channels), strict=True)
        pairs = zip(maps, moments, strict=True)
        return [(one - mean[:, None, None]) / deviation[:, None, None] for one, (mean, deviation) in pairs]

    def no_weight_decay(self) -> set[str]:
        """Return what is exempt from weight decay in the student."""
        return {f"features.{name}" for name in self.maps.undecayed(self.features)}


def semantic_stage(features: nn.Module) -> Any:
    """Return the last stage that hands on normalised semantics; None if the network has none."""
    stages = [module for module in features.modules() if getattr(module, "semantic_norm", None) is not None]
    return stages[-1] if stages else None


def teacher_maps(recipe: PretrainRecipe) -> Maps | None:
    """Return how the teacher is built; None without one.

    Raises:
        ValueError: it is unknown, or has no map at one of the strides.
    """
    teacher = recipe.teacher
    try:
        return maps_of(teacher.name, dict(teacher.options), recipe.match.strides) if teacher.name else None
    except InputError as error:
        raise InputError(f"teacher: {error}; or choose strides by --set match.strides=[16,32]") from None


class Guide(nn.Module):
    """The teacher: images (B, 3, H, W) from 0 to 1 to its maps, (B, C, H/s, W/s), without gradients."""

    mean: Tensor
    std: Tensor

    def __init__(self, maps: Maps, weights: str) -> None:
        super().__init__()
        self.maps, self.network = maps, maps.build(weights).eval().requires_grad_(False)
        for name, values in zip(("mean", "std"), maps.moments(), strict=True):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1))

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        return as_maps(self.network((images - self.mean) / self.std), self.maps.channels_last)


def cosines(guess: Tensor, target: Tensor) -> Tensor:
    """Return the cosine between the channels of each place of two maps (B, C, H, W), the mean of each picture, (B,).

    Example:
        >>> cosines(torch.tensor([3.0, 0.0]).view(1, 2, 1, 1), torch.tensor([1.0, 1.0]).view(1, 2, 1, 1))
        tensor([0.7071])
    """
    return F.cosine_similarity(guess, target, dim=1).mean((1, 2))
