"""Where the server is and which key opens it: what was said, what the environment says, or what runs here."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sortbelt import datafolder, errors

NOBODY = (
    "No Sortbelt server is known: start one on this machine with `sortbelt up`, name the data folder of one that runs "
    "with --data-dir or SORTBELT_DATA_DIR, or set SORTBELT_URL and SORTBELT_KEY to those of another."
)


@dataclass(frozen=True, slots=True)
class Place:
    """A server's address with a key."""

    url: str
    key: str = field(repr=False)


def find(
    url: str | None = None,
    key: str | None = None,
    *,
    data_dir: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Place:
    """The server to talk to.

    Args:
        url: else `SORTBELT_URL`, else that of the `sortbelt up` that runs on the data folder.
        key: else `SORTBELT_KEY`, or the text of the file `SORTBELT_KEY_FILE`, else the admin key of that `up`.
        data_dir: the data folder, else `SORTBELT_DATA_DIR`, else the default one.
        environ: the environment to look in.

    Raises:
        errors.BadInput: an address is known, but no key.
        errors.Unreachable: no address is known.
    """
    environ = os.environ if environ is None else environ
    address = url or environ.get("SORTBELT_URL") or ""
    secret = key or environ.get("SORTBELT_KEY") or _from_file(environ.get("SORTBELT_KEY_FILE"))
    here = datafolder.running(datafolder.locate(data_dir, environ)) if not (address and secret) else None
    address = address or (here.url if here else "")
    if not address:
        raise errors.Unreachable(NOBODY)
    if not secret and here and here.url.rstrip("/") == address.rstrip("/"):
        secret = _from_file(here.key_file)
    if not secret:
        raise errors.BadInput(f"No key for {address}: set SORTBELT_KEY to one.", "no_key")
    return Place(address, secret)


def _from_file(path: str | None) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise errors.BadInput(f"The key cannot be read from {path}: {error}.", "no_key") from None
