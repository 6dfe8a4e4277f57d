"""Manifest of a folder: which image is in which job, in a SQLite file that survives kill -9."""

import contextlib
import hashlib
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sortbelt import errors
from sortbelt.client import image_files
from sortbelt.files import file_names
from sortbelt.local import file_lock

SQLITE_HEADER = b"SQLite format 3\0"
SCHEMA_VERSION = 1
# Images that the open job may have, although they are not recorded as sent to it. Older manifests lack the table.
UPLOADS_SCHEMA = "CREATE TABLE IF NOT EXISTS uploads (name TEXT PRIMARY KEY, sha256 BLOB NOT NULL) WITHOUT ROWID;"
SCHEMA = f"""
{UPLOADS_SCHEMA}
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
-- New rows have sealed = 0; earlier versions set it to 1, and no version reads it.
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, sealed INTEGER NOT NULL, settled INTEGER NOT NULL
);
CREATE TABLE pictures (
    name TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sha256 BLOB NOT NULL,
    job INTEGER, code TEXT, detail TEXT
) WITHOUT ROWID;
CREATE INDEX failures ON pictures (job) WHERE code IS NOT NULL;
"""


class RunJob(NamedTuple):
    """Job with images of the folder.

    Attributes:
        number: number of the job in this manifest.
        id: the server's id.
    """

    number: int
    id: str


class ImageEntry(NamedTuple):
    """Image as it was when it was sent: file size and time, digest, job number, and error code if it failed.

    `job` is None if the image could not be sent; its size and time are 0 unless the server rejected it.
    """

    size: int
    mtime_ns: int
    sha256: str
    job: int | None
    code: str | None

    def is_unchanged(self, image: image_files.Image) -> bool:
        """Return whether the file has the same size and time."""
        return (self.size, self.mtime_ns) == (image.size, image.mtime_ns)


class FailedImage(NamedTuple):
    """Image without a label, and its error; with size and time of its file if the server rejected it."""

    name: str
    code: str
    detail: str
    size: int = 0
    mtime_ns: int = 0


def default_path(url: str, key: str, root: str, model: str | None) -> Path:
    """Return the manifest path for a folder, server, key and model, in the user's state folder (XDG on Linux)."""
    import platformdirs  # noqa: PLC0415 (not needed with --manifest)

    runs_dir = platformdirs.user_state_path("sortbelt", appauthor=False).absolute() / "runs"
    identity = "\0".join((url.rstrip("/"), key, os.path.realpath(root), model or ""))
    return runs_dir / f"{hashlib.sha256(identity.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.sqlite"


class RunManifest:
    """Manifest of a folder, open and locked against other processes. For one thread.

    Args:
        path: path of the file, created if missing.
        root: the folder that it is for.
        dry_run: whether changes are made to a copy, which `close` removes.

    Raises:
        errors.BadInput: the file is not a manifest, is for another folder, is in use, or cannot be written.
    """

    def __init__(self, path: Path, root: str, *, dry_run: bool = False) -> None:
        self.path = path
        self._lock = file_lock.FileLock(path.with_name(path.name + ".lock"))
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            acquired = self._lock.acquire()
        except OSError as error:
            raise errors.BadInput(
                f"{path} cannot be written ({error.strerror}): name another file with --manifest.", "bad_manifest"
            ) from None
        if not acquired:
            raise errors.BadInput(
                f"Another run (pid {self._lock.owner_pid()}) is using this folder: wait for it, or stop it.",
                "already_running",
            )
        try:
            self._conn = _copy_database(path) if dry_run else _open_database(path)
            self._check_directory(os.path.realpath(root))
        except errors.BadInput:
            self._lock.release()
            raise

    def close(self) -> None:
        """Close the file and release its lock."""
        self._conn.close()
        self._lock.release()

    def _check_directory(self, root: str) -> None:
        root = file_names.escape_name(root)
        recorded_root = self._get_or_insert_fact("folder", root)
        if recorded_root != root:
            raise errors.BadInput(
                f"{self.path} is the manifest of {recorded_root}: name another file with --manifest.", "bad_manifest"
            )

    def _get_or_insert_fact(self, name: str, default: str) -> str:
        with self._conn:
            self._conn.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (name, default))
        return str(self._conn.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()[0])

    def clear(self) -> None:
        """Forget all jobs and images."""
        with self._conn:
            self._conn.execute("DELETE FROM jobs")
            self._conn.execute("DELETE FROM pictures")
            self._conn.execute("DELETE FROM uploads")
            self._conn.execute("DELETE FROM facts WHERE name IN ('order', 'first job', 'complete')")

    def job_idempotency_key(self) -> str:
        """Return the idempotency key for the next job: the same until `add_job`, even after kill -9."""
        return self._get_or_insert_fact("order", secrets.token_hex(16))

    def add_job(self, job_id: str) -> RunJob:
        """Record a new job, for the images from now on: the first one of a run, unless that is not complete."""
        with self._conn:
            self._conn.execute("DELETE FROM facts WHERE name = 'order'")
            number = self._conn.execute("INSERT INTO jobs (id, sealed, settled) VALUES (?, 0, 0)", (job_id,)).lastrowid
            self._conn.execute(
                "INSERT INTO facts VALUES ('first job', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value "
                "WHERE EXISTS (SELECT 1 FROM facts WHERE name = 'complete')",
                (str(number),),
            )
            self._conn.execute("DELETE FROM facts WHERE name = 'complete'")
        job = self.latest_job()
        assert job is not None  # noqa: S101 - for the type checker
        return job

    def mark_run_complete(self) -> None:
        """Record that the run has not been interrupted: the next new job is the first one of another run."""
        self._get_or_insert_fact("complete", "1")

    def run_jobs(self) -> list[RunJob]:
        """Return the jobs of the latest run, interruptions included, oldest first."""
        first_job = "(SELECT CAST(value AS INTEGER) FROM facts WHERE name = 'first job')"
        latest_job = "(SELECT max(number) FROM jobs)"  # in manifests of earlier versions
        return list(self._select_jobs(f"WHERE number >= coalesce({first_job}, {latest_job}) ORDER BY number"))

    def mark_failures_recorded(self, job_id: str) -> None:
        """Record that `mark_failed` has got all failures of the job."""
        with self._conn:
            self._conn.execute("UPDATE jobs SET settled = 1 WHERE id = ?", (job_id,))

    def latest_job(self) -> RunJob | None:
        """Return the newest job."""
        return next(self._select_jobs("ORDER BY number DESC LIMIT 1"), None)

    def jobs_without_recorded_failures(self) -> list[RunJob]:
        """Return the jobs whose failures are not recorded yet, oldest first."""
        return list(self._select_jobs("WHERE settled = 0 ORDER BY number"))

    def jobs(self) -> list[RunJob]:
        """Return all jobs, oldest first."""
        return list(self._select_jobs("ORDER BY number"))

    def _select_jobs(self, clause: str) -> Iterator[RunJob]:
        rows = self._conn.execute(f"SELECT number, id FROM jobs {clause}")  # noqa: S608 - constant clauses
        return (RunJob(*row) for row in rows)

    def lookup(self, name: str) -> ImageEntry | None:
        """Return the entry of an image that is in a job, or could not be sent."""
        row = self._conn.execute(
            "SELECT size, mtime_ns, sha256, job, code FROM pictures WHERE name = ?", (name,)
        ).fetchone()
        return ImageEntry(row[0], row[1], row[2].hex(), row[3], row[4]) if row else None

    def mark_uploading(self, new_images: Iterable[image_files.Image]) -> None:
        """Record images before they are sent to the open job, which has them after a kill -9 or not."""
        rows = ((p.name, bytes.fromhex(p.sha256)) for p in new_images)
        with self._conn:
            self._conn.executemany("REPLACE INTO uploads VALUES (?, ?)", rows)

    def lookup_upload(self, name: str) -> str:
        """Return the digest of the bytes that the open job may have under a name; empty if it has none."""
        row = self._conn.execute("SELECT sha256 FROM uploads WHERE name = ?", (name,)).fetchone()
        return row[0].hex() if row else ""

    def clear_uploads(self) -> None:
        """Forget what an open job may have: there is none."""
        with self._conn:
            self._conn.execute("DELETE FROM uploads")

    def mark_sent(self, job: RunJob, sent_images: Sequence[image_files.Image]) -> None:
        """Record images as sent to a job."""
        rows = ((p.name, p.size, p.mtime_ns, bytes.fromhex(p.sha256), job.number) for p in sent_images)
        with self._conn:
            self._conn.executemany("REPLACE INTO pictures VALUES (?, ?, ?, ?, ?, NULL, NULL)", rows)
            self._conn.executemany("DELETE FROM uploads WHERE name = ?", ((p.name,) for p in sent_images))

    def count_images(self, job: RunJob) -> int:
        """Return the number of images that are in a job."""
        query = "SELECT count(*) FROM pictures WHERE job = ?"
        return int(self._conn.execute(query, (job.number,)).fetchone()[0])

    def remove_job(self, job: RunJob) -> list[str]:
        """Forget a job, so that its images are sent again. Return their names."""
        with self._conn:
            names = [name for (name,) in self._conn.execute("SELECT name FROM pictures WHERE job = ?", (job.number,))]
            self._conn.execute("DELETE FROM pictures WHERE job = ?", (job.number,))
            self._conn.execute("DELETE FROM jobs WHERE number = ?", (job.number,))
        return names

    def mark_touched(self, touched_images: Iterable[image_files.Image]) -> None:
        """Record new sizes and times of files with unchanged bytes."""
        rows = ((p.size, p.mtime_ns, p.name) for p in touched_images)
        with self._conn:
            self._conn.executemany("UPDATE pictures SET size = ?, mtime_ns = ? WHERE name = ?", rows)

    def mark_not_sent(self, failures: Sequence[FailedImage], open_job: RunJob | None) -> None:
        """Record images that could not be sent; the next run retries them."""
        sent_names = ((f.name, open_job.number) for f in failures if open_job)
        rejected_names = ((f.name,) for f in failures if f.mtime_ns)
        rows = ((f.name, f.size, f.mtime_ns, f.code, f.detail) for f in failures)
        with self._conn:
            # A file that was sent and cannot be read any more: the job still has its name.
            keep_sent = "REPLACE INTO uploads SELECT name, sha256 FROM pictures WHERE name = ? AND job = ?"
            self._conn.executemany(keep_sent, sent_names)
            self._conn.executemany("DELETE FROM uploads WHERE name = ?", rejected_names)
            self._conn.executemany("REPLACE INTO pictures VALUES (?, ?, ?, x'', NULL, ?, ?)", rows)

    def count_not_sent(self) -> int:
        """Return the number of images that could not be sent."""
        query = "SELECT count(*) FROM pictures WHERE job IS NULL AND code IS NOT NULL"
        return int(self._conn.execute(query).fetchone()[0])

    def clear_not_sent(self) -> None:
        """Forget the images that could not be sent."""
        with self._conn:
            self._conn.execute("DELETE FROM pictures WHERE job IS NULL")

    def clear_unreadable(self) -> None:
        """Forget the images that could not be read, but not those that the server rejected."""
        with self._conn:
            self._conn.execute("DELETE FROM pictures WHERE job IS NULL AND mtime_ns = 0")

    def mark_failed(self, job: RunJob, failures: Iterable[FailedImage]) -> None:
        """Record images that failed in a job."""
        rows = ((f.code, f.detail, f.name, job.number) for f in failures)
        with self._conn:
            self._conn.executemany("UPDATE pictures SET code = ?, detail = ? WHERE name = ? AND job = ?", rows)

    def failures(self, first_job: RunJob | None) -> Iterator[FailedImage]:
        """Yield the failed images of a job and of later ones, and those that could not be sent."""
        number = first_job.number if first_job else None
        rows = self._conn.execute(
            "SELECT name, code, detail FROM pictures WHERE code IS NOT NULL AND (job >= ? OR job IS NULL) "
            "ORDER BY name",
            (number,),
        )
        return (FailedImage(*row) for row in rows)


def _open_database(path: Path) -> sqlite3.Connection:
    try:
        _check_header(path)
        conn = sqlite3.connect(path)
        conn.execute("PRAGMA journal_mode = WAL")
        conn.execute("PRAGMA synchronous = NORMAL")  # a power cut may lose the last entries, which the server still has
        (version,) = conn.execute("PRAGMA user_version").fetchone()
        if version == 0 and conn.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,):
            _create_tables(conn)
        elif version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"version {version} is not supported")
        else:
            conn.executescript(UPLOADS_SCHEMA)
        with contextlib.suppress(OSError):
            path.chmod(0o600)
    except sqlite3.Error as error:
        raise errors.BadInput(
            f"{path} cannot be used as a manifest ({error}): remove it, or name another file with --manifest.",
            "bad_manifest",
        ) from None
    return conn


def _check_header(path: Path) -> None:
    """Check that a file is a database or empty; SQLite would take one of less than a page for empty, and overwrite it.

    Raises:
        sqlite3.DatabaseError: it is neither, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            header = file.read(len(SQLITE_HEADER))
    except FileNotFoundError:
        return
    except OSError as error:
        raise sqlite3.DatabaseError(error.strerror) from None
    if header not in (b"", SQLITE_HEADER):
        raise sqlite3.DatabaseError("file is not a database")


def _copy_database(path: Path) -> sqlite3.Connection:
    """Return a copy of the manifest, or an empty one, in a temporary file that SQLite removes."""
    copy = sqlite3.connect("")
    if path.exists():
        with contextlib.closing(_open_database(path)) as original:
            original.backup(copy)
    else:
        _create_tables(copy)
    return copy


def _create_tables(conn: sqlite3.Connection) -> None:
    conn.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
