"""Copies of modules with other functions, to replace one in a single module of ours.

A function that is replaced in the standard library's own module is replaced for every thread of the test process.
"""

import types
from typing import Any


def with_changes(module: types.ModuleType, **changes: Any) -> types.SimpleNamespace:
    """Return a copy of a module in which some names are others."""
    return types.SimpleNamespace(**{**vars(module), **changes})
