"""Export of reviewed images into one folder per label, for training. A repeat does only what is left."""

import enum
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from sortbelt import errors
from sortbelt.bulk import sort_by_label
from sortbelt.client import responses

_EXPORTED_NAME = re.compile(r"[0-9a-f]{64}(\.[a-z0-9]{1,5})?")


class Outcome(enum.StrEnum):
    """Outcome for one review."""

    EXPORTED = "exported"
    ALREADY_THERE = "already there"  # by an earlier export
    MOVED = "moved"  # to the folder of another label, because the review has changed
    SAME_BYTES = "same bytes"  # a newer review of the same bytes counts
    NO_LABEL = "without a label"  # none of the labels fits, or the image is bad
    GONE = "gone"  # the server does not have the bytes any more


class ReviewExporter:
    """Write reviewed images into label folders, each under the SHA-256 of its bytes.

    Give it the newest reviews first: of several reviews of the same bytes, the first counts.

    Args:
        out: the folder for the label folders, created when needed.
        fetch: returns the bytes of an image, by its id.
    """

    def __init__(self, out: str, fetch: Callable[[str], bytes]) -> None:
        self._out = Path(os.path.realpath(out))
        self._fetch = fetch
        self._labels_by_folder: dict[str, str] = {}
        self._seen_digests: set[str] = set()
        self._paths = {path.name[:64]: path for path in self._out.glob("*/*") if _EXPORTED_NAME.fullmatch(path.name)}
        """The images of earlier exports, by their digest."""

    def export(self, review: responses.Review) -> Outcome:
        """Export the image of one review.

        Raises:
            errors.BadInput: two labels differ only in characters that a folder name cannot have.
            errors.ApiError: the server cannot give the image.
            OSError: the disk is full, or the folder cannot be written.
        """
        if review.sha256 in self._seen_digests:
            return Outcome.SAME_BYTES
        self._seen_digests.add(review.sha256)
        if review.label is None:
            return Outcome.NO_LABEL
        folder = self._out / self._folder_name(review.label)
        existing = self._paths.get(review.sha256)
        if existing is not None and existing.parent == folder:
            return Outcome.ALREADY_THERE
        folder.mkdir(parents=True, exist_ok=True)
        if existing is not None:
            existing.replace(folder / existing.name)
            return Outcome.MOVED
        return self._write(review, folder)

    def _write(self, review: responses.Review, folder: Path) -> Outcome:
        try:
            data = self._fetch(review.image_id)
        except errors.NotFound:
            return Outcome.GONE
        if hashlib.sha256(data).hexdigest() != review.sha256:
            return Outcome.GONE
        target = folder / (review.sha256 + _safe_suffix(review.image))
        temp_path = target.with_name(f".{target.name}.sortbelt-part")
        temp_path.write_bytes(data)
        temp_path.replace(target)
        return Outcome.EXPORTED

    def _folder_name(self, label: str) -> str:
        name = sort_by_label.safe_folder_name(label, reserved=())
        other = self._labels_by_folder.setdefault(name.casefold(), label)
        if other != label:
            raise errors.BadInput(
                f"The labels {other!r} and {label!r} would have the same folder {name!r}: export them one at a time "
                "with --label, into different folders.",
                "same_folder",
            )
        return name


def _safe_suffix(name: str) -> str:
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if re.fullmatch(r"\.[a-z0-9]{1,5}", suffix) else ""
