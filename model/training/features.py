"""Compute the features of a data set: what a network's head gets as its input."""

from __future__ import annotations

import collections
import copy
from concurrent import futures
from typing import TYPE_CHECKING

import torch

from model.inference import cpu_fusion
from model.networks import heads
from model.preprocessing import normalize
from model.training import trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy as np
    import numpy.typing as npt
    from torch import Tensor, nn

    from model.datasets.dataset import ImageDataset
    from model.preprocessing.decode import Preprocess
    from model.training.trainer import RunContext

CPU_BATCH, GPU_BATCH = 8, 128  # images; on a CPU, more do not fit its cache


@torch.inference_mode()
def compute(network: nn.Module, images: ImageDataset, preprocess: Preprocess, context: RunContext) -> Tensor:
    """Return the features, float32 [N, D] on the CPU, that the network computes as in serving.

    Raises:
        ValueError: the network has no head.
        TrainingStopped: `context.stop_requested` returned true.
    """
    forward = _build_forward(network, len(images.labels), preprocess, context)
    on_cpu = context.device.type == "cpu"
    batch_size, threads = (CPU_BATCH, torch.get_num_threads()) if on_cpu else (GPU_BATCH, 1)
    starts = range(0, len(images), batch_size)
    parts: list[Tensor] = []
    # One thread per batch: torch's own threads would wait for each other at the end of every layer.
    with (
        context.reporter.track("features", len(images), 0, unit="image"),
        futures.ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        pixels = (images.pixels_at(slice(start, start + batch_size)) for start in starts)
        for features in _map_ahead(pool, forward, pixels, 2 * threads):
            if context.stop_requested():
                raise trainer.TrainingStopped
            parts.append(features)
            context.reporter.update(sum(len(part) for part in parts), len(features))
    return torch.cat(parts)


def to_device(network: nn.Module, context: RunContext) -> nn.Module:
    """Return a network on the device of the run, in its precision; on a CPU, with fused layers."""
    network.to(context.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its stub
    return cpu_fusion.fuse(network, context.dtype) if context.device.type == "cpu" else network.to(context.dtype)


def _build_forward(
    network: nn.Module, classes: int, preprocess: Preprocess, context: RunContext
) -> Callable[[npt.NDArray[np.uint8]], Tensor]:
    """Return the function from pixels, uint8 [N, H, W, 3], to features, float32 [N, D] on the CPU."""
    exposed = copy.deepcopy(network).eval()
    heads.expose_features(exposed, classes)
    exposed = to_device(exposed, context)
    normalizer = normalize.Normalize(preprocess, context.device)

    @torch.inference_mode()
    def forward(pixels: npt.NDArray[np.uint8]) -> Tensor:
        inputs = normalizer.from_uint8(torch.from_numpy(pixels).to(context.device)).to(context.dtype)
        features: Tensor = exposed(inputs)[:, classes:].float().cpu()
        return features

    return forward


def _map_ahead(
    pool: futures.Executor,
    function: Callable[[npt.NDArray[np.uint8]], Tensor],
    items: Iterable[npt.NDArray[np.uint8]],
    ahead: int,
) -> Iterator[Tensor]:
    """Yield the results in order, while at most `ahead` more are computed, so that few batches are in memory."""
    pending: collections.deque[futures.Future[Tensor]] = collections.deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
