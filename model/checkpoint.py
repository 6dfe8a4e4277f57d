"""Keeps unfinished trainings: a folder beside the bundle, from which a killed training goes on to the same weights."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import time
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch

from model import files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

PLAN = "plan.json"


class BadCheckpoint(ValueError):
    """An unfinished training that cannot be gone on with; the message says what differs and what to do."""


@dataclasses.dataclass(frozen=True)
class Kept:
    """A training as it was: its tensors, and plain JSON facts about it."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


class Work:
    """The folder of one call of train: its plan, and one file for each network that it trains.

    A file is safetensors with the facts as JSON in its header, so tensors and facts are of the same moment.
    """

    def __init__(self, folder: Path, every: float) -> None:
        self.folder = folder
        self._every = every
        self._saved = time.monotonic()

    def due(self) -> bool:
        """Whether so many seconds have passed since the last `save` that it is time for one."""
        return time.monotonic() - self._saved >= self._every

    def save(self, title: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Replaces what is kept of the training with this title, whole or not at all."""
        # Cloned, because safetensors refuses tensors that share memory.
        own = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
        header = {"facts": json.dumps(dict(facts))}
        files.write_whole(self._file(title), safetensors.torch.save(own, metadata=header))
        self._saved = time.monotonic()

    def read(self, title: str) -> Kept | None:
        """What is kept of the training with this title; None if nothing is.

        Raises:
            BadCheckpoint: for a damaged file.
        """
        path = self._file(title)
        if not path.is_file():
            return None
        try:
            with safetensors.safe_open(path, "pt") as opened:
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no mapping
                return Kept(tensors, json.loads(opened.metadata()["facts"]))
        except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as wrong:
            raise BadCheckpoint(
                f"{path} is damaged ({wrong}): remove it; the rest of {self.folder} is used."
            ) from wrong

    def remove(self) -> None:
        """Removes the folder, when the bundle is complete."""
        shutil.rmtree(self.folder)

    def _file(self, title: str) -> Path:
        return self.folder / f"{re.sub('[^a-z0-9]+', '-', title.lower())}.safetensors"


def begin(folder: Path, plan: Mapping[str, Any], every: float) -> Work:
    """An empty work folder; what another training left there is removed."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    files.write_whole(folder / PLAN, json.dumps(dict(plan), indent=2).encode())
    return Work(folder, every)


def resume(folder: Path, plan: Mapping[str, Any], every: float) -> Work:
    """The work folder of a training with the same plan.

    Raises:
        BadCheckpoint: when it was begun with another plan.
    """
    try:
        begun = json.loads((folder / PLAN).read_text("utf-8"))
        differences = _differences(_flat(begun), _flat(json.loads(json.dumps(dict(plan)))))
    except (ValueError, AttributeError) as wrong:
        raise BadCheckpoint(f"{folder / PLAN} is damaged ({wrong}): remove {folder} to begin anew.") from wrong
    if differences:
        told = "; ".join(differences)
        raise BadCheckpoint(
            f"The training in {folder} was begun with {told}. Give the same arguments to go on with it,"
            " or leave --resume out to begin anew."
        )
    return Work(folder, every)


def _flat(fields: Mapping[str, Any], within: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        flat |= _flat(value, f"{within}{name}.") if isinstance(value, dict) else {within + name: value}
    return flat


def _differences(begun: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    names = [name for name in {**begun, **now} if begun.get(name) != now.get(name)]
    return [f"{name.replace('_', ' ')} {_short(begun.get(name))}, not {_short(now.get(name))}" for name in names]


def _short(value: Any) -> str:
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
