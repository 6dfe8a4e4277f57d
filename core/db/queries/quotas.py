"""Quotas: how much a key may submit per minute, how much of it may be open, and how much is open in all."""

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from core import errors
from core.db import clock
from core.db.expressions import API_KEYS, ENDED_COUNT, JOBS, SCANS, no_index

WINDOW_SECONDS = 60.0
DEFAULT_RETRY_SECONDS = 5.0  # for a key with too many open images, if the throughput is not known
UNITS = {"images": "images", "bytes": "bytes of images"}
RATE_UNITS = {**UNITS, "seconds": "seconds of work"}
"""The units of limits per minute. The seconds are known only when the work is done, and are charged then."""
RATE_COLUMNS = {
    "images": ("images_per_minute", "image_tokens"),
    "bytes": ("bytes_per_minute", "byte_tokens"),
    "seconds": ("work_seconds_per_minute", "work_tokens"),
}
"""The columns of each limit per minute and of the tokens that remain of it, by unit."""
OPEN_IMAGES = JOBS.c.total - ENDED_COUNT
OPEN_BYTES = JOBS.c.bytes * sa.cast(OPEN_IMAGES, sa.Double) / sa.func.nullif(JOBS.c.total, 0)
OPEN_SUMS = (sa.func.sum(OPEN_IMAGES), sa.func.sum(OPEN_BYTES))


@dataclass(frozen=True)
class Load:
    """A number of images, their bytes, and the seconds that they take to decode and classify."""

    images: float = 0
    bytes: float = 0
    seconds: float = 0

    def __add__(self, other: "Load") -> "Load":
        return Load(self.images + other.images, self.bytes + other.bytes, self.seconds + other.seconds)

    def __sub__(self, other: "Load") -> "Load":
        return Load(self.images - other.images, self.bytes - other.bytes, self.seconds - other.seconds)


NO_LOAD = Load()


@dataclass(frozen=True)
class Quotas:
    """The limits of a key; None is the default of the settings, and 0 means no limit."""

    images_per_minute: int | None = None
    bytes_per_minute: int | None = None
    open_images: int | None = None
    open_bytes: int | None = None
    work_seconds_per_minute: int | None = None

    @classmethod
    def from_row(cls, row: Any) -> "Quotas":
        """Read the quotas in the row of a key."""
        return cls(*(getattr(row, name) for name in FIELD_NAMES))

    @functools.lru_cache(maxsize=1024)  # noqa: B019 (there are few, and they are small)
    def with_defaults(self, defaults: "Quotas") -> "Quotas":
        """Replace what is None by defaults."""
        return Quotas(*(getattr(defaults if getattr(self, name) is None else self, name) for name in FIELD_NAMES))

    @functools.cached_property
    def is_limited(self) -> bool:
        """Whether there is any limit."""
        return self.per_minute != NO_LOAD or self.max_open != NO_LOAD

    def without_rates(self) -> "Quotas":
        """Return these limits without those per minute, for a submission that was charged already."""
        return replace(self, images_per_minute=0, bytes_per_minute=0, work_seconds_per_minute=0)

    @functools.cached_property
    def per_minute(self) -> Load:
        """How much may be submitted per minute, and how long its images may take."""
        return Load(self.images_per_minute or 0, self.bytes_per_minute or 0, self.work_seconds_per_minute or 0)

    @functools.cached_property
    def max_open(self) -> Load:
        """How much may be open at a time."""
        return Load(self.open_images or 0, self.open_bytes or 0)


FIELD_NAMES = tuple(field.name for field in fields(Quotas))
UNSET = Quotas()


@dataclass(frozen=True)
class Usage:
    """The usage of a key: the tokens that remain (below zero after one large submission), and what is open.

    What is open is read only for a key that has a limit of it.
    """

    remaining: Load
    open: Load


def get_usage(conn: sa.Connection, key_id: str, quotas: Quotas, *, exclude_job: str | None = None) -> Usage:
    """Return the usage of a key now; open images of the job `exclude_job` do not count."""
    row = conn.execute(_select_key(key_id)).one()
    is_open_limited = quotas.max_open != NO_LOAD
    opened = open_load(conn, key_id, exclude_job=exclude_job) if is_open_limited else NO_LOAD
    return Usage(_remaining(row, quotas), opened)


def _select_key(key_id: str) -> sa.Select[Any]:
    return sa.select(API_KEYS, clock.now().label("now")).where(API_KEYS.c.id == key_id)


def _remaining(row: Any, quotas: Quotas) -> Load:
    """Return the tokens that remain of a key now."""
    capacity, elapsed_minutes = quotas.per_minute, 0.0
    if row.tokens_updated_at is not None:
        elapsed_minutes = max((row.now - row.tokens_updated_at) / timedelta(seconds=WINDOW_SECONDS), 0.0)
    tokens = {
        unit: limit if stored is None else min(limit, stored + elapsed_minutes * limit)
        for unit, (_, column) in RATE_COLUMNS.items()
        for limit, stored in [(getattr(capacity, unit), getattr(row, column))]
    }
    return Load(**tokens)


def lock_key(conn: sa.Connection, key_id: str) -> None:
    """Lock a key against other submissions until the end of the transaction; to be called before any job is locked."""
    # Not the lock of a DELETE: jobs that refer to the key may still be inserted.
    conn.execute(sa.select(API_KEYS.c.id).where(API_KEYS.c.id == key_id).with_for_update(key_share=True))


def consume(conn: sa.Connection, key_id: str, quotas: Quotas, load: Load, *, exclude_job: str | None = None) -> None:
    """Take tokens from a key, which must be locked; `exclude_job` is the job they are for, if it exists already.

    Raises:
        errors.TemporarilyRejected: too few tokens remain, or too much is open.
        errors.TooManyImages: so much may never be open.
    """
    if not quotas.is_limited:
        return
    usage = get_usage(conn, key_id, quotas, exclude_job=exclude_job)
    check(quotas, usage, load)
    if quotas.per_minute == NO_LOAD:
        return
    _store_tokens(conn, key_id, quotas, usage.remaining - load)


def _store_tokens(conn: sa.Connection, key_id: str, quotas: Quotas, remaining: Load) -> None:
    """Store the tokens of the units that are limited: in the others, a limit that is set later begins with all."""
    tokens = {
        column: getattr(remaining, unit) if getattr(quotas.per_minute, unit) else None
        for unit, (_, column) in RATE_COLUMNS.items()
    }
    values = {**tokens, "tokens_updated_at": clock.now()}
    conn.execute(sa.update(API_KEYS).where(API_KEYS.c.id == key_id).values(values))


def charge(conn: sa.Connection, key_id: str, quotas: Quotas, load: Load) -> None:
    """Take tokens from a key before any bytes are stored: a submission that is rejected later has cost them too.

    Raises:
        errors.TemporarilyRejected, errors.TooManyImages: see `consume`.
    """
    lock_key(conn, key_id)
    consume(conn, key_id, quotas, load)


def charge_afterwards(conn: sa.Connection, loads: Mapping[str, Load], defaults: Quotas) -> None:
    """Take tokens from keys for what was done for them, however few remain: later submissions are rejected instead.

    To be called before any job is locked, with the quotas of keys that have none of their own.
    """
    for key_id, load in sorted(loads.items()):  # in one order, so that no two transactions wait for each other
        lock_key(conn, key_id)
        row = conn.execute(_select_key(key_id)).one()
        key_quotas = Quotas.from_row(row).with_defaults(defaults)
        if key_quotas.per_minute != NO_LOAD:
            _store_tokens(conn, key_id, key_quotas, _remaining(row, key_quotas) - load)


def limited_loads(conn: sa.Connection, loads: Mapping[str, Load], defaults: Quotas) -> dict[str, Load]:
    """Return those of these loads, by key, of which the key has a limit per minute: the others need no charge."""
    rows = conn.execute(sa.select(API_KEYS).where(API_KEYS.c.id.in_(list(loads))))
    limits = {row.id: Quotas.from_row(row).with_defaults(defaults).per_minute for row in rows}
    return {
        key_id: loads[key_id]
        for key_id, limit in limits.items()
        if any(getattr(limit, unit) and getattr(loads[key_id], unit) for unit in RATE_UNITS)
    }


def check_open_jobs(conn: sa.Connection, key_id: str, max_open_jobs: int) -> None:
    """Check that a key, which must be locked, has at most so many open jobs; 0 means no limit.

    Raises:
        errors.QuotaExceeded: it has more.
    """
    if not max_open_jobs:
        return
    is_open = (JOBS.c.api_key_id == key_id, JOBS.c.sealed_at.is_(None), no_index(JOBS.c.retry_of).is_(None))
    count = conn.execute(sa.select(sa.func.count()).select_from(JOBS).where(*is_open)).scalar_one()
    if count > max_open_jobs:
        detail = f"This key has {max_open_jobs:,} open jobs, as many as it may; seal or cancel some."
        raise errors.QuotaExceeded(detail, DEFAULT_RETRY_SECONDS)


def check(quotas: Quotas, usage: Usage, load: Load) -> None:
    """Check whether a key may submit this much.

    A submission larger than a full bucket is accepted when the bucket is full; the following minutes pay for it, as
    they do for what is charged afterwards: the bytes of URLs, and seconds of work.

    Raises:
        errors.RateLimited: too few tokens remain.
        errors.QuotaExceeded: too much of the key is open.
        errors.TooManyImages: so much may never be open.
    """
    for unit, unit_name in UNITS.items():
        max_open, requested = getattr(quotas.max_open, unit), getattr(load, unit)
        if max_open and requested > max_open:
            raise errors.TooManyImages(
                f"The request contains {_amount(requested, unit_name)}; this key may have {max_open:,.0f} open at a "
                "time. Send fewer images at a time."
            )
        if max_open and (currently_open := getattr(usage.open, unit)) + requested > max_open:
            detail = f"This key has {_amount(currently_open, unit_name)} open, of {max_open:,.0f}."
            raise errors.QuotaExceeded(detail, DEFAULT_RETRY_SECONDS)
    for unit, unit_name in RATE_UNITS.items():
        per_minute, requested = getattr(quotas.per_minute, unit), getattr(load, unit)
        is_limited = per_minute and (requested or load.images)  # an open job without images may be created in debt
        if is_limited and (remaining := getattr(usage.remaining, unit)) < min(requested, per_minute):
            detail = f"This key has none of its {_amount(per_minute, unit_name)} per minute left."
            if requested:
                left = max(math.floor(remaining), 0)
                detail = (
                    f"The request has {_amount(requested, unit_name)}; "
                    f"this key has {left:,} of its {per_minute:,.0f} per minute left."
                )
            raise errors.RateLimited(detail, (min(requested, per_minute) - remaining) / per_minute * WINDOW_SECONDS)


def _amount(number: float, unit_name: str) -> str:
    """Return a number with its unit, which is in the singular for one."""
    text = f"{number:,.0f}"
    singular = re.sub("^(image|byte|second)s", r"\1", unit_name)
    return f"{text} {singular if text == '1' else unit_name}"


def open_load(conn: sa.Connection, owner: str, *, exclude_job: str | None = None) -> Load:
    """Sum up the images of a key without a result, without those of the job `exclude_job`.

    Read from the unfinished jobs, however many images they have. The open bytes of a job are estimated by its mean
    image size.
    """
    query = sa.select(*OPEN_SUMS).where(JOBS.c.finished_at.is_(None), JOBS.c.api_key_id == owner)
    if exclude_job is not None:
        query = query.where(JOBS.c.id != exclude_job)
    images, bytes_ = conn.execute(query).one()
    return Load(int(images or 0), int(bytes_ or 0))


def open_loads(conn: sa.Connection) -> dict[str, Load]:
    """Sum up the images without a result of each key that has any, as `open_load` does."""
    query = sa.select(JOBS.c.api_key_id, *OPEN_SUMS).where(JOBS.c.finished_at.is_(None)).group_by(JOBS.c.api_key_id)
    return {key: Load(int(images), int(bytes_ or 0)) for key, images, bytes_ in conn.execute(query) if images}


def stored_loads(conn: sa.Connection) -> dict[str, Load]:
    """Sum up the images of each key whose bytes it has sent; reads all jobs that are not purged."""
    has_scan = sa.exists().where(SCANS.c.job_id == JOBS.c.id)  # its images stay in their source
    sums = (sa.func.sum(JOBS.c.total), sa.func.sum(JOBS.c.bytes))
    query = sa.select(JOBS.c.api_key_id, *sums).where(JOBS.c.purged_at.is_(None), ~has_scan)
    rows = conn.execute(query.group_by(JOBS.c.api_key_id))
    return {key: Load(int(images), int(bytes_)) for key, images, bytes_ in rows if images}
