"""Keeps the training loop: a recipe and a data set in, a trained network out."""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from model import augment, inputs, networks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from model.data import Photos
    from model.manifest import Network
    from model.preprocess import Preprocess


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Every number of a training; stored in the bundle.

    AdamW with a one-cycle learning rate: `warmup` is the share of the steps in which it rises to
    `learning_rate`. `averaging` is the share of all steps over which the running average of the weights reaches
    back. `gradient_limit` is the largest norm of a gradient.
    """

    epochs: int = 100
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    label_smoothing: float = 0.05
    mixup: float = 0.1
    averaging: float = 0.05
    gradient_limit: float = 1.0
    augment: augment.Augment = dataclasses.field(default_factory=augment.Augment)

    def to_json(self) -> dict[str, Any]:
        """The numbers as plain JSON values."""
        return dataclasses.asdict(self)


class Diverged(RuntimeError):
    """The loss is not a number any more: train again with a smaller --learning-rate."""

    def __str__(self) -> str:
        return type(self).__doc__ or ""


def fit(photos: Photos, network: Network, shape: Preprocess, recipe: Recipe, seed: int, title: str) -> nn.Module:
    """Trains fresh weights and returns their running average, in eval mode.

    The last average is kept. There is no picking of a best epoch: on some fifty held-out pictures that would
    pick luck. The same seed, data and number of threads give the same weights.

    Args:
        photos: pictures at least as large as `shape`; crops are cut from them.
        network: what is built.
        shape: size and normalisation of the network's input.
        recipe: the numbers.
        seed: of the first weights, the order and the augmentation.
        title: begins each line of the log on stderr.

    Raises:
        Diverged: when the loss is not a number any more.
    """
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(mode=True)
    built = networks.build(network.name, classes=network.classes, height=network.height, width=network.width)
    built.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its stub
    batches = Batches(photos, shape, recipe, torch.Generator().manual_seed(seed))
    steps = recipe.epochs * len(batches)
    averaged = _averaged(built, recipe.averaging * steps)
    optimizer, schedule = _optimizer(built, recipe, steps)
    built.train()
    started = time.monotonic()
    for epoch in range(1, recipe.epochs + 1):
        total = 0.0
        for pictures, targets in batches:
            loss = functional.cross_entropy(built(pictures), targets, label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no types there
            nn.utils.clip_grad_norm_(built.parameters(), recipe.gradient_limit)
            optimizer.step()
            schedule.step()
            averaged.update_parameters(built)
            total += loss.item()
        if not math.isfinite(total):
            raise Diverged
        _log(title, epoch, recipe.epochs, total / len(batches), time.monotonic() - started)
    return averaged.module.eval()


class Batches:
    """One epoch of augmented, normalised batches each time it is iterated, each time in a new order."""

    def __init__(self, photos: Photos, shape: Preprocess, recipe: Recipe, generator: torch.Generator) -> None:
        self._pixels = torch.from_numpy(photos.pixels)
        self._targets = functional.one_hot(torch.from_numpy(photos.targets), len(photos.labels)).float()
        self._size, self._normalise = (shape.height, shape.width), inputs.Normalise(shape)
        self._recipe, self._generator = recipe, generator

    def __len__(self) -> int:
        return math.ceil(len(self._pixels) / self._recipe.batch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Float pictures [n, 3, H, W] and target shares [n, classes]."""
        order = torch.randperm(len(self._pixels), generator=self._generator)
        for start in range(0, len(order), self._recipe.batch):
            chosen = order[start : start + self._recipe.batch]
            pictures = self._recipe.augment(self._pixels[chosen], *self._size, self._generator)
            pictures, targets = augment.mixup(pictures, self._targets[chosen], self._recipe.mixup, self._generator)
            yield self._normalise(pictures).contiguous(memory_format=torch.channels_last), targets


def _averaged(network: nn.Module, reach: float) -> AveragedModel:
    average = get_ema_multi_avg_fn(1 - 1 / (1 + reach))  # type: ignore[no-untyped-call]  # torch has no types there
    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)


def _optimizer(
    network: nn.Module, recipe: Recipe, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        recipe.learning_rate,
        # In fewer steps than these its warm-up has no length, and it divides by zero.
        total_steps=max(steps, math.ceil(2 / recipe.warmup)),
        pct_start=recipe.warmup,
        cycle_momentum=False,
    )
    return optimizer, schedule


def _log(title: str, epoch: int, epochs: int, loss: float, seconds: float) -> None:
    left = (epochs - epoch) * seconds / epoch
    speed = f"{epoch / seconds:.2f} epochs/s, {left:.0f} s left"
    sys.stderr.write(f"{title}: epoch {epoch}/{epochs}, loss {loss:.4f}, {speed}\n")
    sys.stderr.flush()
