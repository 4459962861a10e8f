"""Class activation maps of the package grad-cam, for the logit of one box or class of any network here.

grad-cam asks a model for rows of outputs and reads maps of modules that return one tensor. A detector has neither: so
the number that is explained becomes a model of one output, and taps are put where its head reads its maps.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from dualvit.errors import InputError, MissingExtraError
from dualvit.explain.subject import Found, Subject, Target, View, enlarged, target_of

FINEST = 3  # maps from the coarsest on: at strides 8, 16 and 32


class Tap(nn.Module):
    """Hands a map on, (B, C, H, W), so that hooks find it."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.view_as(pixels)


class Number(nn.Module):
    """The number that is explained, as a model: images (1, 3, H, W) to a scalar."""

    def __init__(self, network: nn.Module, target: Target) -> None:
        super().__init__()
        self.network, self.target = network, target

    def forward(self, images: Tensor) -> Tensor:
        return self.target(self.network(images))


def layer_cam(subject: Subject, view: View, found: Found) -> Tensor:
    """Return the LayerCAM of an object's logit (Jiang et al., 2021): (H, W) of the images, in logits per pixel.

    Each map times its gradient where that is positive, summed over the channels, and over the maps that the head
    reads. A map's sum does not change when it is enlarged.

    Raises:
        ValueError: the network has no such maps, or no gradient reaches them.
        ModuleNotFoundError: grad-cam is not installed.
    """
    maps = _raw_maps("LayerCAM", subject, view, found)
    size = tuple(view.images.shape[2:])
    cells = [enlarged(one, size) * (one.numel() / (size[0] * size[1])) for one in maps]
    return torch.stack(cells).sum(0)


def eigen_cam(subject: Subject, view: View, found: Found) -> Tensor:
    """Return the EigenCAM (Muhammad and Yeasin, 2020, arXiv 2008.00299): (H, W) of the images, between 0 and 1.

    The first principal component of each map that the head reads. Layers have no common unit, so each counts as a
    share of its largest value. It is the same for every object of a picture, since it asks for no output.

    Raises:
        ValueError: the network has no such maps.
        ModuleNotFoundError: grad-cam is not installed.
    """
    size = tuple(view.images.shape[2:])
    maps = [enlarged(one, size) for one in _raw_maps("EigenCAM", subject, view, found)]
    return torch.stack([one / one.max().clamp(min=torch.finfo(one.dtype).tiny) for one in maps]).mean(0)


def _raw_maps(name: str, subject: Subject, view: View, found: Found) -> list[Tensor]:
    """Run one of grad-cam's classes, and return its map of each tap, unscaled, and 0 where it is negative: (h, w)."""
    kind = _kinds()[name]
    number = Number(subject.network, target_of(subject, found))
    images = view.images.clone().requires_grad_()
    with frozen(number), torch.enable_grad(), tapped(subject.network) as taps:
        cams = [kind(number, [tap]) for tap in taps]  # one each: a map without a gradient would shift the others'
        try:
            answer = number(images)
            if cams[0].uses_gradients:
                answer.backward()
            maps = [_raw_map(cam, tap, images) for cam, tap in zip(cams, taps, strict=True)]
        finally:
            for cam in cams:
                cam.activations_and_grads.release()
    if cams[0].uses_gradients and all(one is None for one in maps):
        raise InputError(f"no gradient of {found.name} reaches the maps that the head reads; take another method")
    return [one if one is not None else torch.zeros(1, 1) for one in maps]


def _raw_map(cam: Any, tap: nn.Module, images: Tensor) -> Tensor | None:
    store = cam.activations_and_grads
    if cam.uses_gradients and not store.gradients:
        return None
    grads = store.gradients[0].numpy() if store.gradients else None
    values = cam.get_cam_image(images, tap, None, store.activations[0].numpy(), grads, False)[0]
    return torch.from_numpy(np.maximum(values, 0)).float()


def _kinds() -> dict[str, Any]:
    try:
        from pytorch_grad_cam import EigenCAM, LayerCAM
    except ModuleNotFoundError:
        raise MissingExtraError("LayerCAM and EigenCAM need grad-cam; install dualvit[explain]") from None

    class ThinEigenCAM(EigenCAM):  # type: ignore[misc]
        """EigenCAM whose memory is that of the map; the package asks for all left vectors, cells by cells."""

        def get_cam_image(self, images: Any, layer: Any, targets: Any, activations: Any, *_: Any) -> Any:
            flat = activations.reshape(*activations.shape[:2], -1).transpose(0, 2, 1)  # (B, cells, C)
            flat = flat - flat.mean(1, keepdims=True)
            rows = np.linalg.svd(flat, full_matrices=False)[2][:, 0]  # (B, C)
            return np.einsum("bnc,bc->bn", flat, rows).reshape(len(flat), *activations.shape[2:])

    return {"LayerCAM": LayerCAM, "EigenCAM": ThinEigenCAM}


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Ask for no gradients of the parameters meanwhile."""
    asked = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in asked:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asked:
            parameter.requires_grad_(True)


@contextmanager
def tapped(network: nn.Module) -> Iterator[list[nn.Module]]:
    """Put taps where a head reads its maps; yields them from the finest map on.

    Of Ultralytics' models they are the inputs of the head, of torchvision's detectors those of the feature pyramid at
    strides 8, 16 and 32, of timm's classifiers the last stage's map.

    Raises:
        ValueError: the network is of none of these kinds.
    """
    taps, handle = _attached(network)
    try:
        yield taps
    finally:
        handle.remove()


def _attached(network: nn.Module) -> tuple[list[nn.Module], Any]:
    taps: list[nn.Module]
    rows: Any = getattr(network, "model", None)
    if isinstance(rows, nn.Sequential) and hasattr(rows[-1], "f"):
        sources = rows[-1].f
        taps = [Tap() for _ in (sources if isinstance(sources, list) else [sources])]
        return taps, rows[-1].register_forward_pre_hook(_before(taps))
    for module in network.modules():
        if isinstance(module, FeaturePyramidNetwork):
            taps = [Tap() for _ in range(min(FINEST, len(module.inner_blocks)))]
            return taps, module.register_forward_pre_hook(_before(taps))
    info: Any = getattr(network, "feature_info", None)
    if info:
        taps, last = [Tap()], network.get_submodule(info[-1]["module"])
        return taps, last.register_forward_hook(_behind(taps[0], getattr(network, "output_fmt", "NCHW") == "NHWC"))
    raise InputError(
        f"{type(network).__name__} has no maps that are known here: it is no YOLO, no torchvision detector with a "
        "feature pyramid and no timm classifier; take another method"
    )


def _before(taps: list[nn.Module]) -> Callable[..., Any]:
    """A hook that leads the coarsest maps of a module's first argument, a tensor, list or dictionary, through taps."""

    def hook(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        given = args[0]
        maps = list(given.values()) if isinstance(given, dict) else list(given) if isinstance(given, list) else [given]
        first = len(maps) - len(taps)
        maps = maps[:first] + [tap(one) for tap, one in zip(taps, maps[first:], strict=True)]
        if isinstance(given, dict):
            return (type(given)(zip(given, maps, strict=True)), *args[1:])
        return (maps if isinstance(given, list) else maps[0], *args[1:])

    return hook


def _behind(tap: nn.Module, channels_last: bool) -> Callable[..., Any]:
    """A hook that leads a module's map, alone or the first of several outputs, through a tap."""

    def hook(module: nn.Module, _: Any, outputs: Any) -> Any:
        pixels = outputs[0] if isinstance(outputs, tuple) else outputs
        if pixels.ndim != 4:
            raise InputError(f"{type(module).__name__} gives no map (B, C, H, W); take another method")
        pixels = tap(pixels.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) if channels_last else tap(pixels)
        return (pixels, *outputs[1:]) if isinstance(outputs, tuple) else pixels

    return hook
