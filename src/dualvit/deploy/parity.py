"""How far an exported file's answers are from the network's own: per output, at several batches and sizes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from dualvit.deploy.runtimes import Array, Run, disagreement, flat
from dualvit.deploy.sources import Source

LIMIT = 1e-4
LEAST_SCORES = (0.25, 0.001)  # boxes above the first are matched; if a network has none, those above the second
SAME_BOX = 0.99  # IoU of a box and its partner
SAME_SCORE = 1e-3
SAME_EDGES = 0.01  # pixels: so are those without an area, which have no IoU


@dataclass(frozen=True)
class Row:
    """One output of a file at one shape, beside the network's own.

    Attributes:
        shape: Of the input, (B, 3, H, W).
        output: Its name.
        max_error, mean_error: Of the absolute differences.
        error: The largest difference, each divided by 1 + |expected|: what the limit is for. Pixels of boxes are
            hundreds, and float32 knows them to a ten-thousandth.
    """

    shape: tuple[int, ...]
    output: str
    max_error: float
    mean_error: float
    error: float


@dataclass(frozen=True)
class Parity:
    """A file in a runtime, beside the network.

    Attributes:
        runtime: Its name and version.
        precision: That ran, as the runtime says it.
        rows: Of each shape and output.
        boxes: The network's boxes after NMS, and how many of them have a partner in the file's; None without boxes.
    """

    runtime: str
    precision: str
    rows: tuple[Row, ...]
    boxes: tuple[int, int] | None = None

    @property
    def error(self) -> float:
        """The largest error of all rows."""
        return max(row.error for row in self.rows)

    def within(self, limit: float) -> bool:
        """Whether all errors are at most the limit, and all boxes have a partner."""
        return self.error <= limit and (self.boxes is None or self.boxes[0] == self.boxes[1])


@dataclass(frozen=True)
class Question:
    """A batch of pictures, and what the network says of it."""

    images: Tensor
    expected: list[Tensor]


@torch.no_grad()
def ask(source: Source) -> list[Question]:
    """Return the questions that each file of a network is asked, with the network's own answers, in eager PyTorch."""
    generator = torch.Generator().manual_seed(0)
    questions = []
    for shape in source.shapes:
        images = pictures(shape, generator) if source.unit else torch.randn(shape, generator=generator)
        questions.append(Question(images, flat(source.network(images))))
    return questions


def pictures(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return drawn pictures (B, 3, H, W) of numbers from 0 to 1: bright rectangles on a noisy ground."""
    height, width = shape[2:]
    images = 0.4 + 0.1 * torch.rand(*shape, generator=generator)
    for image in images:
        for _ in range(8):
            top, left, tall, wide = torch.rand(4, generator=generator).tolist()
            rows, columns = int(height * (0.1 + 0.4 * tall)), int(width * (0.1 + 0.4 * wide))
            top, left = int(top * (height - rows)), int(left * (width - columns))
            image[:, top : top + rows, left : left + columns] = torch.rand(3, 1, 1, generator=generator)
    return images


def compare(source: Source, run: Run, questions: Sequence[Question], runtime: str, precision: str) -> Parity:
    """Ask a file, and compare its answers with the network's.

    Boxes of torchvision's detectors come in the order of their scores, which rounding may change: each is compared with
    its partner.
    """
    rows, total, found = [], 0, 0
    for question in questions:
        expected = question.expected
        answers = [torch.from_numpy(np.array(one)) for one in run(question.images.numpy())]
        listed = source.metadata.head == "torchvision" and len(answers) == len(expected) and answers[0].ndim == 2
        if len(answers) != len(expected):
            answers = [torch.full((1,), torch.nan)] * len(expected)
        if source.boxes is not None and (listed or [a.shape for a in answers] == [e.shape for e in expected]):
            more, partners = match(source, expected, answers)
            total, found = total + more, found + partners
        if source.boxes is not None and listed:
            pairs = paired(*(source.boxes(outputs, -1.0)[0] for outputs in (expected, answers)))
            places = [[pair[side] for pair in pairs] for side in (0, 1)]
            expected, answers = ([one[places[side]] for one in some] for side, some in enumerate((expected, answers)))
        for name, answer, one in zip(source.metadata.outputs, answers, expected, strict=True):
            rows.append(compare_output(tuple(question.images.shape), name, answer.numpy(), one.numpy()))
    return Parity(runtime, precision, tuple(rows), None if source.boxes is None else (total, found))


def compare_output(shape: tuple[int, ...], name: str, answer: Array, expected: Array) -> Row:
    """Return the errors of one output; another shape, or NaN, is infinitely far."""
    error = disagreement([answer], [expected])
    if error == float("inf") or not expected.size:
        return Row(shape, name, error, error, error)
    far = np.abs(answer.astype(np.float64) - expected.astype(np.float64))
    return Row(shape, name, float(far.max()), float(far.mean()), error)


def match(source: Source, expected: list[Tensor], answers: list[Tensor]) -> tuple[int, int]:
    """Return how many boxes the network has after NMS, and how many of them are the file's, one to one.

    The threshold of the scores lies in their widest gap near `LEAST_SCORES`: at a box's own score, rounding would
    decide whether it is there.
    """
    assert source.boxes is not None
    for least in LEAST_SCORES:
        scores = torch.cat([rows[:, 4] for rows in source.boxes(expected, least)])
        if len(scores):
            break
    least = gap_above(scores, least)
    total = found = 0
    for own, other in zip(source.boxes(expected, least), source.boxes(answers, least), strict=True):
        total += max(len(own), len(other))
        found += len(paired(own, other))
    return total, found


def gap_above(scores: Tensor, least: float) -> float:
    """Return a threshold in the widest gap between the lowest scores, so that most stay above it.

    Example:
        >>> round(gap_above(torch.tensor([0.3, 0.301, 0.9, 0.8]), 0.25), 4)
        0.275
    """
    lowest = torch.cat([torch.tensor([least]), scores.float()]).sort().values
    lowest = lowest[: max(2, len(lowest) // 4)]
    if len(lowest) < 2:
        return least
    place = int(lowest.diff().argmax())
    return float(lowest[place : place + 2].mean())


def paired(own: Tensor, other: Tensor) -> list[tuple[int, int]]:
    """Return the places of boxes (N, 6) and of their partners among the others: of one class, place and score.

    Each is taken once, by the nearest of its score and edges.

    Example:
        >>> boxes = torch.tensor([[0.0, 0, 9, 9, 0.8, 0], [0, 0, 9, 9, 0.7999, 0]])
        >>> paired(boxes, boxes.flip(0))
        [(0, 1), (1, 0)]
    """
    if not len(own) or not len(other):
        return []
    apart = (own[:, None] - other[None]).abs()  # (N, M, 6)
    same = (box_iou(own[:, :4], other[:, :4]) >= SAME_BOX) | (apart[..., :4].amax(2) <= SAME_EDGES)
    same &= (apart[..., 4] < SAME_SCORE) & (apart[..., 5] == 0)
    far = apart[..., :5].sum(2).masked_fill(~same, torch.inf)
    pairs = []
    for place, row in enumerate(far):
        best = int(row.argmin())
        if row[best] < torch.inf:
            pairs.append((place, best))
            far[:, best] = torch.inf
    return pairs
