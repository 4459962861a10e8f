"""Bicubic resampling as two products, so that every runtime of an exported network resamples as torch does.

ONNX's Resize takes another place than torch for a grid of one row (pytorch #183523, onnxruntime #11496), and some
formats have no bicubic one.
"""

import torch
from torch import Tensor

from dualvit.models.dual_vit import SemanticSeed

SHARPNESS = -0.75  # of torch's bicubic kernel (Keys, 1981)
SIDE = 8  # of the grid of queries


def cubic_weights(size: int, like: Tensor) -> Tensor:
    """Return the (size, 8) matrix that resamples 8 values to `size` bicubically, as torch without aligned corners.

    Example:
        >>> bool((cubic_weights(8, torch.zeros(())) == torch.eye(8)).all())
        True
        >>> [round(value, 5) for value in cubic_weights(1, torch.zeros(()))[0].tolist()]
        [0.0, 0.0, -0.09375, 0.59375, 0.59375, -0.09375, 0.0, 0.0]
    """
    place = (torch.arange(size, device=like.device).float() + 0.5) * (SIDE / size) - 0.5  # in the 8 values
    value = torch.arange(-2, SIDE + 2, device=like.device)  # two beyond each edge, which repeat it
    far = (place.unsqueeze(1) - value).abs()  # (size, 12)
    a = SHARPNESS
    within = ((a + 2) * far - (a + 3)) * far * far + 1
    beyond = ((a * far - 5 * a) * far + 8 * a) * far - 4 * a
    weights = torch.where(far <= 1, within, torch.where(far < 2, beyond, torch.zeros_like(far)))
    edges = value.clamp(0, SIDE - 1).unsqueeze(1) == torch.arange(SIDE, device=like.device)  # (12, 8)
    return (weights @ edges.float()).to(like.dtype)


class ExactSeed(SemanticSeed):
    """The first semantics, whose queries are resampled by products while they are traced for a file."""

    def spread(self, rows: int, columns: int) -> Tensor:
        if not torch.jit.is_tracing():
            return super().spread(rows, columns)
        rows, columns = self.grid or (rows, columns)  # numbers, if the grid is the same for all images
        grid = self.queries.unflatten(0, (SIDE, SIDE))  # (8, 8, C)
        # Both of three axes: OpenVINO cannot multiply a matrix by three.
        across = torch.matmul(cubic_weights(columns, grid).unsqueeze(0), grid)  # (8, columns, C)
        down = torch.matmul(cubic_weights(rows, grid), across.flatten(1))  # (rows, columns C)
        return down.unflatten(1, (-1, grid.shape[2])).flatten(0, 1).unsqueeze(0)  # (1, rows columns, C)
