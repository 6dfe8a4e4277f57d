"""Train one network: the training step, the epoch, and the state from which a training resumes."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from model.evaluation import logits
from model.networks import factory
from model.training import batch_loader, optimizers, progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from model.datasets.dataset import ImageDataset
    from model.preprocessing.decode import Preprocess
    from model.training.checkpoint import Checkpoint, CheckpointStore
    from model.training.learning_curves import LearningCurves
    from model.training.recipe import Recipe


class TrainingDiverged(RuntimeError):
    """The loss is NaN or infinite: train again with a smaller --learning-rate."""

    def __str__(self) -> str:
        return type(self).__doc__ or ""


class TrainingStopped(RuntimeError):
    """The training was interrupted by a signal, after it had written a checkpoint."""


@dataclasses.dataclass(frozen=True)
class TrainingTask:
    """The network, the images and the recipe of one training.

    `extra` is for training only. `held_out`, preprocessed as in serving, is evaluated after each epoch and never
    trained on. The training stops early after `stop_epoch` epochs; the schedule of the learning rate does not change.
    `adaptations` are applied in turn before a training, to fit what depends on its images only, and not on those of
    another fold.
    """

    title: str
    build_network: Callable[[], nn.Module]
    images: ImageDataset
    extra: ImageDataset | None
    preprocess: Preprocess
    recipe: Recipe
    seed: int
    held_out: ImageDataset | None = None
    stop_epoch: int | None = None
    adaptations: Sequence[Callable[[TrainingTask, RunContext], TrainingTask]] = ()


@dataclasses.dataclass(frozen=True)
class RunContext:
    """The device of a training, and where it saves and reports progress."""

    device: torch.device = dataclasses.field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    checkpoints: CheckpointStore | None = None
    curves: LearningCurves | None = None
    reporter: progress.ProgressReporter = dataclasses.field(default_factory=progress.ProgressReporter)
    stop_requested: Callable[[], bool] = lambda: False


class Trainer:
    """One network in training. `save` and `restore` cover everything that the next step depends on."""

    def __init__(self, task: TrainingTask, context: RunContext) -> None:
        torch.manual_seed(task.seed)
        _make_deterministic(context.device)
        self._task, self._context = task, context
        self._network = task.build_network().to(context.device).train()
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its stub
        generator = torch.Generator().manual_seed(task.seed)
        self._loader = batch_loader.BatchLoader(
            task.images, task.extra, task.preprocess, task.recipe, generator, context.device
        )
        self._total_steps = sum(self._loader.step_count(epoch) for epoch in range(task.recipe.epochs))
        self.ema = optimizers.ema_model(self._network, task.recipe, self._total_steps)
        self._optimizers = optimizers.build(self._network, task.recipe)
        self.epoch = self._step = self._steps_done = 0
        self._order = torch.empty(0, dtype=torch.int64)
        self._loss = torch.zeros((), device=context.device)
        self._elapsed_seconds = 0.0
        held_out_count = len(task.held_out) if task.held_out else 0
        self.held_out_logits = torch.empty(0, held_out_count, len(task.images.labels))

    def train_epoch(self) -> None:
        """Run the remaining steps of the current epoch."""
        steps = self._loader.step_count(self.epoch)
        if not self._step:
            self._order = self._loader.order(self.epoch)
        while self._step < steps:
            self._train_step(self._step)
            self._context.reporter.update(self.epoch + self._step / steps, len(self._order) // steps)
            self._checkpoint_if_due()
        self._end_epoch(steps)

    def _train_step(self, step: int) -> None:
        started = time.monotonic()
        current_rate = optimizers.learning_rate(self._task.recipe, self._steps_done, self._total_steps)
        optimizers.set_learning_rate(self._optimizers, current_rate)
        images, targets = self._loader.batch(self.epoch, step, self._order)
        bfloat16 = self._context.dtype == torch.bfloat16
        with torch.autocast(self._context.device.type, torch.bfloat16, enabled=bfloat16):
            outputs = self._network(images)
        smoothing = self._task.recipe.label_smoothing
        loss = functional.cross_entropy(outputs.float(), targets, label_smoothing=smoothing)
        self._network.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types there
        nn.utils.clip_grad_norm_(self._network.parameters(), self._task.recipe.gradient_limit)
        for optimizer in self._optimizers:
            optimizer.step()
        self.ema.update_parameters(self._network)
        self._loss += loss.detach()
        self._step, self._steps_done = self._step + 1, self._steps_done + 1
        self._elapsed_seconds += time.monotonic() - started

    def _end_epoch(self, steps: int) -> None:
        loss = self._loss.item() / steps
        if not math.isfinite(loss):
            raise TrainingDiverged
        rate = optimizers.learning_rate(self._task.recipe, self._steps_done - 1, self._total_steps)
        self.epoch, self._step = self.epoch + 1, 0
        self._loss.zero_()
        row = {
            "epoch": self.epoch,
            "loss": round(loss, 6),
            "learning_rate": rate,
            "seconds": round(self._elapsed_seconds, 3),
        }
        row |= self._evaluate_held_out()
        if self._context.curves:
            self._context.curves.add(self._task.title, row)
        self._context.reporter.epoch_done(self.epoch, loss)

    def _evaluate_held_out(self) -> dict[str, float]:
        held_out = self._task.held_out
        if not held_out:
            return {}
        network = factory.ensemble([self.ema.module], mirrored=self._task.recipe.mirrored).eval()
        epoch_logits = logits.compute_logits(network, held_out, self._task.preprocess, self._context.device)
        self.ema.train()
        self.held_out_logits = torch.cat([self.held_out_logits, epoch_logits[None]])
        targets = torch.from_numpy(held_out.targets)
        accuracy = (epoch_logits.argmax(dim=1) == targets).float().mean().item()
        loss = functional.cross_entropy(epoch_logits, targets).item()
        return {"held_out_loss": round(loss, 6), "held_out_accuracy": round(accuracy, 6)}

    def _checkpoint_if_due(self) -> None:
        stop_requested = self._context.stop_requested()
        if stop_requested or (self._context.checkpoints and self._context.checkpoints.is_due()):
            self.save()
        if stop_requested:
            raise TrainingStopped

    def save(self) -> None:
        """Write a checkpoint with everything that the next step depends on."""
        tensor_groups = {
            "network": self._network.state_dict(),
            "optimizer": optimizers.state_tensors(self._optimizers),
            "rng": self._rng_states(),
            "epoch": {"order": self._order, "loss": self._loss},
        }
        self._write(tensor_groups, {"step": self._step, "done": self._steps_done})

    def save_result(self) -> None:
        """Write a checkpoint of a finished training: its result, without the state of the next step."""
        self._write({}, {})

    def _write(self, tensor_groups: Mapping[str, Mapping[str, Tensor]], metadata: Mapping[str, Any]) -> None:
        if not self._context.checkpoints:
            return
        result_groups = {"averaged": self.ema.state_dict(), "result": {"held_out": self.held_out_logits}}
        tensors = {
            f"{group}.{name}": tensor
            for group, tensors_by_name in {**tensor_groups, **result_groups}.items()
            for name, tensor in tensors_by_name.items()
        }
        curve = self._context.curves.rows(self._task.title) if self._context.curves else []
        common_metadata = {"epoch": self.epoch, "seconds": self._elapsed_seconds, "curve": curve}
        self._context.checkpoints.save(self._task.title, tensors, {**common_metadata, **metadata})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore the state written by `save` or `save_result`."""
        tensor_groups: dict[str, dict[str, Tensor]] = {}
        for key, tensor in checkpoint.tensors.items():
            group, _, name = key.partition(".")
            tensor_groups.setdefault(group, {})[name] = tensor
        self.ema.load_state_dict(tensor_groups["averaged"])
        self.held_out_logits = tensor_groups["result"]["held_out"]
        self.epoch, self._elapsed_seconds = checkpoint.metadata["epoch"], checkpoint.metadata["seconds"]
        if self._context.curves:
            self._context.curves.restore(self._task.title, checkpoint.metadata["curve"])
        if "network" in tensor_groups:
            self._restore_mid_epoch(tensor_groups, checkpoint.metadata)

    def _restore_mid_epoch(
        self, tensor_groups: Mapping[str, Mapping[str, Tensor]], metadata: Mapping[str, Any]
    ) -> None:
        self._network.load_state_dict(tensor_groups["network"])
        optimizers.load_state_tensors(self._optimizers, tensor_groups.get("optimizer", {}))
        self._set_rng_states(tensor_groups["rng"])
        self._order = tensor_groups["epoch"]["order"]
        self._loss.copy_(tensor_groups["epoch"]["loss"])
        self._step, self._steps_done = metadata["step"], metadata["done"]

    def _rng_states(self) -> dict[str, Tensor]:
        """Return the states of our generator (batches) and torch's (dropout)."""
        states = {"batches": self._loader.generator.get_state(), "cpu": torch.get_rng_state()}
        if self._context.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self._context.device)
        return states

    def _set_rng_states(self, states: Mapping[str, Tensor]) -> None:
        self._loader.generator.set_state(states["batches"])
        torch.set_rng_state(states["cpu"])
        if "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], self._context.device)


def _make_deterministic(device: torch.device) -> None:
    # Read by cuBLAS when it starts; without it, cuBLAS has no deterministic mode.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Warn only: some layers of torchvision networks have no deterministic GPU kernel.
    torch.use_deterministic_algorithms(mode=True, warn_only=device.type == "cuda")
