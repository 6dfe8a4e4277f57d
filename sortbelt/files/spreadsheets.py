"""Cells of tables that spreadsheets open; the server imports this module too: it needs the standard library only."""

import re
from typing import Any

# At the start of a cell, or after a separator at which a spreadsheet of another language splits the cell.
_FORMULA_START = re.compile(
    "^(?=[\\t\\r\\n=+\\-@\uff1d\uff0b\uff0d\uff20])|[;\\t\\r\\n][ \"']*(?=[=+\\-@\uff1d\uff0b\uff0d\uff20])"
)


def escape_formula(value: Any) -> Any:
    """Prefix a text that a spreadsheet would take for a formula with `'`; other values stay as they are."""
    return _FORMULA_START.sub(r"\g<0>'", value) if isinstance(value, str) else value
