"""Find copies of one photo: resized, or compressed again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import sparse
from torch.nn import functional

from model.inference import familiarity

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from model.datasets.dataset import ImageDataset

# Of 538 photos, resized and strongly compressed copies had features with a cosine of at least .72, and the colours of
# 16 x 16 parts of the image differed by at most 2.4; the cosine of different photos reached .84.
MIN_SIMILARITY = 0.7
THUMBNAIL_SIDE = 16
MAX_RMS_DIFFERENCE = 3.0  # of 255
_BLOCK = 1024


def find_pairs(images: ImageDataset, features: Tensor | None = None) -> npt.NDArray[np.int64]:
    """Return the pairs of positions [P, 2], the smaller one first, of images that are nearly the same.

    Args:
        images: the images.
        features: their features [N, D] by a network with published weights, which have to be similar too.
    """
    thumbnails = _thumbnails(images)
    unit = None if features is None else familiarity.normalize(features)
    pairs = [np.empty((0, 2), np.int64)]
    for start in range(0, len(images), _BLOCK):
        same = _are_same(thumbnails[start : start + _BLOCK], thumbnails)
        if unit is not None:
            same &= (unit[start : start + _BLOCK] @ unit.T) >= MIN_SIMILARITY
        found = (same.nonzero() + torch.tensor([start, 0])).numpy()
        pairs.append(found[found[:, 0] < found[:, 1]])
    return np.concatenate(pairs)


def have_copies(images: ImageDataset, others: ImageDataset) -> npt.NDArray[np.bool_]:
    """Return whether each of some images [N] is nearly the same as one of the others."""
    thumbnails, other_thumbnails = _thumbnails(images), _thumbnails(others)
    parts = [_are_same(block, other_thumbnails).any(dim=1) for block in torch.split(thumbnails, _BLOCK)]
    return torch.cat(parts).numpy() if parts else np.empty(0, np.bool_)


def _are_same(thumbnails: Tensor, others: Tensor) -> Tensor:
    """Return whether thumbnails [n, values] differ little from others [m, values], as bool [n, m]."""
    return torch.cdist(thumbnails, others) <= MAX_RMS_DIFFERENCE * math.sqrt(thumbnails.shape[1])


def _thumbnails(images: ImageDataset) -> Tensor:
    """Return the mean colours [n, values] of the parts of each image."""
    rows = [torch.empty(0, 3 * THUMBNAIL_SIDE**2)]
    for position in range(len(images)):
        pixels = torch.from_numpy(images.pixels_at(slice(position, position + 1))).permute(0, 3, 1, 2).float()
        rows.append(functional.adaptive_avg_pool2d(pixels, THUMBNAIL_SIDE).flatten(1))
    return torch.cat(rows)


def group(count: int, pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.int32] | None:
    """Return the group [count] of each position: positions of a pair are in the same one. None without pairs."""
    if not len(pairs):
        return None
    graph = sparse.coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (count, count))
    groups: npt.NDArray[np.int32] = sparse.csgraph.connected_components(graph, directed=False)[1]
    return groups
