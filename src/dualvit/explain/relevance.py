"""Where a number comes from: its relevance at the image and at each stage, through both pathways.

Between a blurred picture, which shows nothing, and the picture itself lies a straight path. Along it, each value
changes, and the gradient says what each change does to the number that is explained. Their products add up, over all
pixels of the image, to the number's rise: integrated gradients (Sundararajan et al., 2017, arXiv 1703.01365). The same
holds at every cut through the network, so at each stage the pixels, the semantics and the maps that a detector has
taken before add up to that rise as well: conductance (Dhamdhere et al., 2018, arXiv 1805.12233, section 3).

Gradients flow through attention, downsampling and whatever else there is, so the same code explains any network.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import gaussian_blur

from dualvit.errors import InputError
from dualvit.explain.attention import network_of
from dualvit.explain.subject import Found, Subject, Target, View, target_of

STEPS = 24  # of the path; each is a pass forward and one back
BLUR = 16  # the shorter side over the standard deviation of the blur


@dataclass(frozen=True)
class Flow:
    """What crosses a stage's end.

    Attributes:
        stage: Counted from 0; -1 is the stem's end.
        pixels: (h, w), the relevance of each pixel of the map.
        semantics: (M,), that of each semantic token; of no tokens at the stem's end.
        taken: What a detector's maps of earlier stages carry past this one.
    """

    stage: int
    pixels: Tensor
    semantics: Tensor
    taken: float

    @property
    def total(self) -> float:
        """All of it."""
        return float(self.pixels.sum() + self.semantics.sum()) + self.taken


@dataclass(frozen=True)
class Relevance:
    """The relevance of an image for one number.

    Attributes:
        image: (H, W), in the number's own unit per pixel; its sum is nearly `rise`.
        rise: The number for the picture less that for the blurred one.
        flows: At the end of the stem and of each stage of a Dual-ViT; none of another network.
    """

    image: Tensor
    rise: float
    flows: tuple[Flow, ...] = ()

    @property
    def lost(self) -> float:
        """The largest difference between `rise` and a sum, at the image or at a stage, as a share of `rise`."""
        sums = [float(self.image.sum()), *(flow.total for flow in self.flows)]
        return max(abs(one - self.rise) for one in sums) / max(abs(self.rise), 1e-12)


def blurred(images: Tensor) -> Tensor:
    """Return images that show nothing but where it is bright and dark: (B, 3, H, W)."""
    sigma = min(images.shape[2:]) / BLUR
    size = 2 * int(3 * sigma) + 1
    reach = [min(size, 2 * side - 1) for side in reversed(images.shape[2:])]  # what is mirrored ends with the image
    return gaussian_blur(images, [side - 1 + side % 2 for side in reach], [sigma, sigma])


def relevance_of(network: nn.Module, images: Tensor, target: Target, steps: int = STEPS) -> Relevance:
    """Return where one number of a network's outputs comes from.

    Args:
        network: In evaluation mode.
        images: (1, 3, H, W).
        target: From the outputs to the number; a batch's outputs are given one image at a time.
        steps: Of the path. The sums are within a hundredth of each other with some tens of them.

    Raises:
        ValueError: the network is in training mode, or the number does not depend on the image.

    Example:
        >>> import dualvit
        >>> model = dualvit.create_model("dualvit_n", num_classes=3).eval()
        >>> relevance = relevance_of(model, torch.rand(1, 3, 64, 64), lambda logits: logits[0, 0], steps=8)
        >>> relevance.image.shape, len(relevance.flows)
        (torch.Size([64, 64]), 5)
    """
    if network.training:
        raise InputError("relevance is of a network in evaluation mode; call eval()")
    if images.shape[0] != 1:
        raise InputError(f"relevance is of one image at a time, and {images.shape[0]} were given")
    base = blurred(images)
    ends = torch.linspace(0, 1, steps + 1)
    sums: dict[Any, Tensor] = {}
    last: dict[Any, tuple[Tensor, Tensor]] = {}
    numbers: list[float] = []
    with _crossings(network) as crossed:
        for share in ends.tolist():
            crossed.clear()
            at = (base + share * (images - base)).requires_grad_(True)
            with torch.enable_grad():
                number = target(network(at))
            numbers.append(float(number.detach()))
            values = {("image", -1): at, **crossed}
            if not number.requires_grad:
                raise InputError("the target does not depend on the image; explain a number of the network's outputs")
            slopes = torch.autograd.grad(number, list(values.values()), allow_unused=True)
            for (key, value), slope in zip(values.items(), slopes, strict=True):
                value, slope = value.detach(), torch.zeros_like(value) if slope is None else slope
                if key in last:  # by the trapezoid rule
                    before, slope_before = last[key]
                    part = (value - before) * (slope + slope_before) / 2
                    sums[key] = sums[key] + part if key in sums else part
                last[key] = value, slope
    image = sums.pop(("image", -1)).sum(1)[0]
    return Relevance(image, numbers[-1] - numbers[0], tuple(_flows(sums)))


def _flows(sums: dict[Any, Tensor]) -> Iterator[Flow]:
    taken = 0.0
    for stage in sorted({stage for _, stage in sums}):
        if ("pixels", stage) in sums:
            of_tokens = sums["semantics", stage][0].sum(-1) if stage >= 0 else torch.zeros(0)
            yield Flow(stage, sums["pixels", stage][0].sum(-1), of_tokens, taken)
        if ("map", stage) in sums:
            taken += float(sums["map", stage].sum())


@contextmanager
def _crossings(model: nn.Module) -> Iterator[dict[tuple[str, int], Tensor]]:
    """Note, in each forward pass within, what crosses the ends of the stages of a Dual-ViT."""
    crossed: dict[tuple[str, int], Tensor] = {}
    handles: list[Any] = []
    try:
        network = network_of(model)
    except InputError:
        yield crossed
        return

    # Each value goes on as a view of itself, whose gradient is that of its later readers alone.
    def stem(module: nn.Module, given: Any, out: Tensor) -> Tensor:
        return note(("pixels", -1), out)

    def stage_end(stage: int) -> Any:
        def hook(module: nn.Module, given: Any, out: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            return note(("pixels", stage), out[0]), note(("semantics", stage), out[1])

        return hook

    def maps(module: Any, given: Any, out: list[Tensor]) -> list[Tensor]:
        return [note(("map", stage), one) for stage, one in zip(module.feature_info.out_indices, out, strict=True)]

    def note(key: tuple[str, int], value: Tensor) -> Tensor:
        crossed[key] = value.view_as(value)
        return crossed[key]

    try:
        handles.append(network.stem.register_forward_hook(stem))
        handles += [one.register_forward_hook(stage_end(index)) for index, one in enumerate(network.stages)]
        for module in model.modules():
            if getattr(module, "model", None) is network and hasattr(module, "feature_info"):
                handles.append(module.register_forward_hook(maps))
        yield crossed
    finally:
        for handle in handles:
            handle.remove()


def relevance(subject: Subject, view: View, found: Found) -> Tensor:
    """Return the relevance of each pixel of the images for a found object or class: (H, W), in logits."""
    return relevance_of(subject.network, view.images, target_of(subject, found)).image
