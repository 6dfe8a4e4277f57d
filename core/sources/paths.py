"""Paths inside a source."""

import unicodedata

from core import errors, specs

MAX_PATH_LENGTH = 1024


def normalize_prefix(prefix: str) -> str:
    """Return a prefix without a slash at its end.

    Raises:
        errors.BadParameter: it is not a relative path inside a source.
    """
    if prefix.startswith("/"):
        raise errors.BadParameter(
            f"{prefix[:100]!r} begins with /; use a prefix relative to the source, like 2026/january."
        )
    path = prefix.rstrip("/")
    if path and (not is_valid_path(path) or specs.DOT_SEGMENTS & set(path.split("/"))):
        raise errors.BadParameter(f"{prefix[:100]!r} is not a prefix in a source; use one like 2026/january.")
    return path


def is_valid_path(path: str) -> bool:
    """Return whether a path can be an image's name: text without control characters, of limited length."""
    return len(path) <= MAX_PATH_LENGTH and not any(unicodedata.category(x) in ("Cc", "Cs") for x in path)
