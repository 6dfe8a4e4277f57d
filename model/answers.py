"""Keeps what a network says of many pictures before the softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from model import inputs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from model.data import Photos
    from model.preprocess import Preprocess

BATCH = 64


@torch.inference_mode()
def logits_of(network: nn.Module, photos: Photos, shape: Preprocess, device: torch.device) -> Tensor:
    """Logits [N, classes] on the CPU of a network in eval mode on `device`; `photos` are as `shape` serves them."""
    normalise = inputs.Normalise(shape, device)
    starts = range(0, len(photos), BATCH)
    taken = (torch.from_numpy(photos.take(slice(start, start + BATCH))).to(device) for start in starts)
    return torch.cat([network(normalise.pixels(pixels)).float().cpu() for pixels in taken])
