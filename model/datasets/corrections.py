"""Read the corrected labels of images: a CSV file of SHA-256 and label, which outweighs the class folders."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING

from model.datasets.class_folders import InvalidDataset

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HEADER = ["sha256", "label"]
_DIGEST = re.compile(r"[0-9a-f]{64}")


def read(path: Path) -> dict[str, str | None]:
    """Return the label of each image by its digest; None leaves the image out.

    Raises:
        InvalidDataset: the file is not such a CSV file, or has two labels for one image.
        OSError: it cannot be read.
    """
    with path.open(encoding="utf-8", newline="") as file:
        try:
            header, *rows = list(csv.reader(file)) or [[]]
        except (csv.Error, UnicodeDecodeError) as error:
            raise InvalidDataset(f"{path} is not a CSV file ({error}): give another --relabel.") from error
    if header != HEADER:
        raise InvalidDataset(f"{path} begins with {','.join(header)[:100]!r}: its first line must be sha256,label.")
    labels: dict[str, str | None] = {}
    for number, row in enumerate(rows, start=2):
        if len(row) != len(HEADER) or not _DIGEST.fullmatch(row[0]):
            raise InvalidDataset(f"{path}, line {number}: write the SHA-256 of an image, a comma, and its label.")
        digest, label = row[0], row[1] or None
        if labels.setdefault(digest, label) != label:
            raise InvalidDataset(f"{path}, line {number}: {digest} has two labels; remove one of the lines.")
    return labels


def check_labels(corrected: Mapping[str, str | None], labels: tuple[str, ...]) -> None:
    """Raise InvalidDataset if a corrected label is not a class of the data set."""
    unknown = sorted({label for label in corrected.values() if label is not None} - set(labels))
    if unknown:
        raise InvalidDataset(f"--relabel has the unknown {', '.join(unknown)}: the classes are {', '.join(labels)}.")


def left_out(corrected: Mapping[str, str | None]) -> dict[str, str]:
    """Return the digests of the images that are left out, with the reason."""
    return {digest: "--relabel leaves it out" for digest, label in corrected.items() if label is None}
