"""Check a bundle from end to end: `python -m model.verify BUNDLE`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from model.inference import selftest

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Load and self-test one bundle and print what was checked: 0 usable, 1 not."""
    parser = argparse.ArgumentParser(
        prog="model.verify", description="Check digest, weights and self-test of a bundle."
    )
    parser.add_argument("bundle", type=Path, help="folder of the bundle")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda or cuda:N (default: cpu)")
    args = parser.parse_args(argv)
    try:
        classifier = selftest.load_verified(args.bundle, args.device)
        difference = selftest.check(classifier)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    manifest = classifier.bundle.manifest
    parameters = sum(parameter.numel() for parameter in classifier.bundle.network.parameters())
    sys.stdout.write(
        f"{manifest.name} {manifest.version}: fit for use\n"
        f"  labels     {', '.join(manifest.labels)}\n"
        f"  network    {manifest.network.name}, {parameters:,} parameters, finite and of the right shapes\n"
        f"  weights    stored as {manifest.precision}, SHA-256 {manifest.digest} as promised\n"
        f"  self-test  {manifest.selftest.picture}: off by at most {difference:.2g} on {args.device}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
