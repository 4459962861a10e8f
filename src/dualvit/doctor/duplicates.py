"""Pictures that are there twice: byte by byte, or almost, by a perceptual hash that the pixels then confirm."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from dualvit.doctor.looks import Look

DISTANCE = 10  # of 64 bits that two hashes may differ in
# Correlation of two small grey pictures from which they are almost the same, and what each differing bit adds to it.
ALIKE, PER_BIT = 0.92, 0.007
ROWS = 2048  # hashes that are compared with all others at once


def exact_groups(looks: Sequence[Look]) -> list[list[int]]:
    """Return the indices of pictures whose files have the same bytes, in groups of two and more."""
    groups = defaultdict(list)
    for index, look in enumerate(looks):
        if look.digest:
            groups[look.digest].append(index)
    return [group for group in groups.values() if len(group) > 1]


def near_groups(looks: Sequence[Look]) -> list[list[int]]:
    """Return the indices of pictures that are almost the same, in groups; files with the same bytes count as one.

    A picture is in a group if it is almost the same as one of the others.
    """
    firsts = {look.digest: index for index, look in reversed(list(enumerate(looks))) if look.bits is not None}
    chosen = np.array(sorted(firsts.values()), np.int64)
    if len(chosen) < 2:
        return []
    pairs = np.array(list(_pairs([looks[index] for index in chosen])), np.int64).reshape(-1, 2)
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (len(chosen), len(chosen)))
    groups = defaultdict(list)
    for index, group in zip(chosen.tolist(), connected_components(links, directed=False)[1].tolist(), strict=True):
        groups[group].append(index)
    return [group for group in groups.values() if len(group) > 1]


def _pairs(looks: Sequence[Look]) -> Iterator[tuple[int, int]]:
    """Pairs whose hashes and small pictures are close. Hamming distances are products of signs: exact in float32."""
    signs = np.stack([look.bits for look in looks]).astype(np.float32) * 2 - 1  # type: ignore[misc]  # (N, 64)
    thumbs = _normalised(np.stack([look.thumb for look in looks]))  # type: ignore[misc]  # (N, 1024)
    for start in range(0, len(looks), ROWS):
        distances = (signs.shape[1] - signs[start : start + ROWS] @ signs[start:].T) / 2
        rows, columns = np.nonzero(np.triu(distances <= DISTANCE, 1))
        for part in range(0, len(rows), ROWS):
            left, right = start + rows[part : part + ROWS], start + columns[part : part + ROWS]
            apart = distances[rows[part : part + ROWS], columns[part : part + ROWS]]
            alike = np.einsum("ij,ij->i", thumbs[left], thumbs[right]) >= ALIKE + PER_BIT * apart
            yield from zip(left[alike].tolist(), right[alike].tolist(), strict=True)


def _normalised(thumbs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Small pictures as rows with mean 0 and length 1, so that a product of two is their correlation."""
    flat = thumbs.reshape(len(thumbs), -1).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
