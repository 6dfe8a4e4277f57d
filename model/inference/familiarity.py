"""Compute how familiar an image is: the share of held-out training photos that are less like the training photos.

An image's distance is one minus the cosine of its features and those of the fifth nearest of at most 200 training
photos (k nearest neighbours: Sun and others, 2022). Decision 32 compares it with the Mahalanobis distance and the
energy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from model.packaging import familiarity_file

if TYPE_CHECKING:
    from torch import Tensor

NEIGHBOR = 5


class FamiliarityScorer:
    """The references of a bundle on its device."""

    def __init__(self, familiarity: familiarity_file.Familiarity, device: torch.device | str = "cpu") -> None:
        self._references = normalize(familiarity.references.float()).to(device)
        self._distances = familiarity.distances.to(device)

    def __call__(self, features: Tensor) -> Tensor:
        """Return the familiarity [N], 0 to 1, for features [N, D] on the device; NaN for features with NaN."""
        distances = neighbor_distances(normalize(features.float()), self._references)
        last = len(self._distances) - 1
        upper = torch.searchsorted(self._distances, distances).clamp(1, last)
        low, high = self._distances[upper - 1], self._distances[upper]
        step = ((distances - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
        return 1 - (upper - 1 + step) / last


def normalize(features: Tensor) -> Tensor:
    """Scale rows [N, D] to unit length."""
    return functional.normalize(features, dim=1)


def neighbor_distances(features: Tensor, references: Tensor, *, skip_nearest: int = 0) -> Tensor:
    """Return the cosine distance [N] of each row to its fifth nearest reference; both have rows of unit length.

    With fewer references the farthest counts. `skip_nearest` is 1 for rows that are among the references themselves.
    """
    neighbor = min(NEIGHBOR + skip_nearest, len(references))
    return 1 - (features @ references.T).topk(neighbor, dim=1).values[:, -1]
