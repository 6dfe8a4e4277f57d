"""Copies of modules with other functions, to replace one in a single module of ours.

A function that is replaced in the standard library's own module is replaced for every thread of the test process.
"""

import time
import types
from typing import Any

import pytest


def with_changes(module: types.ModuleType, **changes: Any) -> types.SimpleNamespace:
    """Return a copy of a module in which some names are others."""
    return types.SimpleNamespace(**{**vars(module), **changes})


def set_clock(monkeypatch: pytest.MonkeyPatch, module: types.ModuleType) -> list[float]:
    """Replace the monotonic clock of a module of ours by the number in the list that is returned."""
    now = [1000.0]
    monkeypatch.setattr(module, "time", with_changes(time, monotonic=lambda: now[0]))
    return now
