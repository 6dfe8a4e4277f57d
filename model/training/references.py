"""Choose the training photos that familiarity is measured by, and the distances of held-out photos to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from model.inference import familiarity
from model.networks import heads
from model.packaging import familiarity_file
from model.training import features

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor, nn

    from model.datasets.dataset import ImageDataset
    from model.training.trainer import RunContext, TrainingTask

MIN_COUNT, PER_CLASS = 200, 5


def choose(images: ImageDataset, seed: int) -> npt.NDArray[np.int64]:
    """Return the positions of at most 200 images, or 5 for each class if that is more, in random order."""
    count = min(max(MIN_COUNT, PER_CLASS * len(images.labels)), familiarity_file.MAX_REFERENCES, len(images))
    order = np.random.default_rng(seed).permutation(len(images))
    if count == len(images):
        return order
    # The first images of each class, then the second ones and so on, so that every class is represented.
    rank = np.zeros(len(images), np.int64)
    for index in range(len(images.labels)):
        of_class = order[images.targets[order] == index]
        rank[of_class] = np.arange(len(of_class))
    return order[np.argsort(rank[order], kind="stable")][:count]


def leave_one_out_distances(image_features: Tensor, chosen: npt.NDArray[np.int64]) -> Tensor:
    """Return the distance of each image to the references among the others; for features that no image was used for."""
    unit = familiarity.normalize(image_features)
    is_reference = torch.zeros(len(unit), dtype=torch.bool)
    is_reference[torch.from_numpy(chosen)] = True
    others = familiarity.neighbor_distances(unit, unit[is_reference])
    references = familiarity.neighbor_distances(unit[is_reference], unit[is_reference], skip_nearest=1)
    others[is_reference] = references
    return others


def fold_distances(
    network: nn.Module, training: ImageDataset, held_out: ImageDataset, task: TrainingTask, context: RunContext
) -> Tensor:
    """Return the distances of held-out images to references among the images that the network was trained on.

    They are NaN for a network without a head.
    """
    if not heads.has_features(network, len(training.labels)):
        return torch.full((len(held_out),), torch.nan)
    chosen = training.subset(choose(training, task.seed))
    reference_features, held_out_features = (
        familiarity.normalize(features.compute(network, images, task.preprocess, context))
        for images in (chosen, held_out)
    )
    return familiarity.neighbor_distances(held_out_features, reference_features)


def describe(
    reference_features: Tensor,
    distances: Tensor,
    images: ImageDataset,
    predicted: npt.NDArray[np.int64],
    extra: ImageDataset | None,
) -> familiarity_file.Familiarity:
    """Return what a bundle stores.

    Args:
        reference_features: float32 [R, D] of the chosen photos.
        distances: float32 [N] of held-out photos.
        images: the training photos.
        predicted: the class of each photo by a network that was trained without it.
        extra: photos that were never held out.
    """
    scaled = reference_features / reference_features.abs().amax(dim=1, keepdim=True).clamp_min(1e-12)
    percentiles = torch.linspace(0, 1, familiarity_file.QUANTILES, dtype=torch.float64)
    digests = (*images.digests, *(extra.digests if extra else ()))
    known = len(digests) if len(digests) <= familiarity_file.MAX_PHOTOS else 0
    prefixes = b"".join(bytes.fromhex(digest)[: familiarity_file.DIGEST_BYTES] for digest in digests[:known])
    labels = np.append(predicted, np.full(len(digests) - len(images), -1))
    return familiarity_file.Familiarity(
        references=(scaled * 127).round().to(torch.int8),
        distances=torch.from_numpy(np.quantile(distances.numpy(), percentiles.numpy()).astype(np.float32)),
        photos=torch.from_numpy(np.frombuffer(prefixes, np.uint8).reshape(-1, familiarity_file.DIGEST_BYTES).copy()),
        predicted=torch.from_numpy(labels[:known].astype(np.int32)),
    )
