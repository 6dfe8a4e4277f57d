"""Run a network over a data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from model.preprocessing import normalize

if TYPE_CHECKING:
    from torch import Tensor, nn

    from model.datasets.dataset import ImageDataset
    from model.preprocessing.decode import Preprocess

BATCH_SIZE = 64


@torch.inference_mode()
def compute_logits(network: nn.Module, images: ImageDataset, preprocess: Preprocess, device: torch.device) -> Tensor:
    """Return logits [N, classes] on the CPU for a network in eval mode on `device`."""
    normalizer = normalize.Normalize(preprocess, device)
    starts = range(0, len(images), BATCH_SIZE)
    batches = (torch.from_numpy(images.pixels_at(slice(start, start + BATCH_SIZE))).to(device) for start in starts)
    return torch.cat([network(normalizer.from_uint8(pixels)).float().cpu() for pixels in batches])
