"""The manifest of a folder run: which picture went into which job, in a SQLite file that survives kill -9."""

import contextlib
import hashlib
import os
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sortbelt import errors, lock, pictures

VERSION = 1
SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, sealed INTEGER NOT NULL, settled INTEGER NOT NULL
);
CREATE TABLE pictures (
    name TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sha256 BLOB NOT NULL,
    job INTEGER, code TEXT, detail TEXT
) WITHOUT ROWID;
CREATE INDEX failures ON pictures (job) WHERE code IS NOT NULL;
"""


@dataclass(frozen=True, slots=True)
class Job:
    """A job that the folder's pictures went into.

    Attributes:
        number: counts the jobs of this manifest.
        id: the server's.
        sealed: whether it takes no more pictures.
        settled: whether its failures are written down here.
    """

    number: int
    id: str
    sealed: bool
    settled: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """A picture as it was when it was sent: its file's size and time, its digest, its job, and why it has no label."""

    size: int
    mtime_ns: int
    sha256: str
    job: int
    code: str | None

    def untouched(self, picture: pictures.Picture) -> bool:
        """Whether the file looks as it did then."""
        return (self.size, self.mtime_ns) == (picture.size, picture.mtime_ns)


@dataclass(frozen=True, slots=True)
class Failure:
    """A picture without a label, and why."""

    name: str
    code: str
    detail: str


def locate(url: str, key: str, root: str, model: str | None, environ: Mapping[str, str] | None = None) -> Path:
    """The manifest of a folder for one server, one key and one choice of model, in the user's state folder."""
    environ = os.environ if environ is None else environ
    home = environ.get("XDG_STATE_HOME")
    state = (Path(home) if home else Path.home() / ".local" / "state").absolute() / "sortbelt" / "runs"
    what = "\0".join((url.rstrip("/"), key, os.path.realpath(root), model or ""))
    return state / f"{hashlib.sha256(what.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.sqlite"


class Manifest:
    """An open manifest, which no other process holds; to be used by one thread.

    Args:
        path: of the file, made if it is not there.
        root: the folder that it is about.

    Raises:
        errors.BadInput: the file is no manifest, is another folder's, is in use, or cannot be written.
    """

    def __init__(self, path: Path, root: str) -> None:
        self.path = path
        self._lock = lock.Lock(path.with_name(path.name + ".lock"))
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            taken = self._lock.take(0.0)
        except OSError as error:
            raise errors.BadInput(f"{path} cannot be written: {error.strerror}.", "bad_manifest") from None
        if not taken:
            raise errors.BadInput(
                f"Another run (pid {self._lock.owner()}) is at work on this folder: wait for it, or stop it.",
                "already_running",
            )
        self._db = _open(path)
        self._belongs_to(os.path.realpath(root))

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()
        self._lock.release()

    def _belongs_to(self, root: str) -> None:
        root = pictures.wire_name(root)
        known = self._fact("folder", root)
        if known != root:
            raise errors.BadInput(
                f"{self.path} is the manifest of {known}: name another file with --manifest.", "bad_manifest"
            )

    def _fact(self, name: str, default: str) -> str:
        with self._db:
            self._db.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (name, default))
        return str(self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()[0])

    def clear(self) -> None:
        """Forget every job and picture, so that all are new."""
        with self._db:
            self._db.execute("DELETE FROM jobs")
            self._db.execute("DELETE FROM pictures")
            self._db.execute("DELETE FROM facts WHERE name = 'order'")

    def order(self) -> str:
        """The idempotency key of the job that is to be opened: the same one until `opened`, even after kill -9."""
        return self._fact("order", str(uuid.uuid4()))

    def opened(self, job_id: str) -> Job:
        """Note that the pictures from now on go into this job."""
        with self._db:
            self._db.execute("DELETE FROM facts WHERE name = 'order'")
            self._db.execute("INSERT INTO jobs (id, sealed, settled) VALUES (?, 0, 0)", (job_id,))
        job = self.latest()
        assert job is not None  # noqa: S101 - for the type checker
        return job

    def sealed(self, job_id: str) -> None:
        """Note that the job takes no more."""
        with self._db:
            self._db.execute("UPDATE jobs SET sealed = 1 WHERE id = ?", (job_id,))

    def settled(self, job_id: str) -> None:
        """Note that all failures of the job were told to `failed`."""
        with self._db:
            self._db.execute("UPDATE jobs SET settled = 1 WHERE id = ?", (job_id,))

    def latest(self) -> Job | None:
        """The job that was opened last."""
        return next(self._jobs("ORDER BY number DESC LIMIT 1"), None)

    def unsettled(self) -> list[Job]:
        """The jobs whose failures are not known yet, oldest first."""
        return list(self._jobs("WHERE settled = 0 ORDER BY number"))

    def jobs(self) -> list[Job]:
        """All jobs, oldest first."""
        return list(self._jobs("ORDER BY number"))

    def _jobs(self, which: str) -> Iterator[Job]:
        rows = self._db.execute(f"SELECT number, id, sealed, settled FROM jobs {which}")  # noqa: S608 - our own words
        return (Job(number, id_, bool(sealed), bool(settled)) for number, id_, sealed, settled in rows)

    def lookup(self, name: str) -> Entry | None:
        """What is known of a picture that is in a job."""
        row = self._db.execute(
            "SELECT size, mtime_ns, sha256, job, code FROM pictures WHERE name = ? AND job IS NOT NULL", (name,)
        ).fetchone()
        return Entry(row[0], row[1], row[2].hex(), row[3], row[4]) if row else None

    def sent(self, job: Job, some: Iterable[pictures.Picture]) -> None:
        """Note that a job has these pictures."""
        rows = ((p.name, p.size, p.mtime_ns, bytes.fromhex(p.sha256), job.number) for p in some)
        with self._db:
            self._db.executemany("REPLACE INTO pictures VALUES (?, ?, ?, ?, ?, NULL, NULL)", rows)

    def touched(self, some: Iterable[pictures.Picture]) -> None:
        """Note that these files look different, but hold what they held."""
        rows = ((p.size, p.mtime_ns, p.name) for p in some)
        with self._db:
            self._db.executemany("UPDATE pictures SET size = ?, mtime_ns = ? WHERE name = ?", rows)

    def not_sent(self, failures: Iterable[Failure]) -> None:
        """Note pictures that no job has, and why; the next run tries them again."""
        rows = ((f.name, f.code, f.detail) for f in failures)
        with self._db:
            self._db.executemany("REPLACE INTO pictures VALUES (?, 0, 0, x'', NULL, ?, ?)", rows)

    def forget_not_sent(self) -> None:
        """Forget those that no job has."""
        with self._db:
            self._db.execute("DELETE FROM pictures WHERE job IS NULL")

    def failed(self, job: Job, failures: Iterable[Failure]) -> None:
        """Note pictures that a job could not put a label on."""
        rows = ((f.code, f.detail, f.name, job.number) for f in failures)
        with self._db:
            self._db.executemany("UPDATE pictures SET code = ?, detail = ? WHERE name = ? AND job = ?", rows)

    def failures(self, job: Job | None) -> Iterator[Failure]:
        """The pictures without a label: those of a job, and those that no job has."""
        number = job.number if job else None
        rows = self._db.execute(
            "SELECT name, code, detail FROM pictures WHERE code IS NOT NULL AND (job = ? OR job IS NULL) ORDER BY name",
            (number,),
        )
        return (Failure(*row) for row in rows)


def _open(path: Path) -> sqlite3.Connection:
    try:
        db = sqlite3.connect(path)
        with contextlib.suppress(OSError):
            path.chmod(0o600)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last entries; the server knows them
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            db.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        elif version != VERSION:
            raise sqlite3.DatabaseError(f"it is of version {version}")
    except sqlite3.Error as error:
        raise errors.BadInput(
            f"{path} cannot be used as a manifest ({error}): remove it, or name another file with --manifest.",
            "bad_manifest",
        ) from None
    return db
