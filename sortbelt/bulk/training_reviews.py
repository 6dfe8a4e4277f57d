"""Reviews as training data: the labels that count for photos of a folder, and the reviewed images that it lacks."""

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from sortbelt.bulk import review_export
from sortbelt.client import responses

IMAGES_FOLDER, LABELS_FILE = "images", "labels.csv"


class TrainingReviews:
    """Collect reviews for a training on a folder of photos: give it the newest reviews first.

    `counts` says what became of them: `corrected`, `confirmed`, `left out` (none of the labels fits, or the image is
    bad), `added` (not in the folder, and fetched), `other labels`, `gone` (the server does not have the bytes).

    Args:
        photos: the folder, with one sub-folder per label.
        out: the folder to write to; it must be empty.
        fetch: returns the bytes of an image, by its id.
        labels_of: the labels of each version, by NAME@VERSION. That none of them fits says nothing about others.
    """

    def __init__(
        self, photos: Path, out: Path, fetch: Callable[[str], bytes], labels_of: Mapping[str, tuple[str, ...]]
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.images_folder, self.labels_file = out / IMAGES_FOLDER, out / LABELS_FILE
        self._labels_by_digest = _hash_folder(photos)
        self._labels = {label for labels in self._labels_by_digest.values() for label in labels}
        self._labels_of = labels_of
        self._exporter = review_export.ReviewExporter(str(self.images_folder), fetch)
        self._corrected: dict[str, str | None] = {}

    def collect(self, reviews: Iterable[responses.Review]) -> None:
        """Fetch what the folder lacks, and write the file of labels.

        Raises:
            errors.BadInput: two labels would have the same folder.
            errors.ApiError: the server cannot give an image.
            OSError: the disk is full, or the folder cannot be written.
        """
        seen: set[str] = set()
        for review in reviews:
            if review.sha256 not in seen:
                if not self._is_of_other_labels(review):
                    seen.add(review.sha256)
                self.counts[self._add(review)] += 1
        self.labels_file.parent.mkdir(parents=True, exist_ok=True)
        with self.labels_file.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("sha256", "label"))
            writer.writerows((digest, label or "") for digest, label in self._corrected.items())

    def _is_of_other_labels(self, review: responses.Review) -> bool:
        """Return whether a review says nothing about the labels of the folder: its model does not have them all."""
        if review.verdict == "bad_image" or review.label in self._labels:
            return False
        return not set(self._labels_of.get(f"{review.model}@{review.version}", ())) >= self._labels

    def _add(self, review: responses.Review) -> str:
        folder_labels = self._labels_by_digest.get(review.sha256)
        if self._is_of_other_labels(review):
            return "other labels"
        if review.label is None:
            if folder_labels is not None:
                self._corrected[review.sha256] = None
            return "left out"
        if review.label not in self._labels:
            return "other labels"
        if folder_labels is None:
            if self._exporter.export(review) is review_export.Outcome.GONE:
                return "gone"
            self._corrected[review.sha256] = review.label
            return "added"
        self._corrected[review.sha256] = review.label
        return "confirmed" if folder_labels == {review.label} else "corrected"


def _hash_folder(photos: Path) -> dict[str, set[str]]:
    """Return the labels of each digest: the names of the sub-folders in which its bytes are."""
    labels: dict[str, set[str]] = {}
    for folder in sorted(path for path in photos.iterdir() if path.is_dir() and path.name[0] != "."):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            labels.setdefault(_hash_file(path), set()).add(folder.name)
    return labels


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
