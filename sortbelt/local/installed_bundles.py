"""Bundles on this machine: those of the checkout, of `SORTBELT_BUNDLES`, and those that its workers have fetched."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from sortbelt.local import child_env


def find(folder: Path, name: str, version: str, digest: str) -> Path | None:
    """Return the folder of a bundle, or None if this machine does not have it.

    Args:
        folder: the data folder.
        name: of the model.
        version: of the model.
        digest: the SHA-256 of its weights.
    """
    identity = {"name": name, "version": version, "digest": digest}
    for path in _manifests(folder):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            manifest = json.loads(path.read_text(encoding="utf-8"))
            if identity.items() <= manifest.items():
                return path.parent
    return None


def _manifests(folder: Path) -> Iterator[Path]:
    settings = child_env.child_environment(folder)
    roots = [Path(settings[name]) for name in ("SORTBELT_MODEL_CACHE", "SORTBELT_BUNDLES") if settings.get(name)]
    for root in (*roots, child_env.CHECKOUT / "model" / "bundles", folder / "trained"):
        yield from sorted(root.glob("*/model.json"))
