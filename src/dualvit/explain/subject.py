"""A model that is explained, behind one interface: YOLO, torchvision's detectors of recipes, and classifiers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import batched_nms, box_iou
from torchvision.transforms.v2.functional import pil_to_tensor

from dualvit.backbones.maps import moments as moments_of

Target = Callable[[Any], Tensor]  # from a network's outputs to the number that is explained
CONFIDENCE = 0.25  # from which a box counts as found


def enlarged(values: Tensor, size: Sequence[int]) -> Tensor:
    """Return a map (h, w) at another size (H, W), bilinear; one of that size stays."""
    if tuple(values.shape) == tuple(size):
        return values.float()
    return F.interpolate(values[None, None].float(), tuple(size), mode="bilinear", align_corners=False)[0, 0]


@dataclass(frozen=True)
class View:
    """A picture as a network sees it.

    Attributes:
        images: (1, 3, H, W), scaled and normalised as the network takes it.
        content: Left, top, right and bottom of the picture within the images, in their pixels.
        size: Width and height of the picture itself.
    """

    images: Tensor
    content: tuple[int, int, int, int]
    size: tuple[int, int]

    def on_picture(self, values: Tensor) -> Tensor:
        """Bring a map over the images, (h, w) of any resolution, to the picture: (height, width), bilinear."""
        left, top, right, bottom = self.content
        width, height = self.size
        return enlarged(enlarged(values, self.images.shape[2:])[top:bottom, left:right], (height, width))

    def box_on_picture(self, box: Sequence[float]) -> tuple[float, float, float, float]:
        """Bring a box in pixels of the images to pixels of the picture, within its edges."""
        left, top, right, bottom = self.content
        across, down = self.size[0] / (right - left), self.size[1] / (bottom - top)
        x1, x2 = ((min(max(x, left), right) - left) * across for x in (box[0], box[2]))
        y1, y2 = ((min(max(y, top), bottom) - top) * down for y in (box[1], box[3]))
        return x1, y1, x2, y2


@dataclass(frozen=True)
class Answers:
    """What a network says of one image; gradients flow through it.

    Attributes:
        boxes: (N, 4), x1 y1 x2 y2 in pixels of the image; None of a classifier, whose N is 1.
        scores: (N, C), between 0 and 1.
        logits: (N, C), what the scores are made of.
    """

    boxes: Tensor | None
    scores: Tensor
    logits: Tensor


@dataclass(frozen=True)
class Found:
    """An object that was found, or a class of a classifier.

    Attributes:
        label, name: The class: its number and what it is called.
        score: Between 0 and 1.
        index: The row of `Answers`.
        box: x1 y1 x2 y2 in pixels of the images; None of a classifier.
        target: Any other number of the outputs, which `score` is then; label and index say nothing.
    """

    label: int
    name: str
    score: float
    index: int
    box: tuple[float, float, float, float] | None = None
    target: Target | None = None


class Subject(Protocol):
    """A network, how pictures go into it, and what its outputs mean.

    Attributes:
        network: In evaluation mode; `network(images)` gives the outputs that targets take.
        classes: Their names.
        detects: Whether it finds boxes.
    """

    network: nn.Module
    classes: tuple[str, ...]
    detects: bool

    def view(self, picture: Image.Image) -> View:
        """Turn an RGB picture into the network's input."""

    def answers(self, outputs: Any) -> list[Answers]:
        """Read the network's outputs, an entry per image."""

    def found(self, answers: Answers, confidence: float = CONFIDENCE) -> list[Found]:
        """Return the objects of an image, or the classes of a classifier, the surest first."""

    def masks(self, outputs: Any, found: Sequence[Found]) -> list[Tensor]:
        """Return what each object of the first image covers: (h, w) over the images, positive within; none is none."""


def target_of(subject: Subject, found: Found) -> Target:
    """Return the target that explains one found object or class: its logit in the first image, or its own target.

    Example:
        >>> import dualvit
        >>> subject = Classifier(dualvit.create_model("dualvit_n", num_classes=3).eval(), ("a", "b", "c"), 64)
        >>> outputs = subject.network(torch.zeros(1, 3, 64, 64))
        >>> found = subject.found(subject.answers(outputs)[0])[0]
        >>> float(target_of(subject, found)(outputs)) == float(outputs.max())
        True
    """
    return found.target or (lambda outputs: subject.answers(outputs)[0].logits[found.index, found.label])


@torch.no_grad()
def own_scores(subject: Subject, images: Tensor, found: Found) -> Tensor:
    """Return the score of a found object or class in other images, such as masked ones: (B, 3, H, W) to (B,).

    Of a detector, it is the largest product of IoU with the box and score of the class, over all boxes of an image:
    the similarity of D-RISE (Petsiuk et al., 2021, arXiv 2006.03204, section 3.3) without the other classes' scores.
    A target of its own is the score by itself.
    """
    if found.target is not None:
        return torch.stack([found.target(subject.network(one)).reshape(()) for one in images.split(1)])
    return torch.stack([_own_score(answers, found) for answers in subject.answers(subject.network(images))])


def _own_score(answers: Answers, found: Found) -> Tensor:
    scores = answers.scores[:, found.label]
    if answers.boxes is None:
        return scores[0]
    if not len(scores):
        return scores.new_zeros(())
    overlaps = box_iou(answers.boxes, answers.boxes.new_tensor([found.box]))[:, 0]
    return (overlaps * scores).max()


class Classifier:
    """A classifier: a timm model, or the network of a recipe's checkpoint.

    Args:
        network: Images to logits (B, C).
        classes: Names; numbers if left out.
        image_size: Height and width of its input.
        crop_pct: Share of the picture that is seen.
        moments: Mean and deviation per channel; those of the timm model if left out.
    """

    detects = False

    def __init__(
        self, network: nn.Module, classes: Sequence[str] = (), image_size: int = 224, crop_pct: float = 1.0,
        moments: Any = None,
    ) -> None:  # fmt: skip
        self.network = network.eval()
        count = int(getattr(network, "num_classes", len(classes)))
        self.classes = tuple(classes) or tuple(str(index) for index in range(count))
        self.image_size, self.crop_pct = image_size, crop_pct
        self.moments: tuple[Sequence[float], Sequence[float]] = moments or moments_of(network)

    def view(self, picture: Image.Image) -> View:
        """Resize the shorter side, and cut the middle out."""
        width, height = picture.size
        side = min(width, height) * self.crop_pct
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        small = picture.resize((self.image_size, self.image_size), Image.Resampling.BICUBIC, box)
        images = as_tensor(small)
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in self.moments)
        scale = self.image_size / side  # the picture's edges lie outside of the images, unless all of it is seen
        edges = (-left * scale, -top * scale, (width - left) * scale, (height - top) * scale)
        return CroppedView((images - mean) / std, _whole(edges), (width, height))

    def answers(self, outputs: Any) -> list[Answers]:
        """Take the logits, of a pair the first."""
        logits = outputs if isinstance(outputs, Tensor) else outputs[0]
        return [Answers(None, row.softmax(1), row) for row in logits.split(1)]

    def found(self, answers: Answers, confidence: float = 0.0) -> list[Found]:
        """Return the classes by their probability."""
        scores = answers.scores[0]
        order = scores.argsort(descending=True).tolist()
        return [
            Found(label, self.classes[label], float(scores[label]), 0)
            for label in order
            if float(scores[label]) >= confidence
        ]

    def masks(self, outputs: Any, found: Sequence[Found]) -> list[Tensor]:
        """Return none."""
        return []


def _whole(edges: Sequence[float]) -> tuple[int, int, int, int]:
    left, top, right, bottom = (round(edge) for edge in edges)
    return left, top, right, bottom


class CroppedView(View):
    """A view that shows the middle of a picture; maps are 0 where nothing was seen."""

    def on_picture(self, values: Tensor) -> Tensor:
        """Bring a map to the picture: what lies outside of the crop is 0."""
        left, top, right, bottom = self.content
        height, width = self.images.shape[2:]
        padded = F.pad(enlarged(values, (height, width)), (-left, right - width, -top, bottom - height))
        return enlarged(padded, (self.size[1], self.size[0]))


def boxes_of(answers: Answers, classes: Sequence[str], confidence: float, suppress: bool = True) -> list[Found]:
    """Return the boxes above a confidence, the surest first; of those that overlap by 0.6 in a class the surest."""
    scores, labels = answers.scores.detach().max(1)
    boxes: Any = answers.boxes.detach() if answers.boxes is not None else None
    keep = (scores >= confidence).nonzero()[:, 0]
    if suppress:
        keep = keep[batched_nms(boxes[keep], scores[keep], labels[keep], 0.6)]
    else:
        keep = keep[scores[keep].argsort(descending=True)]
    return [
        Found(int(labels[i]), classes[int(labels[i])], float(scores[i]), int(i), tuple(boxes[i].tolist())) for i in keep
    ]


def as_tensor(picture: Image.Image) -> Tensor:
    """Return a picture as (1, 3, H, W) between 0 and 1."""
    return pil_to_tensor(picture.convert("RGB"))[None].float() / 255
