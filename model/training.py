"""Keeps one network in training: what a step is, and all that the next one depends on."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from model import answers, batches, networks, optimizers, progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from model.checkpoint import Kept, Work
    from model.curves import Curves
    from model.data import Photos
    from model.preprocess import Preprocess
    from model.recipe import Recipe


class Diverged(RuntimeError):
    """The loss is not a number any more: train again with a smaller --learning-rate."""

    def __str__(self) -> str:
        return type(self).__doc__ or ""


class Stopped(RuntimeError):
    """The training was asked to stop, and has kept where it was."""


@dataclasses.dataclass(frozen=True)
class Task:
    """What is trained: a fresh network, from which pictures, and how.

    `extra` is only learned from. `held_out` (as served) is judged after each epoch and never learned from.
    `until` is the number of epochs after which to stop early; the learning rate still falls as for all of them.
    """

    title: str
    build: Callable[[], nn.Module]
    photos: Photos
    extra: Photos | None
    shape: Preprocess
    recipe: Recipe
    seed: int
    held_out: Photos | None = None
    until: int | None = None


@dataclasses.dataclass(frozen=True)
class Place:
    """Where and under whose eyes it is trained."""

    device: torch.device = dataclasses.field(default_factory=lambda: torch.device("cpu"))
    arithmetic: torch.dtype = torch.float32
    work: Work | None = None
    curves: Curves | None = None
    watch: progress.Watch = dataclasses.field(default_factory=progress.Watch)
    stopping: Callable[[], bool] = lambda: False


class Training:
    """One network between two of its steps; `keep` and `restore` hold all that the next step depends on."""

    def __init__(self, task: Task, place: Place) -> None:
        torch.manual_seed(task.seed)
        _deterministic(place.device)
        self._task, self._place = task, place
        self._network = task.build().to(place.device).train()
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its stub
        generator = torch.Generator().manual_seed(task.seed)
        self._batches = batches.Batches(task.photos, task.extra, task.shape, task.recipe, generator, place.device)
        self._steps = sum(self._batches.steps(epoch) for epoch in range(task.recipe.epochs))
        self.averaged = optimizers.averaged(self._network, task.recipe, self._steps)
        self._optimizer = optimizers.build(self._network, task.recipe)
        self.epoch = self._step = self._done = 0
        self._order = torch.empty(0, dtype=torch.int64)
        self._loss = torch.zeros((), device=place.device)
        self._seconds = 0.0
        held_out = len(task.held_out) if task.held_out else 0
        self.held_out = torch.empty(0, held_out, len(task.photos.labels))

    def learn_epoch(self) -> None:
        """The rest of an epoch, which may have been begun before a stop."""
        steps = self._batches.steps(self.epoch)
        if not self._step:
            self._order = self._batches.order(self.epoch)
        while self._step < steps:
            self._learn(self._step)
            self._place.watch.step(self.epoch + self._step / steps, len(self._order) // steps)
            self._keep_if_wanted()
        self._close_epoch(steps)

    def _learn(self, step: int) -> None:
        started = time.monotonic()
        rate = optimizers.learning_rate(self._task.recipe, self._done, self._steps)
        optimizers.set_learning_rate(self._optimizer, rate)
        pictures, targets = self._batches.batch(self.epoch, step, self._order)
        bfloat16 = self._place.arithmetic == torch.bfloat16
        with torch.autocast(self._place.device.type, torch.bfloat16, enabled=bfloat16):
            logits = self._network(pictures)
        smoothing = self._task.recipe.label_smoothing
        loss = functional.cross_entropy(logits.float(), targets, label_smoothing=smoothing)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types there
        nn.utils.clip_grad_norm_(self._network.parameters(), self._task.recipe.gradient_limit)
        self._optimizer.step()
        self.averaged.update_parameters(self._network)
        self._loss += loss.detach()
        self._step, self._done = self._step + 1, self._done + 1
        self._seconds += time.monotonic() - started

    def _close_epoch(self, steps: int) -> None:
        loss = self._loss.item() / steps
        if not math.isfinite(loss):
            raise Diverged
        rate = optimizers.learning_rate(self._task.recipe, self._done - 1, self._steps)
        self.epoch, self._step = self.epoch + 1, 0
        self._loss.zero_()
        row = {"epoch": self.epoch, "loss": round(loss, 6), "learning_rate": rate, "seconds": round(self._seconds, 3)}
        row |= self._judge_held_out()
        if self._place.curves:
            self._place.curves.add(self._task.title, row)
        self._place.watch.epoch(self.epoch, loss)

    def _judge_held_out(self) -> dict[str, float]:
        held_out = self._task.held_out
        if not held_out:
            return {}
        network = networks.together([self.averaged.module], mirrored=self._task.recipe.mirrored).eval()
        logits = answers.logits_of(network, held_out, self._task.shape, self._place.device)
        self.averaged.train()
        self.held_out = torch.cat([self.held_out, logits[None]])
        targets = torch.from_numpy(held_out.targets)
        right = (logits.argmax(dim=1) == targets).float().mean().item()
        loss = functional.cross_entropy(logits, targets).item()
        return {"held_out_loss": round(loss, 6), "held_out_accuracy": round(right, 6)}

    def _keep_if_wanted(self) -> None:
        stopping = self._place.stopping()
        if stopping or (self._place.work and self._place.work.due()):
            self.keep()
        if stopping:
            raise Stopped

    def keep(self) -> None:
        """Writes everything that the next step depends on into the work folder, if there is one."""
        parts = {
            "network": self._network.state_dict(),
            "optimizer": optimizers.tensors(self._optimizer),
            "chance": self._chance(),
            "epoch": {"order": self._order, "loss": self._loss},
        }
        self._write(parts, {"step": self._step, "done": self._done})

    def finish(self) -> None:
        """Writes what is asked of a training that has ended; the rest would only fill the disk."""
        self._write({}, {})

    def _write(self, parts: Mapping[str, Mapping[str, Tensor]], facts: Mapping[str, Any]) -> None:
        if not self._place.work:
            return
        result = {"averaged": self.averaged.state_dict(), "result": {"held_out": self.held_out}}
        tensors = {
            f"{part}.{name}": tensor for part, named in {**parts, **result}.items() for name, tensor in named.items()
        }
        curve = self._place.curves.rows(self._task.title) if self._place.curves else []
        always = {"epoch": self.epoch, "seconds": self._seconds, "curve": curve}
        self._place.work.save(self._task.title, tensors, {**always, **facts})

    def restore(self, kept: Kept) -> None:
        """Puts everything where `keep` or `finish` found it."""
        parts: dict[str, dict[str, Tensor]] = {}
        for key, tensor in kept.tensors.items():
            part, _, name = key.partition(".")
            parts.setdefault(part, {})[name] = tensor
        self.averaged.load_state_dict(parts["averaged"])
        self.held_out = parts["result"]["held_out"]
        self.epoch, self._seconds = kept.facts["epoch"], kept.facts["seconds"]
        if self._place.curves:
            self._place.curves.restore(self._task.title, kept.facts["curve"])
        if "network" in parts:
            self._restore_middle(parts, kept.facts)

    def _restore_middle(self, parts: Mapping[str, Mapping[str, Tensor]], facts: Mapping[str, Any]) -> None:
        self._network.load_state_dict(parts["network"])
        optimizers.restore(self._optimizer, parts.get("optimizer", {}))
        self._set_chance(parts["chance"])
        self._order = parts["epoch"]["order"]
        self._loss.copy_(parts["epoch"]["loss"])
        self._step, self._done = facts["step"], facts["done"]

    def _chance(self) -> dict[str, Tensor]:
        """Where the generators are: ours for the batches, torch's own for dropout."""
        states = {"batches": self._batches.generator.get_state(), "cpu": torch.get_rng_state()}
        if self._place.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self._place.device)
        return states

    def _set_chance(self, states: Mapping[str, Tensor]) -> None:
        self._batches.generator.set_state(states["batches"])
        torch.set_rng_state(states["cpu"])
        if "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], self._place.device)


def _deterministic(device: torch.device) -> None:
    # cuBLAS reads it when it starts; without it, it refuses to be deterministic.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Some torchvision networks have layers that no GPU kernel computes twice alike: a warning, no refusal.
    torch.use_deterministic_algorithms(mode=True, warn_only=device.type == "cuda")
