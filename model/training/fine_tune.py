"""Fine-tune published weights: first fit the head, then train the last stages at a small rate.

The first stages stay as they are. If the network is one `nn.Sequential`, as ours are, they run fused and without
gradients, which takes a third of the time. Norms keep their published statistics everywhere: those of a small batch
are noise.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from model.inference import cpu_fusion
from model.training import augment, frozen, linear_head
from model.training import features as feature_pass

if TYPE_CHECKING:
    from model.datasets.dataset import ImageDataset
    from model.preprocessing.decode import Preprocess
    from model.training.trainer import RunContext, TrainingTask

# The share of the weights that is trained at least, in whole stages from the end.
TRAINED_SHARE = 0.6
# Of the head that the training starts from. It is trained on, so there is nothing to choose here.
HEAD_INVERSE_REGULARIZATION = 1e-3
_CHUNK_SIZE = 32


class FineTuningForm(nn.Module):
    """A network whose first stages, and the statistics of all norms, never change."""

    def __init__(self, network: nn.Module, context: RunContext) -> None:
        """Freeze the first stages of `network` in place."""
        super().__init__()
        self.network = network
        self._dtype = context.dtype
        self._first_trained = first_trained_stage(network)
        for stage in list(network.children())[: self._first_trained]:
            stage.requires_grad_(requires_grad=False)
        on_cpu = context.device.type == "cpu"
        # In a tuple, so that torch does not register its weights a second time.
        self._fused: tuple[nn.Module, ...] = ()
        if isinstance(network, nn.Sequential) and on_cpu and self._first_trained:
            self._fused = (cpu_fusion.fuse(network[: self._first_trained], context.dtype),)

    def train(self, mode: bool = True) -> FineTuningForm:
        """Switch dropout on or off; norms stay in eval mode."""
        super().train(mode)
        for layer in self.network.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - the base class of all of them
                layer.eval()
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [N, classes] for images [N, 3, H, W]."""
        if not self._fused:
            logits: torch.Tensor = self.network(images)
            return logits
        with torch.no_grad():
            features: torch.Tensor = self._fused[0](images.to(self._dtype)).float()
        for stage in list(self.network.children())[self._first_trained :]:
            features = stage(features)
        return features

    def fold(self) -> nn.Module:
        """Return the network, which has the same outputs, in eval mode on the CPU."""
        return self.network.cpu().eval()


def first_trained_stage(network: nn.Module) -> int:
    """Return the index of the first child that is trained: the last ones with `TRAINED_SHARE` of the weights."""
    sizes = [sum(weights.numel() for weights in stage.parameters()) for stage in network.children()]
    from_end = list(itertools.accumulate(reversed(sizes)))
    trained_count = sum(size < TRAINED_SHARE * sum(sizes) for size in from_end) + 1
    return len(sizes) - trained_count


def adapt(task: TrainingTask, context: RunContext) -> TrainingTask:
    """Return the task with a network that starts from a head fitted on the task's images, in its fine-tuning form.

    Raises:
        ValueError: the network has no head.
        TrainingStopped: `context.stop_requested` returned true.
    """
    network = task.build_network().eval()
    image_features = feature_pass.compute(network, _shrink(task.images, task.preprocess), task.preprocess, context)
    data = linear_head.TrainingFeatures.without_extra(image_features.numpy(), task.images.targets)
    frozen.set_head(network, linear_head.fit(data, HEAD_INVERSE_REGULARIZATION), len(task.images.labels))
    return dataclasses.replace(task, build_network=lambda: FineTuningForm(copy.deepcopy(network), context))


def _shrink(images: ImageDataset, preprocess: Preprocess) -> ImageDataset:
    """Return images that were read larger, for crops, in the size of serving."""
    size = preprocess.height, preprocess.width
    if images.pixels.shape[1:3] == size:
        return images
    pixels = np.empty((len(images), *size, 3), np.uint8)
    for start in range(0, len(images), _CHUNK_SIZE):
        chunk = slice(start, start + _CHUNK_SIZE)
        larger = torch.from_numpy(images.pixels_at(chunk)).permute(0, 3, 1, 2).float()
        pixels[chunk] = augment.shrink(larger, *size).round().byte().permute(0, 2, 3, 1).numpy()
    return dataclasses.replace(images, pixels=pixels, rows=np.arange(len(images)))
