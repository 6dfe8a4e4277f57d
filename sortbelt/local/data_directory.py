"""Data folder of `sortbelt up`: location, lock, admin key, and the announcement of the running server."""

import base64
import contextlib
import json
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sortbelt import errors
from sortbelt.local import folder_lock

OWN_NAMES = {"admin.key", "sortbelt.db", "sortbelt.db-wal", "sortbelt.db-shm", "up.json", "up.pid"}
OWN_NAMES |= {"blobs", "logs", "models", "redis"}
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
LOCK_TIMEOUT_SECONDS = 1.0  # a client that probes the lock holds it for a moment


class RunningServer(NamedTuple):
    """Running `sortbelt up`; `redis_url` is that of its private Redis, if it started one."""

    url: str
    key_file: str
    pid: int
    redis_url: str = ""


def locate(data_dir: str | None = None) -> Path:
    """Return the data folder: the given one, else `SORTBELT_DATA_DIR`, else the user's own (XDG on Linux)."""
    configured = data_dir or os.environ.get("SORTBELT_DATA_DIR")
    if configured:
        return Path(configured).expanduser().absolute()
    import platformdirs  # noqa: PLC0415 (not needed if a folder is configured, and only with a server on this machine)

    return platformdirs.user_data_path("sortbelt", appauthor=False).absolute()


def find_running(folder: Path) -> RunningServer | None:
    """Return the server that runs on a data folder, or None: `up` runs only while it holds the lock."""
    return read_announcement(folder) if folder_lock.FolderLock(folder).is_held() else None


def read_announcement(folder: Path) -> RunningServer | None:
    """Read `up.json`; it is stale if its `up` was killed."""
    try:
        raw = json.loads((folder / "up.json").read_text(encoding="utf-8"))
        return RunningServer(raw["url"], raw["key_file"], raw["pid"], raw.get("redis_url", ""))
    except (OSError, ValueError, KeyError):
        return None


def write_announcement(folder: Path, running_server: RunningServer) -> None:
    """Write `up.json` for the clients on this machine, readable by this user only."""
    _write_private(folder / "up.json", json.dumps(running_server._asdict()))


def remove_announcement(folder: Path) -> None:
    """Remove `up.json`."""
    (folder / "up.json").unlink(missing_ok=True)


def prepare(folder: Path) -> None:
    """Create the folder and its subfolders, readable by this user only.

    Raises:
        errors.BadInput: it is not a folder, or cannot be written; or others may have put something into it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_ownership(folder)  # also of a folder that did not exist: another user may have been faster
        for directory in (folder / "logs", folder / "redis", folder / "blobs"):
            directory.mkdir(mode=0o700, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise errors.BadInput(
            f"The data folder {folder} cannot be used ({error.strerror}): name another one with --data-dir.",
            "bad_data_folder",
        ) from None
    if "?" in str(folder):
        raise errors.BadInput(
            f"The data folder {folder} has a question mark in its name: name another one with --data-dir.",
            "bad_data_folder",
        )


def _check_ownership(folder: Path) -> None:
    """Check that only this user can have put files into a folder; make Sortbelt's files in it private.

    Raises:
        errors.BadInput: another user owns it or a file in it, or others may write to it.
        OSError: it cannot be read.
    """
    is_own = folder.stat().st_uid == os.geteuid()
    if is_own and not any(folder.iterdir()):
        folder.chmod(0o700)  # before its entries are listed: other users can add none afterwards
    entries = [path for path in folder.iterdir() if path.name in OWN_NAMES]
    mode = stat.S_IMODE(folder.stat().st_mode)
    reason = ""
    if not is_own:
        reason = "it belongs to another user"
    elif mode & OTHERS_WRITE:
        reason = f"other users may write to it: its mode is {mode:04o}"
    elif foreign := [entry.name for entry in entries if entry.lstat().st_uid != os.geteuid()]:
        reason = f"{foreign[0]!r} in it belongs to another user"
    if reason:
        raise errors.BadInput(
            f"The data folder {folder} is not safe ({reason}): its key and jobs may be another user's. Name another "
            "one with --data-dir, or take it over with `chown -R` and `chmod -R go-rwx` if you know all its files.",
            "bad_data_folder",
        )
    for entry in entries:
        if not entry.is_symlink():
            entry.chmod(stat.S_IMODE(entry.lstat().st_mode) & 0o700)


def ensure_admin_key_file(folder: Path) -> Path:
    """Return the file with the admin key: the caller's, else the folder's own, created at the first start."""
    if "SORTBELT_ADMIN_KEY_FILE" in os.environ:
        return Path(os.environ["SORTBELT_ADMIN_KEY_FILE"]).absolute()
    path = folder / "admin.key"
    if "SORTBELT_ADMIN_KEY" in os.environ:
        _write_private(path, os.environ["SORTBELT_ADMIN_KEY"] + "\n")
    elif not path.exists():
        secret_part = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        _write_private(path, f"sb_{secrets.token_hex(4)}_{secret_part}\n")
    return path


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the folder for this `up`.

    Raises:
        errors.BadInput: another one has locked it.
    """
    lock = folder_lock.FolderLock(folder)
    if not lock.acquire(LOCK_TIMEOUT_SECONDS):
        running_server = read_announcement(folder)
        location = f" at {running_server.url}" if running_server else ""
        raise errors.BadInput(f"Already running on {folder} (pid {lock.owner_pid()}){location}.", "already_running")
    try:
        yield
    finally:
        lock.release()


def _write_private(path: Path, text: str) -> None:
    temp_path = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(temp_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123 - private from the first byte on
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temp_path.replace(path)
