"""Keeps the check of a bundle by hand: `python -m model.verify BUNDLE`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from model import bundle as bundles
from model import classifier, selftest

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Loads and self-tests one bundle and says what was checked; 1 if it must not be used."""
    parser = argparse.ArgumentParser(prog="model.verify", description="Checks a bundle from end to end.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda, cuda:N (cpu)")
    chosen = parser.parse_args(arguments)
    try:
        loaded = bundles.load(chosen.bundle)
        difference = selftest.check(classifier.Classifier(loaded, device=chosen.device))
    except ValueError as wrong:
        sys.stderr.write(f"{wrong}\n")
        return 1
    manifest = loaded.manifest
    parameters = sum(parameter.numel() for parameter in loaded.network.parameters())
    sys.stdout.write(
        f"{manifest.name} {manifest.version}: fit for use\n"
        f"  labels     {', '.join(manifest.labels)}\n"
        f"  network    {manifest.network.name}, {parameters:,} parameters, finite and of the right shapes\n"
        f"  weights    stored as {manifest.precision}, SHA-256 {manifest.digest} as promised\n"
        f"  self-test  {manifest.selftest.picture}: off by at most {difference:.2g} on {chosen.device}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
