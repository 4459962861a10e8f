"""torchvision's RetinaNet and Mask R-CNN on a feature pyramid over any timm backbone."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from dualvit.backbones.recompute import recompute_blocks
from dualvit.backbones.timm_model import BackbonePlan, as_maps, layer_ids, never_decayed, plan_backbone
from dualvit.recipes.config import Network
from dualvit.recipes.detect.config import DetectRecipe, Head
from dualvit.recipes.network import load_weights, weights_file

GROUPS = 32
RATIOS = (0.5, 1.0, 2.0)
Target = Mapping[str, Tensor]


class FeatureMaps(nn.Module):
    """A timm backbone and a feature pyramid: images (B, 3, H, W) to maps (B, C, H / stride, W / stride), by name.

    Args:
        network: The backbone's settings.
        strides: Of the backbone's maps.
        channels: Of the pyramid.
        coarser: From the number of channels of the last map to the block that makes the coarser ones.
        norm: Makes a norm layer for so many channels; None makes none.
    """

    def __init__(
        self, network: Network, strides: tuple[int, ...], channels: int,
        coarser: Callable[[int], nn.Module], norm: Callable[[int], nn.Module] | None,
    ) -> None:  # fmt: skip
        super().__init__()
        options = dict(network.options) | ({"drop_path_rate": network.drop_path} if network.drop_path else {})
        self.plan: BackbonePlan = plan_backbone(network.name, options, strides)
        self.body = self.plan.build()
        if (weights := weights_file(network)) is not None:
            load_weights(self.body, weights, self.plan.full_network())
        recompute_blocks(self.body, network.grad_checkpointing)
        self.fpn = FeaturePyramidNetwork(self.plan.channels, channels, coarser(self.plan.channels[-1]), norm)
        self.out_channels = channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = as_maps(self.body(images), self.plan.channels_last)
        pyramid: dict[str, Tensor] = self.fpn({str(index): one for index, one in enumerate(maps)})
        return pyramid


class Detector(nn.Module):
    """RetinaNet or Mask R-CNN, as the recipe says.

    In training: (images, targets) to the parts of the loss. Else: images to a dictionary each, of boxes (N, 4) in
    the pixels of the image before any resizing, labels (N,), scores (N,), and masks (N, 1, H, W) of probabilities.
    Images are lists of float (3, H, W) between 0 and 1; labels count from 0.
    """

    def __init__(self, recipe: DetectRecipe, classes: int) -> None:
        super().__init__()
        build = {"retinanet": _retinanet, "mask-rcnn": _mask_rcnn}[recipe.detector]
        sizes = {"min_size": recipe.data.sides, "max_size": recipe.data.long_side}
        self.first_label = int(recipe.detector == "mask-rcnn")  # there, 0 is the background
        self.model: nn.Module = build(recipe.network, recipe.head, classes, sizes)

    @property
    def feature_maps(self) -> FeatureMaps:
        """The backbone and its feature pyramid."""
        maps: FeatureMaps = self.model.backbone  # type: ignore[assignment]
        return maps

    def forward(self, images: Sequence[Tensor], targets: Sequence[Target] | None = None) -> Any:
        if targets is not None:
            targets = [{**target, "labels": target["labels"] + self.first_label} for target in targets]
            return self.model(list(images), targets)
        return [{**answer, "labels": answer["labels"] - self.first_label} for answer in self.model(list(images))]

    # ---- what timm's optimizers ask a model

    def no_weight_decay(self) -> set[str]:
        """Parameters of the backbone that timm exempts from weight decay."""
        names = never_decayed(self.feature_maps.body, self.feature_maps.plan.full_network())
        return {f"model.backbone.body.{name}" for name in names}

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """The layer of a parameter: timm's layers of the backbone, and all of the detector above them."""
        layers = layer_ids(self.feature_maps.body, self.feature_maps.plan.full_network())
        top = max(layers.values()) + 1
        return lambda name: layers.get(name.removeprefix("model.backbone.body."), top)


def _retinanet(network: Network, head: Head, classes: int, sizes: dict[str, Any]) -> nn.Module:
    """P3 to P7; three anchors of each ratio, a third of an octave apart."""
    norm = _norm(head)
    maps = FeatureMaps(network, (8, 16, 32), head.channels, lambda last: LastLevelP6P7(last, head.channels), norm)
    anchors = tuple(
        tuple(int(head.anchor * 2 ** (level + third / 3)) for third in range(3)) for level in range(5)
    )  # fmt: skip
    generator = AnchorGenerator(anchors, (RATIOS,) * 5)
    return RetinaNet(
        maps, classes, **sizes, anchor_generator=generator,
        head=RetinaNetHead(head.channels, 3 * len(RATIOS), classes, norm_layer=norm),
        score_thresh=head.score, detections_per_img=head.detections,
    )  # fmt: skip


def _mask_rcnn(network: Network, head: Head, classes: int, sizes: dict[str, Any]) -> nn.Module:
    """P2 to P5 for the heads, and a pooled P6 for proposals."""
    norm = _norm(head)
    maps = FeatureMaps(network, (4, 8, 16, 32), head.channels, lambda _: LastLevelMaxPool(), norm)
    anchors = tuple((head.anchor * 2**level,) for level in range(5))
    return MaskRCNN(
        maps, **sizes, rpn_anchor_generator=AnchorGenerator(anchors, (RATIOS,) * 5),
        rpn_post_nms_top_n_train=1000,
        box_head=TwoMLPHead(head.channels * 7 * 7, 4 * head.channels),
        box_predictor=FastRCNNPredictor(4 * head.channels, classes + 1),
        mask_head=MaskRCNNHeads(head.channels, (head.channels,) * 4, 1, norm_layer=norm),
        mask_predictor=MaskRCNNPredictor(head.channels, head.channels, classes + 1),
        box_batch_size_per_image=head.rois, box_score_thresh=head.score, box_detections_per_img=head.detections,
    )  # fmt: skip


def _norm(head: Head) -> Callable[[int], nn.Module] | None:
    return partial(nn.GroupNorm, min(GROUPS, head.channels // 4)) if head.norm == "group" else None
