"""Checks of identifiers in paths, before a database is asked for them."""

import re
import uuid

from core import errors

MAX_DIGITS = 18  # of a number in a caller's text: it fits into 64 bits, and Python refuses to read thousands


def is_slug(value: str) -> bool:
    """Return whether a text could be the name of a model, or a version."""
    return re.fullmatch(r"[a-z0-9._-]{1,100}", value) is not None


def is_id(value: str) -> bool:
    """Return whether a text is a UUID in the form in which the server writes ids."""
    try:
        return str(uuid.UUID(value)) == value
    except ValueError:
        return False


def row_id(value: str) -> int:
    """Return the number of a row; -1, which no row has, for a text that cannot be one."""
    return int(value) if value.isascii() and value.isdecimal() and len(value) <= MAX_DIGITS else -1


def require_id(value: str, not_found: type[errors.NotFound]) -> str:
    """Return an id that may exist.

    Raises:
        errors.NotFound: the text cannot be one.
    """
    if not is_id(value):
        raise not_found.of(value)
    return value


def require_row_id(value: str, not_found: type[errors.NotFound]) -> int:
    """Return the number of a row that may exist.

    Raises:
        errors.NotFound: the text cannot be one.
    """
    if (number := row_id(value)) < 0:
        raise not_found.of(value)
    return number
