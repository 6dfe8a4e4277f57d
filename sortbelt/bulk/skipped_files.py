"""Skipped files of a folder: how many by reason, and the names of the first that may be images."""

from collections import Counter
from dataclasses import dataclass, field

from sortbelt.files import file_names, file_rules

MAX_NAMED = 20  # as of an import by the server


@dataclass
class SkippedFiles:
    """Files and folders that a walk has left out.

    Attributes:
        counts: their number, by reason.
        left_out: name and reason of the first that may be, or contain, images.
    """

    counts: Counter[str] = field(default_factory=Counter)
    left_out: list[dict[str, str]] = field(default_factory=list)

    def add(self, path: str, reason: str) -> None:
        """Count a file or a folder, and name it if it may be an image."""
        self.counts[reason] += 1
        if reason not in file_rules.HARMLESS_REASONS and len(self.left_out) < MAX_NAMED:
            self.left_out.append({"name": file_names.escape_name(path), "reason": reason})
