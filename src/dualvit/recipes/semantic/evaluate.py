"""Scores of a segmentation from counts of pixels."""

from torch import Tensor


def class_ious(counts: Tensor) -> Tensor:
    """Intersection over union of each class, (C,), from a confusion matrix (C, C); NaN for one that does not occur.

    Example:
        >>> import torch
        >>> class_ious(torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]])).tolist()
        [0.75, 0.800000011920929, nan]
    """
    both = counts.diag().float()
    return both / (counts.sum(0) + counts.sum(1) - counts.diag())
