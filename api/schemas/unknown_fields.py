"""Messages about unknown parameters and fields, with the closest known name."""

import difflib
from collections.abc import Collection, Sequence

from sortbelt import version

MAX_NAMED = 5
MAX_NAME_CHARACTERS = 100


def unknown_message(kind: str, unknown_names: Sequence[str], known: Collection[str], location: str = "here") -> str:
    """Return what is unknown, the closest known names, and all known names.

    The server's version is named for callers whose client is newer than the server. `kind` is what the names are of,
    such as "parameter".
    """
    quoted_names = ", ".join(map(quoted, unknown_names[:MAX_NAMED]))
    more = ", …" if len(unknown_names) > MAX_NAMED else ""
    prefix = f"This server (version {version.VERSION}) does not know the {kind} {quoted_names}{more} {location}"
    if not known:
        return f"{prefix}: there are none."
    return f"{prefix}{_suggestions(unknown_names, known)} Known: {', '.join(sorted(known))}."


def repeated_message(kind: str, name: str, count: int) -> str:
    """Return that a parameter or field came more than once."""
    return f"The {kind} {quoted(name)} was given {count:,} times; give it once."


def quoted(name: str) -> str:
    """Return a name from a request in quotes, shortened if it is long."""
    return repr(name if len(name) <= MAX_NAME_CHARACTERS else name[:MAX_NAME_CHARACTERS] + "…")


def _suggestions(unknown_names: Sequence[str], known: Collection[str]) -> str:
    names = [name for name in unknown_names[:MAX_NAMED] if len(name) <= MAX_NAME_CHARACTERS]  # others are like no other
    matches = [match for name in names for match in difflib.get_close_matches(name.lower(), known, n=1)]
    return f"; did you mean {' and '.join(dict.fromkeys(matches))}?" if matches else "."
