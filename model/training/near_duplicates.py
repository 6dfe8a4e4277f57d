"""Find copies of one photo: resized, or compressed again."""

from __future__ import annotations

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


def find_pairs(features: Tensor, images: ImageDataset) -> npt.NDArray[np.int64]:
    """Return the pairs of positions [P, 2], the smaller one first, of images that are nearly the same."""
    unit = familiarity.normalize(features)
    pairs = [np.empty((0, 2), np.int64)]
    for start in range(0, len(unit), _BLOCK):
        similar = (unit[start : start + _BLOCK] @ unit.T) >= MIN_SIMILARITY
        found = (similar.nonzero() + torch.tensor([start, 0])).numpy()
        pairs.append(found[found[:, 0] < found[:, 1]])
    candidates = np.concatenate(pairs)
    positions = np.unique(candidates)
    thumbnails = _thumbnails(images, positions)
    first, second = np.searchsorted(positions, candidates).T
    differences = np.sqrt(((thumbnails[first] - thumbnails[second]) ** 2).mean(axis=1))
    same: npt.NDArray[np.int64] = candidates[differences <= MAX_RMS_DIFFERENCE]
    return same


def _thumbnails(images: ImageDataset, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return the mean colours [n, values] of the parts of some images."""
    rows = [np.empty((0, 3 * THUMBNAIL_SIDE**2), np.float32)]
    for position in positions:
        pixels = torch.from_numpy(images.pixels_at(slice(position, position + 1))).permute(0, 3, 1, 2).float()
        rows.append(functional.adaptive_avg_pool2d(pixels, THUMBNAIL_SIDE).flatten(1).numpy())
    return np.concatenate(rows)


def group(count: int, pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Return the group [count] of each position: positions of a pair are in the same one."""
    graph = sparse.coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (count, count))
    groups: npt.NDArray[np.int32] = sparse.csgraph.connected_components(graph, directed=False)[1]
    return groups
