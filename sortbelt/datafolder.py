"""The data folder of an embedded stack: its place, its lock, its admin key, and what runs on it."""

import base64
import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from sortbelt import errors, lock

CLIENTS_GLANCE_SECONDS = 1.0  # a client that asks whether `up` runs holds the lock for a moment


@dataclass(frozen=True, slots=True)
class Running:
    """The `sortbelt up` that runs on a data folder; `redis_url` is that of its own Redis, if it has one."""

    url: str
    key_file: str
    pid: int
    redis_url: str = ""


def locate(data_dir: str | None = None, environ: Mapping[str, str] | None = None) -> Path:
    """The data folder: the given one, else `SORTBELT_DATA_DIR`, else the user's own."""
    environ = os.environ if environ is None else environ
    chosen = data_dir or environ.get("SORTBELT_DATA_DIR")
    if chosen:
        return Path(chosen).expanduser().absolute()
    home = environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share").absolute() / "sortbelt"


def running(folder: Path) -> Running | None:
    """What runs on a data folder, or None: whatever `up.json` says, `up` runs only while it holds the lock."""
    return last_announced(folder) if lock.Lock(folder / "up.lock").held() else None


def last_announced(folder: Path) -> Running | None:
    """What `up.json` says, which is old if its `up` was killed."""
    try:
        raw = json.loads((folder / "up.json").read_text(encoding="utf-8"))
        return Running(raw["url"], raw["key_file"], raw["pid"], raw.get("redis_url", ""))
    except (OSError, ValueError, KeyError):
        return None


def announce(folder: Path, up: Running) -> None:
    """Tell the clients on this machine what runs here; only this user may read it."""
    _write_private(folder / "up.json", json.dumps(asdict(up)))


def withdraw(folder: Path) -> None:
    """Nothing runs here any more."""
    (folder / "up.json").unlink(missing_ok=True)


def prepare(folder: Path) -> None:
    """Make the folder and what belongs in it, readable by this user only.

    Raises:
        errors.BadInput: it is no folder, or may not be written.
    """
    try:
        for part in (folder, folder / "logs", folder / "redis", folder / "blobs"):
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise errors.BadInput(
            f"The data folder {folder} cannot be used ({error.strerror}): name another one with --data-dir.",
            "bad_data_folder",
        ) from None
    if "?" in str(folder):
        raise errors.BadInput("A data folder may have no question mark in its name.", "bad_data_folder")


def admin_key(folder: Path, environ: Mapping[str, str] | None = None) -> Path:
    """The file with the admin key: the caller's, else the folder's own, which is made the first time."""
    environ = os.environ if environ is None else environ
    if "SORTBELT_ADMIN_KEY_FILE" in environ:
        return Path(environ["SORTBELT_ADMIN_KEY_FILE"]).absolute()
    path = folder / "admin.key"
    if "SORTBELT_ADMIN_KEY" in environ:
        _write_private(path, environ["SORTBELT_ADMIN_KEY"] + "\n")
    elif not path.exists():
        random = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        _write_private(path, f"sb_{secrets.token_hex(4)}_{random}\n")
    return path


@contextlib.contextmanager
def occupied(folder: Path) -> Iterator[None]:
    """Hold the folder, so that no other `up` works on it.

    Raises:
        errors.BadInput: another one does.
    """
    mine = lock.Lock(folder / "up.lock")
    if not mine.take(CLIENTS_GLANCE_SECONDS):
        up = last_announced(folder)
        at = f" at {up.url}" if up else ""
        raise errors.BadInput(f"Already running on {folder} (pid {mine.owner()}){at}.", "already_running")
    try:
        yield
    finally:
        mine.release()


def _write_private(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123 - private from the first byte on
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
