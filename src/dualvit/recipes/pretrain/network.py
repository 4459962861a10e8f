"""The student with a 1x1 convolution for each map, the teacher, and the file that a student ends in."""

import json
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional as F

from dualvit.backbones.recompute import recompute_blocks
from dualvit.backbones.timm_model import BackbonePlan, as_maps, never_decayed, plan_backbone
from dualvit.errors import InputError
from dualvit.models import create_model
from dualvit.recipes.config import Network
from dualvit.recipes.pretrain.config import PretrainRecipe, Teacher
from dualvit.seeds import seed_all
from dualvit.weights import load_backbone, to_safetensors
from dualvit.weights.match import full_names


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
        features: timm's feature extractor; what is learnt of the full network.
        heads: One for each stride, and thrown away in the end.
        mean, deviation: Of each channel of the teacher's maps, one after the other; found before the first step.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, recipe: PretrainRecipe) -> None:
        super().__init__()
        network = recipe.network
        self.plan, theirs = plans(network, recipe.teacher, recipe.match.strides)
        self.features = self.plan.build()
        if network.weights is not None:
            load_backbone(self.features, network.weights, self.plan.full_network())
        recompute_blocks(self.features, network.grad_checkpointing)
        for module in self.features.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = SharedBatchNorm
        self.channels = theirs.channels if theirs else (recipe.data.classes,)
        own = self.plan.channels if theirs else self.plan.channels[-1:]
        self.heads = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(own, self.channels, strict=True))
        self.taught = theirs is not None
        self.register_buffer("mean", torch.zeros(sum(self.channels)))
        self.register_buffer("deviation", torch.zeros(sum(self.channels)))  # 0: not found yet

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = as_maps(self.features(images), self.plan.channels_last)
        if not self.taught:
            return [self.heads[0](maps[-1].mean((2, 3), keepdim=True)).flatten(1)]
        return [head(one) for head, one in zip(self.heads, maps, strict=True)]

    def whitened(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the teacher's maps with mean 0 and deviation 1 in each channel."""
        moments = zip(self.mean.split(self.channels), self.deviation.split(self.channels), strict=True)
        pairs = zip(maps, moments, strict=True)
        return [(one - mean[:, None, None]) / deviation[:, None, None] for one, (mean, deviation) in pairs]

    def no_weight_decay(self) -> set[str]:
        """Return what timm exempts from weight decay in the student."""
        return {f"features.{name}" for name in never_decayed(self.features, self.plan.full_network())}


def plans(network: Network, teacher: Teacher, strides: tuple[int, ...]) -> tuple[BackbonePlan, BackbonePlan | None]:
    """Return how student and teacher are built, both with maps at these strides; the teacher's is None without one.

    Raises:
        ValueError: one of them is unknown, or has no map at one of the strides.
    """
    options = dict(network.options) | ({"drop_path_rate": network.drop_path} if network.drop_path else {})
    own = plan_backbone(network.name, options, strides)
    try:
        return own, plan_backbone(teacher.name, dict(teacher.options), strides) if teacher.name else None
    except InputError as error:
        raise InputError(f"teacher: {error}; or choose strides by --set match.strides=[16,32]") from None


class Guide(nn.Module):
    """The teacher: images (B, 3, H, W) from 0 to 1 to its maps, (B, C, H/s, W/s), without gradients."""

    mean: Tensor
    std: Tensor

    def __init__(self, plan: BackbonePlan, weights: str, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.plan, self.network = plan, plan.build().eval().requires_grad_(False)
        load_backbone(self.network, weights, plan.full_network())
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        return as_maps(self.network((images - self.mean) / self.std), self.plan.channels_last)


def cosines(guess: Tensor, target: Tensor) -> Tensor:
    """Return the cosine between the channels of each place of two maps (B, C, H, W), the mean of each picture, (B,).

    Example:
        >>> cosines(torch.tensor([3.0, 0.0]).view(1, 2, 1, 1), torch.tensor([1.0, 1.0]).view(1, 2, 1, 1))
        tensor([0.7071])
    """
    return F.cosine_similarity(guess, target, dim=1).mean((1, 2))


def student_file(recipe: PretrainRecipe, student: Student, about: dict[str, Any]) -> tuple[bytes, list[str], list[str]]:
    """Return a student as safetensors with all keys of its full network.

    Args:
        recipe: Of the run.
        student: That it ended in.
        about: What the file says besides.

    Returns:
        The file; the names of what was learnt, and of what is as it was initialised, since no map depends on it.
    """
    seed_all(str(recipe.seed))
    full = create_model(recipe.network.name, **recipe.network.options)
    if recipe.network.weights is not None:  # what is not learnt is as in the file that the run began with
        load_backbone(full, recipe.network.weights, full)
    names = full_names(student.features, full)
    learnt = {names[name]: value.detach().cpu() for name, value in student.features.state_dict().items()}
    state = {name: learnt.get(name, value).contiguous() for name, value in full.state_dict().items()}
    rest = [name for name in state if name not in learnt]
    metadata = {
        "format": "pt", "architecture": recipe.network.name, "num_classes": str(getattr(full, "num_classes", 0)),
        "source": "dualvit pretrain", "initialised": json.dumps(rest),
        **{name: value if isinstance(value, str) else json.dumps(value) for name, value in about.items()},
    }  # fmt: skip
    return to_safetensors(state, metadata), list(learnt), rest
