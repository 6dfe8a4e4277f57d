"""Server discovery: URL and key from arguments, environment, or a server on this machine."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from sortbelt import errors
from sortbelt.local import data_directory

NO_SERVER_MESSAGE = (
    "No Sortbelt server is configured: start one with `sortbelt up`, name the data folder of a running one with "
    "--data-dir or SORTBELT_DATA_DIR, or set SORTBELT_URL and SORTBELT_KEY."
)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """URL and key of a server."""

    url: str
    key: str = field(repr=False)


def find_server(url: str | None = None, key: str | None = None, *, data_dir: str | None = None) -> ServerConfig:
    """Return the server to use.

    Args:
        url: by default `SORTBELT_URL`, else that of the `sortbelt up` that runs on the data folder.
        key: by default `SORTBELT_KEY`, or the content of `SORTBELT_KEY_FILE`, else the admin key of that `up`.
        data_dir: data folder, by default `SORTBELT_DATA_DIR`, else the user's own. If it is given without `url`, its
            server is used, whatever `SORTBELT_URL` is.

    Raises:
        errors.BadInput: there is a URL, but no key.
        errors.Unreachable: there is no URL, or no server runs on the given data folder.
    """
    if data_dir and not url:
        return _server_of_folder(data_directory.locate(data_dir), key)
    address = url or os.environ.get("SORTBELT_URL") or ""
    secret = key or os.environ.get("SORTBELT_KEY") or _read_key_file(os.environ.get("SORTBELT_KEY_FILE"))
    running_server = data_directory.find_running(data_directory.locate(data_dir)) if not (address and secret) else None
    address = address or (running_server.url if running_server else "")
    if not address:
        raise errors.Unreachable(NO_SERVER_MESSAGE)
    if not secret and running_server and running_server.url.rstrip("/") == address.rstrip("/"):
        secret = _read_key_file(running_server.key_file)
    if not secret:
        raise errors.BadInput(f"No key for {address}: set SORTBELT_KEY to one.", "no_key")
    return ServerConfig(address, secret)


def _server_of_folder(folder: Path, key: str | None) -> ServerConfig:
    running_server = data_directory.find_running(folder)
    if running_server is None:
        raise errors.Unreachable(
            f"No server runs on the data folder {folder}: start one with `sortbelt up --data-dir {folder}`, or leave "
            "--data-dir out."
        )
    environ = os.environ
    if environ.get("SORTBELT_URL", "").rstrip("/") in {"", running_server.url.rstrip("/")}:
        key = key or environ.get("SORTBELT_KEY") or _read_key_file(environ.get("SORTBELT_KEY_FILE"))
    return ServerConfig(running_server.url, key or _read_key_file(running_server.key_file))


def _read_key_file(path: str | None) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise errors.BadInput(
            f"The key file {path} cannot be read ({error}): check SORTBELT_KEY_FILE.", "no_key"
        ) from None
