"""Image names of files: file names escaped one-to-one, so that any file name becomes printable text and back.

The server imports this module too, for its sources: it needs the standard library only.
"""

import re
import unicodedata

MAX_NAME_LENGTH = 1024  # of an image, in characters
MAX_NAME_BYTES = 2600  # of an image, in UTF-8: an entry of an index of PostgreSQL has at most 2,704, with an id
_MAX_CHARACTER_BYTES = 4
_UNSTORABLE_CATEGORIES = {"Cc", "Cs"}  # control characters, and bytes that are not UTF-8
_NAMED_ESCAPES = {"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}
_ESCAPE = re.compile(r"\\(?:([\\nrt])|x([0-9a-f]{2})|u([0-9a-f]{4}))")


def escape_name(file_name: str) -> str:
    r"""Escape a file name one-to-one; `unescape_name` is the inverse.

    A backslash becomes `\\`, a line feed `\n`, and the byte F1 `\udcf1` where it is not UTF-8. Two files never
    have the same image name.
    """
    if file_name.isprintable() and "\\" not in file_name:
        return file_name
    return "".join(map(_escape_character, file_name))


def unescape_name(name: str) -> str:
    """Return the file name that `escape_name` has escaped; everything else stays as it is."""
    return _ESCAPE.sub(_unescape_match, name) if "\\" in name else name


def storable_name(name: str) -> str:
    """Return a name that a caller has chosen as it is if it can be stored, else escaped."""
    if name.isprintable() or not any(unicodedata.category(character) in _UNSTORABLE_CATEGORIES for character in name):
        return name
    return escape_name(name)


def is_too_long(name: str) -> bool:
    """Return whether an image's name, which is printable, has too many characters or too many bytes in UTF-8."""
    return len(name) > MAX_NAME_LENGTH or has_too_many_bytes(name)


def has_too_many_bytes(name: str) -> bool:
    """Return whether an image's name of at most `MAX_NAME_LENGTH` characters has too many bytes in UTF-8."""
    return len(name) * _MAX_CHARACTER_BYTES > MAX_NAME_BYTES and len(name.encode()) > MAX_NAME_BYTES


def _escape_character(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cs":
        return f"\\u{ord(character):04x}"
    if category == "Cc" or character == "\\":
        return character.encode("unicode_escape").decode()
    return character


def _unescape_match(match: re.Match[str]) -> str:
    named, byte, unit = match.groups()
    return _NAMED_ESCAPES[named] if named else chr(int(byte or unit, 16))
