"""Source importer: fills jobs from sources, page by page; several processes share the work.

A page is listed, read, hashed, and its image headers are checked; then its images and the cursor are written in one
transaction, and a wake-up is sent. The bytes stay in the source; those of images in archives become blobs.
After a time slice an import yields to the others. Its lease is extended for as long as it works.
"""

import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec

import sqlalchemy as sa

from core import errors, settings
from core.broker import wakeup
from core.concurrency import periodic
from core.db import database, task_leases
from core.db.new_image import UNREAD_DIGEST, NewImage
from core.db.queries import quotas, scans
from core.enums import ScanStatus
from core.intake import admission, header_check
from core.intake.eta_cache import EtaCache
from core.sources import base, catalog, image_reader
from core.storage import factory
from dispatcher import poller
from sortbelt.files.file_rules import HARMLESS_REASONS, FileRules

CONCURRENCY = 4
READER_THREADS = 16  # shared by all imports
PAGE_IMAGES = 100
PAGE_BYTES = 64_000_000
PAGE_FILES = 5_000  # selected or not
TIME_SLICE_SECONDS = 10.0
EXTEND_SECONDS = task_leases.LEASE_SECONDS / 4
MAX_PAGE_SECONDS = (
    1800.0  # a page that takes longer hangs: its lease ends, which the health check of the dispatcher shows
)
MAX_SHOWN_CHARACTERS = 200  # of a name that is left out
MAX_RECORDED_BYTES = 2**31 - 1  # the largest size that fits the column

P = ParamSpec("P")

log = logging.getLogger(__name__)


class HeldScan:
    """A scan whose lease is extended until it is closed: a page may take longer to read than a lease lasts.

    But not longer than `MAX_PAGE_SECONDS`.
    """

    def __init__(self, db: database.Database, claim: scans.Claim) -> None:
        self.claim = claim
        self._db = db
        self._lock = threading.Lock()  # each new lease is the fence of the next write
        self._page_started_at = time.monotonic()
        self._stop = periodic.start("import lease", self._extend, EXTEND_SECONDS)

    def close(self) -> None:
        """Extend the lease no more."""
        self._stop.set()

    def _extend(self) -> None:
        with self._lock:
            if time.monotonic() - self._page_started_at < MAX_PAGE_SECONDS:
                self.claim = self._db.write(scans.extend_lease, self.claim)

    def store_page(self, page: scans.ScanPage, limits: quotas.Quotas) -> None:
        """Add a page to the job; see `scans.store_page`."""
        with self._lock:
            self.claim = self._db.write(scans.store_page, self.claim, page, limits)
            self._page_started_at = time.monotonic()

    def write(
        self, query: Callable[Concatenate[sa.Connection, scans.Claim, P], None], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Run a query function that ends the lease."""
        with self._lock:
            self._db.write(query, self.claim, *args, **kwargs)


class SourceImporter(poller.PollingLoop[scans.Claim]):
    """The polling loop over due source imports."""

    def __init__(self, config: settings.Settings, db: database.Database) -> None:
        super().__init__("imports", CONCURRENCY, db, scans.has_due)
        self._settings = config
        self._sources = catalog.SourceCatalog.parse(config.sources)
        self._admission_control = admission.AdmissionControl(config, db, EtaCache(db))
        self._wakeup = wakeup.WakeupSender(config.redis_url)
        self._readers = futures.ThreadPoolExecutor(READER_THREADS, "reader")
        self._blob_store = factory.open_blob_store(config.blob_store)

    def _claim(self, conn: sa.Connection, limit: int) -> list[tuple[str, scans.Claim]]:
        # A lease may have ended although a thread still works: the database was away, or this process was frozen.
        own_ids = [claim.id for _, claim in self._in_flight.values()]
        for lost in scans.record_lost(conn, exclude_ids=own_ids):
            log.warning("%s did not end or extend its lease; this counts as a failure", self._describe(lost))
        return [(claim.owner, claim) for claim in scans.claim(conn, limit=limit, exclude_ids=own_ids)]

    def _describe(self, task: scans.Claim) -> str:
        return f"the import of job {task.job_id}"

    def _run_task(self, task: scans.Claim) -> None:
        """Run one time slice of an import, or record why not."""
        held = HeldScan(self._db, task)
        try:
            self._import_pages(held)
        except scans.LeaseLost:
            log.info("%s has another holder, or has ended", self._describe(task))
        finally:
            held.close()

    def _import_pages(self, held: HeldScan) -> None:
        claim = held.claim
        key_quotas = claim.limits.with_defaults(admission.default_quotas(self._settings))
        deadline, max_images = time.monotonic() + TIME_SLICE_SECONDS, PAGE_IMAGES
        entries: list[base.SourceEntry] = []
        try:
            source = self._require_source(claim)
            rules = FileRules(claim.include, claim.exclude)
            max_bytes = self._settings.max_image_bytes
            remaining = source.walk(claim.prefix, rules, claim.cursor, max_bytes=max_bytes)
            while entries := _next_page(remaining, max_images, max_bytes):
                try:
                    self._import_page(source, held, entries, key_quotas)
                except errors.TooManyImages:
                    if max_images == 1:
                        raise
                    # The quotas never allow so many images at once, but perhaps fewer.
                    max_images, remaining = max_images // 2, itertools.chain(entries, remaining)
                if self._stopping or time.monotonic() > deadline:
                    held.write(scans.release)
                    return
        except errors.TemporarilyRejected as rejection:
            held.write(scans.release, seconds=rejection.retry_after, error=rejection.detail)
        except (errors.SourceUnavailable, errors.BlobsUnavailable) as error:
            log.warning("%s (%s)", error.detail, getattr(error, "reason", error.__cause__))
            held.write(scans.record_failure, error.detail)
        except (errors.SourcePathNotFound, errors.TooManyImages) as error:
            held.write(scans.finish, ScanStatus.FAILED, error.detail)
        else:
            held.write(scans.finish, ScanStatus.DONE)

    def _require_source(self, claim: scans.Claim) -> base.Source:
        source = self._sources.get(claim.source)
        if source is None:
            raise errors.SourcePathNotFound(
                "The source is not configured on the server any more; add it to SORTBELT_SOURCES."
            )
        if not claim.is_key_valid:
            raise errors.SourcePathNotFound(
                "The API key that started the import was revoked or has expired; start the import with a valid key."
            )
        return source

    def _import_page(
        self, source: base.Source, held: HeldScan, entries: Sequence[base.SourceEntry], key_quotas: quotas.Quotas
    ) -> None:
        """Read a page and add it to the job, if admission control and quotas allow it."""
        selected = [entry for entry in entries if not entry.skip_reason]
        max_bytes = self._settings.max_image_bytes
        if selected:
            load = quotas.Load(len(selected), sum(entry.size for entry in selected if entry.size <= max_bytes))
            self._admission_control.admit(held.claim.owner, key_quotas, load, held.claim.priority)
        images = self._read_images(source, selected)
        self._blob_store.put((image.sha256, image.data) for image in images if image.data is not None)
        held.store_page(_to_page(images, entries, held.claim.cursor), key_quotas)
        if images:
            self._wakeup.send()

    def _read_images(self, source: base.Source, selected: Sequence[base.SourceEntry]) -> list[NewImage]:
        """Read these in order. Each reader gets its share in one task: passing files one by one costs as much."""
        images: list[NewImage | None] = [None] * len(selected)

        def read_share(start: int) -> None:
            for index in range(start, len(selected), source.concurrency):
                images[index] = self._read_image(source, selected[index])

        list(self._readers.map(read_share, range(source.concurrency)))
        return [image for image in images if image is not None]

    def _read_image(self, source: base.Source, entry: base.SourceEntry) -> NewImage:
        """Read and check one image; an image that cannot be read becomes one that has failed."""
        origin: dict[str, Any] = {"source": source.name, "location": entry.path}
        max_bytes = self._settings.max_image_bytes
        if entry.size > max_bytes:
            error = errors.ImageFailed(
                "too_large", f"The file has {entry.size:,} bytes; at most {max_bytes:,} are accepted."
            )
            return NewImage(entry.path, UNREAD_DIGEST, min(entry.size, MAX_RECORDED_BYTES), error, **origin)
        max_pixels = self._settings.max_pixels
        if entry.data is not None:
            return header_check.prepare_image(entry.path, entry.data, max_bytes=max_bytes, max_pixels=max_pixels)
        try:
            data = image_reader.read(source, entry.path, max_bytes)
        except errors.BlobMissing as error:
            rejection = errors.ImageFailed(errors.BlobMissing.code, error.detail)
            return NewImage(entry.path, UNREAD_DIGEST, min(entry.size, MAX_RECORDED_BYTES), rejection, **origin)
        image = header_check.prepare_image(entry.path, data, max_bytes=max_bytes, max_pixels=max_pixels)
        return replace(image, **origin, data=None)  # its bytes stay in the source


def _next_page(remaining: Iterator[base.SourceEntry], max_images: int, max_bytes: int) -> list[base.SourceEntry]:
    """Take the next files of a source, until a limit of images, of their bytes or of files is reached."""
    entries: list[base.SourceEntry] = []
    image_count = size = 0
    for entry in remaining:
        entries.append(entry)
        if not entry.skip_reason:
            image_count, size = image_count + 1, size + min(entry.size, max_bytes)
        is_full = image_count >= max_images or size >= PAGE_BYTES or len(entries) >= PAGE_FILES
        if is_full and entry.is_position:
            break
    return entries


def _to_page(images: Sequence[NewImage], entries: Sequence[base.SourceEntry], cursor: str | None) -> scans.ScanPage:
    skipped = Counter(entry.skip_reason for entry in entries if entry.skip_reason)
    left_out = [entry for entry in entries if entry.skip_reason and entry.skip_reason not in HARMLESS_REASONS]
    names = [scans.LeftOut(entry.path[:MAX_SHOWN_CHARACTERS], entry.skip_reason) for entry in left_out]
    position = next((entry.path for entry in reversed(entries) if entry.is_position), cursor)
    return scans.ScanPage(images, skipped, names[: scans.MAX_LEFT_OUT], position)
