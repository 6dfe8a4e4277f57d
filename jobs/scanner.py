"""The scanner: fills jobs from sources, page by page; several at once, here or in other processes, share the work.

A page is listed, read, hashed and judged by its headers; then its pictures and how far the scan is are written in one
transaction, and the bell is rung. The bytes stay where they are. A scan gives up its turn after some seconds, so that
none holds up others.
"""

import itertools
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent import futures
from dataclasses import replace

import sqlalchemy as sa

from jobs import bell, database, errands, errors, gate, outlook, pictures, settings, sources
from jobs.choice import Choice
from jobs.store import incoming, quotas, scans, schema
from jobs.tables import ScanStatus

AT_ONCE = 4  # scans
READERS = 16  # files, of all scans together
PAGE = 100  # pictures
PAGE_BYTES = 64_000_000
PAGE_SEEN = 5_000  # files, chosen or not
TURN_SECONDS = 10.0
UNREAD = "0" * 64
MOST_BYTES = 2**31 - 1  # that a row can tell of

log = logging.getLogger(__name__)


class Scanner(errands.Errands):
    """Claims what is due, and works on it for a turn."""

    def __init__(self, wanted: settings.Settings, db: database.Database) -> None:
        super().__init__("scanner", AT_ONCE)
        self._settings = wanted
        self._sources = sources.Sources.read(wanted.sources)
        self._db = db
        self._gate = gate.Gate(wanted, db, outlook.Outlook(db))
        self._bell = bell.Bell(wanted.redis_url)
        self._readers = futures.ThreadPoolExecutor(READERS, "reader")

    def look(self) -> int:
        """Claim what is due, as far as there are hands, and begin with it. Returns how many scans.

        Raises:
            errors.DatabaseUnavailable: the database does not answer, or its tables are of another age.
        """
        free = self._free()
        if not free or not self._db.read(scans.is_due):
            return 0
        claims = self._db.write(_claim, free)
        for claimed in claims:
            self._begin(claimed.owner, self._turn, claimed)
        return len(claims)

    def close(self) -> None:
        """Finish, and let go of the threads."""
        super().close()
        self._readers.shutdown()

    def _turn(self, claimed: scans.Claim) -> None:
        """One turn of a scan; whatever goes wrong is noted, or its lease ends."""
        try:
            self._scan(claimed)
        except scans.Lost:
            log.info("the scan of job %s is another's, or over", claimed.job_id)
        except errors.DatabaseUnavailable as error:
            log.warning("the scan of job %s goes on later: %s", claimed.job_id, error.detail)
        except Exception:
            log.exception("the scan of job %s broke down; it is tried again when its lease ends", claimed.job_id)

    def _scan(self, claimed: scans.Claim) -> None:
        own = claimed.limits.over(gate.quotas_by(self._settings))
        until, most = time.monotonic() + TURN_SECONDS, PAGE
        seen: list[sources.Found] = []
        try:
            source = self._source(claimed)
            ahead = source.walk(claimed.prefix, Choice(claimed.include, claimed.exclude), claimed.cursor)
            while seen := _page(ahead, most, self._settings.max_image_bytes):
                try:
                    claimed = self._take(source, claimed, seen, own)
                except errors.TooManyImages:
                    if most == 1:
                        raise
                    # The quotas never allow so many at once; but perhaps fewer.
                    most, ahead = most // 2, itertools.chain(seen, ahead)
                if self._stopping or time.monotonic() > until:
                    self._db.write(scans.put_back, claimed)
                    return
        except errors.Later as later:
            self._db.write(scans.put_back, claimed, seconds=later.seconds, error=later.detail)
        except errors.SourceUnavailable as error:
            log.warning("%s (%s)", error.detail, error.reason)
            self._db.write(scans.fail_for_now, claimed, error.detail)
        except (errors.NotThere, errors.TooManyImages) as error:
            self._db.write(scans.end, claimed, ScanStatus.FAILED, error.detail)
        else:
            self._db.write(scans.end, claimed, ScanStatus.DONE)

    def _source(self, claimed: scans.Claim) -> sources.Source:
        source = self._sources.get(claimed.source)
        if source is None:
            raise errors.NotThere("The source is not on the server's list any more.")
        if not claimed.welcome:
            raise errors.NotThere("The key that ordered it is not valid any more.")
        return source

    def _take(
        self, source: sources.Source, claimed: scans.Claim, seen: Sequence[sources.Found], own: quotas.Quotas
    ) -> scans.Claim:
        """Read a page and put it into the job, if there is room for it."""
        chosen = [found for found in seen if found.chosen]
        most = self._settings.max_image_bytes
        if chosen:
            load = quotas.Load(len(chosen), sum(found.size for found in chosen if found.size <= most))
            self._gate.check(claimed.owner, own, load, claimed.priority)
        images = self._look_at_all(source, chosen)
        cursor = next((found.path for found in reversed(seen) if found.path), claimed.cursor)
        claimed = self._db.write(scans.take, claimed, scans.Page(images, len(seen) - len(chosen), cursor), own)
        if images:
            self._bell.ring()
        return claimed

    def _look_at_all(self, source: sources.Source, chosen: Sequence[sources.Found]) -> list[incoming.NewImage]:
        """Each of these in order. A reader takes its share at once: to hand over a file costs as much as to read it."""
        images: list[incoming.NewImage | None] = [None] * len(chosen)

        def some(first: int) -> None:
            for place in range(first, len(chosen), source.hands):
                images[place] = self._look_at(source, chosen[place])

        list(self._readers.map(some, range(source.hands)))
        return [image for image in images if image is not None]

    def _look_at(self, source: sources.Source, found: sources.Found) -> incoming.NewImage:
        """A picture as it is to be taken in; what cannot be read is one that has failed."""
        place = {"source": source.name, "location": found.path}
        most = self._settings.max_image_bytes
        if found.size > most:
            error = errors.BadPicture("too_large", f"The file has {found.size:,} bytes; at most {most:,} are taken.")
            return incoming.NewImage(found.path, UNREAD, min(found.size, MOST_BYTES), error, **place)
        try:
            data = source.read(found.path, most)
        except (errors.BlobMissing, errors.SourceRefuses) as error:
            # It has let itself be listed: what it refuses is this one.
            gone = errors.BadPicture(errors.BlobMissing.code, error.detail)
            return incoming.NewImage(found.path, UNREAD, min(found.size, MOST_BYTES), gone, **place)
        image = pictures.judge(found.path, data, max_bytes=most, max_pixels=self._settings.max_pixels)
        return replace(image, source=source.name, location=found.path)


def _page(ahead: Iterator[sources.Found], most: int, most_bytes: int) -> list[sources.Found]:
    """The next files of a source: so many pictures, or so many bytes of them, or so many files."""
    seen: list[sources.Found] = []
    pictures = size = 0
    for found in ahead:
        seen.append(found)
        if found.chosen:
            pictures, size = pictures + 1, size + min(found.size, most_bytes)
        if pictures >= most or size >= PAGE_BYTES or len(seen) >= PAGE_SEEN:
            break
    return seen


def _claim(c: sa.Connection, limit: int) -> list[scans.Claim]:
    schema.check(c)
    return scans.claim(c, limit=limit)
