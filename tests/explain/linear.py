"""Networks whose true evidence is known, as subjects: tests ask methods about them."""

import torch
from PIL import Image
from torch import nn

from dualvit.explain.subject import Answers, Found, View, as_tensor

SIZE = 32
BLOCK = (slice(8, 16), slice(20, 28))  # rows and columns of the pixels that decide
BOX = (20.0, 8.0, 28.0, 16.0)  # the same as x1 y1 x2 y2


class BlockReader(nn.Module):
    """The score is the mean of the first channel in the block: (B, 3, H, W) to (B,)."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))
        self.batches = []

    def forward(self, images):
        self.batches.append(len(images))
        return self.gain * images[:, 0, *BLOCK].mean((1, 2))


class LinearDetector:
    """Finds one box, the block, whose score is linear in its pixels."""

    detects = True
    classes = ("block",)

    def __init__(self):
        self.network = BlockReader().eval()

    def view(self, picture):
        raise NotImplementedError

    def answers(self, outputs):
        box = torch.tensor([BOX])
        return [Answers(box, score.clamp(0, 1).view(1, 1), score.view(1, 1)) for score in outputs]

    def found(self, answers, confidence=0.25):
        return [Found(0, "block", float(answers.scores[0, 0]), 0, BOX)]


def bright_view():
    """A picture of noise, dark but for the block, which is bright."""
    images = 0.1 * torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    images[:, :, *BLOCK] += 0.8
    return View(images, (0, 0, SIZE, SIZE), (SIZE, SIZE))


def true_map():
    """The evidence: 1 in the block, 0 elsewhere."""
    values = torch.zeros(SIZE, SIZE)
    values[BLOCK] = 1
    return values


FOUND = Found(0, "block", 0.85, 0, BOX)


LEFT, RIGHT = (2.0, 8.0, 10.0, 16.0), (20.0, 8.0, 28.0, 16.0)


class TwoBlocks(nn.Module):
    """How red two blocks of a picture are: (B, 3, 32, 32) to (B, 2)."""

    def forward(self, images):
        return torch.stack([images[:, 0, 8:16, first : first + 8].mean((1, 2)) for first in (2, 20)], 1)


class PairDetector(LinearDetector):
    """Finds up to two boxes, one per class, in pictures of any size, which it sees at 32x32."""

    classes = ("left", "right")

    def __init__(self):
        self.network = TwoBlocks().eval()

    def view(self, picture):
        small = picture.resize((SIZE, SIZE), Image.Resampling.NEAREST)
        return View(as_tensor(small), (0, 0, SIZE, SIZE), picture.size)

    def answers(self, outputs):
        return [Answers(torch.tensor([LEFT, RIGHT]), row.diag(), row.diag()) for row in outputs]

    def found(self, answers, confidence=0.25):
        boxes = [Found(i, self.classes[i], float(answers.scores[i, i]), i, (LEFT, RIGHT)[i]) for i in range(2)]
        return sorted((one for one in boxes if one.score >= confidence), key=lambda one: -one.score)


def pair_picture(left=255, right=128):
    """A dark picture, 64x64, whose two blocks are as red as told."""
    picture = Image.new("RGB", (64, 64), (0, 40, 40))
    picture.paste((left, 0, 0), (4, 16, 20, 32))
    picture.paste((right, 0, 0), (40, 16, 56, 32))
    return picture
