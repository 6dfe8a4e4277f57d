"""The miniatures: small pictures made of strangers' ones, each by a child process of its own (invariant 6).

One child makes one: what a picture does to it, it cannot do to the next one, nor see it. A few are made at a time.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from api import miniature
from jobs import blobs, errors, settings

AT_ONCE = 2
FREE_THREADS = 2  # that views other than this one always have
PATH = [str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]


class TooBusy(errors.Unavailable):
    """Too many thumbnails are being made."""

    code = "too_busy"


class Miniatures:
    """Makes them; may be shared between threads."""

    def __init__(self, wanted: settings.Settings, store: blobs.Blobs) -> None:
        self._settings = wanted
        self._store = store
        self._room = threading.BoundedSemaphore(max(1, wanted.api_threads - FREE_THREADS))
        self._turn = threading.BoundedSemaphore(AT_ONCE)

    def make(self, sha256: str) -> bytes:
        """The JPEG of a picture in the store.

        Raises:
            errors.PictureGone: its bytes are not there.
            errors.NoThumbnail: it cannot be decoded, or not with what one picture may cost.
            errors.Unavailable: the store does not answer, or too many want one now.
        """
        with self._queue():
            made, code = self._run(sha256)
        if code == 0 and made.startswith(b"\xff\xd8\xff"):
            return made
        if code == miniature.NONE:
            raise errors.NoThumbnail(made.decode(errors="replace"))
        if code < 0:
            raise errors.NoThumbnail("There is no thumbnail of this picture: decoding it crashes, or takes too long.")
        raise errors.Unavailable(f"A process that makes thumbnails ended with code {code}.")

    @contextlib.contextmanager
    def _queue(self) -> Iterator[None]:
        if not self._room.acquire(blocking=False):
            raise TooBusy
        try:
            with self._turn:
                yield
        finally:
            self._room.release()

    def _run(self, sha256: str) -> tuple[bytes, int]:
        """What a child made of a picture, and its exit code."""
        limits = {
            "parent": os.getpid(),
            "memory_bytes": self._settings.decode_memory_bytes,
            "max_pixels": self._settings.max_pixels,
        }
        # A file in memory, of limited size: by a pipe a hijacked child could send without end.
        with os.fdopen(os.memfd_create("miniature"), "r+b", 0) as made, self._open(sha256) as (picture, data):
            try:
                code = subprocess.run(
                    [sys.executable, "-m", "api.miniature", json.dumps(limits)],
                    stdin=picture,
                    input=data,
                    stdout=made,
                    stderr=subprocess.DEVNULL,
                    env={"PYTHONPATH": os.pathsep.join(PATH)},  # and nothing else: ours has passwords
                    start_new_session=True,  # ctrl-C in a terminal is for the server
                    timeout=self._settings.decode_seconds,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                code = -signal.SIGKILL
            return os.pread(made.fileno(), miniature.MOST_BYTES, 0), code

    @contextlib.contextmanager
    def _open(self, sha256: str) -> Iterator[tuple[int | None, bytes | None]]:
        """A picture as an open file, or as bytes where the store has no files."""
        path = self._store.path(sha256)
        try:
            if path is None:
                yield None, self._store.get(sha256)
                return
            with path.open("rb") as file:
                yield file.fileno(), None
        except (FileNotFoundError, errors.BlobMissing):
            raise errors.PictureGone from None
        except OSError as error:
            raise errors.BlobsUnavailable(f"A picture cannot be read: {error.strerror}.") from error
