"""Save and resume trainings: a folder beside the bundle, from which a killed training continues to the same weights."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import time
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch

from model.packaging import atomic_files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

PLAN_FILE = "plan.json"
FORMAT_VERSION = 2  # of the files; version 1 had one state for both optimizers of a recipe with muon


class InvalidCheckpoint(ValueError):
    """The training cannot be resumed; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The state of a training: tensors, and JSON metadata."""

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]


class CheckpointStore:
    """The checkpoint folder of one run: its plan, and one file per network.

    A file is safetensors with the metadata as JSON in its header, so that both are written together.
    """

    def __init__(self, folder: Path, interval_seconds: float) -> None:
        self.folder = folder
        self._interval_seconds = interval_seconds
        self._last_saved_at = time.monotonic()

    def is_due(self) -> bool:
        """Return whether the interval since the last `save` is over."""
        return time.monotonic() - self._last_saved_at >= self._interval_seconds

    def save(self, title: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Replace the checkpoint of the training with this title, atomically."""
        # Cloned, because safetensors rejects tensors that share memory.
        contiguous = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
        header = {"metadata": json.dumps(dict(metadata))}
        atomic_files.write_atomic(self._path(title), safetensors.torch.save(contiguous, metadata=header))
        self._last_saved_at = time.monotonic()

    def read(self, title: str) -> Checkpoint | None:
        """Return the checkpoint of the training with this title, or None.

        Raises:
            InvalidCheckpoint: the file is damaged.
        """
        path = self._path(title)
        if not path.is_file():
            return None
        try:
            with safetensors.safe_open(path, "pt") as archive:
                tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118 - not a mapping
                return Checkpoint(tensors, json.loads(archive.metadata()["metadata"]))
        except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
            raise InvalidCheckpoint(f"{path} is damaged ({error}): remove it, the other files can be used.") from error

    def remove(self) -> None:
        """Remove the folder, after the bundle is saved."""
        shutil.rmtree(self.folder)

    def _path(self, title: str) -> Path:
        return self.folder / f"{re.sub('[^a-z0-9]+', '-', title.lower())}.safetensors"


def create(folder: Path, plan: Mapping[str, Any], interval_seconds: float) -> CheckpointStore:
    """Create an empty checkpoint folder, and remove an older one."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    atomic_files.write_atomic(folder / PLAN_FILE, json.dumps({"format": FORMAT_VERSION, **plan}, indent=2).encode())
    return CheckpointStore(folder, interval_seconds)


def resume(folder: Path, plan: Mapping[str, Any], interval_seconds: float) -> CheckpointStore:
    """Open the checkpoint folder of a training with the same plan.

    Raises:
        InvalidCheckpoint: the plan is another one, damaged, or of another version of sortbelt.
    """
    try:
        stored_plan = json.loads((folder / PLAN_FILE).read_text("utf-8"))
        version = stored_plan.pop("format", 1)
        differences = _differences(_flatten(stored_plan), _flatten(json.loads(json.dumps(dict(plan)))))
    except (ValueError, AttributeError, TypeError) as error:
        raise InvalidCheckpoint(f"{folder / PLAN_FILE} is damaged ({error}): remove {folder} to start over.") from error
    if version != FORMAT_VERSION:
        problem = f"{folder} has checkpoints of format {version}, this version of sortbelt reads {FORMAT_VERSION}"
        raise InvalidCheckpoint(f"{problem}: leave out --resume to start over.")
    if differences:
        problem = f"The training in {folder} was started with {'; '.join(differences)}"
        raise InvalidCheckpoint(
            f"{problem}. Give the same arguments to resume it, or leave out --resume to start over."
        )
    return CheckpointStore(folder, interval_seconds)


def _flatten(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _differences(stored: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    names = [name for name in {**stored, **current} if stored.get(name) != current.get(name)]
    return [
        f"{name.replace('_', ' ')} {_shorten(stored.get(name))}, not {_shorten(current.get(name))}" for name in names
    ]


def _shorten(value: Any) -> str:
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
