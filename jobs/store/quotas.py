"""Quotas: what a key may hand in a minute, how much of it may be open, and how much of everybody's is."""

import functools
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from jobs import clock, errors
from jobs.store.sql import ENDED, JOBS, KEYS

MINUTE = 60.0
SOON_SECONDS = 5.0  # until a key that has too much open may try again, where nobody knows how fast it goes
UNITS = {"images": "pictures", "bytes": "bytes of pictures"}


@dataclass(frozen=True)
class Load:
    """So many pictures, and their bytes."""

    images: float = 0
    bytes: float = 0

    def of(self, unit: str) -> float:
        """One of the two, by its name."""
        return float(getattr(self, unit))

    def __add__(self, other: "Load") -> "Load":
        return Load(self.images + other.images, self.bytes + other.bytes)

    def __sub__(self, other: "Load") -> "Load":
        return Load(self.images - other.images, self.bytes - other.bytes)


NOTHING = Load()


@dataclass(frozen=True)
class Quotas:
    """What a key may do; None is what the settings say, and 0 is no limit."""

    images_per_minute: int | None = None
    bytes_per_minute: int | None = None
    open_images: int | None = None
    open_bytes: int | None = None

    @classmethod
    def of(cls, row: Any) -> "Quotas":
        """Those in the row of a key."""
        return cls(*(getattr(row, name) for name in NAMES))

    @functools.lru_cache(maxsize=1024)  # noqa: B019 (few there are, and they are small)
    def over(self, defaults: "Quotas") -> "Quotas":
        """These, and the defaults where they say nothing."""
        return Quotas(*(getattr(defaults if getattr(self, name) is None else self, name) for name in NAMES))

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return bool(self.images_per_minute or self.bytes_per_minute or self.open_images or self.open_bytes)

    @property
    def a_minute(self) -> Load:
        """How much may be handed in a minute."""
        return Load(self.images_per_minute or 0, self.bytes_per_minute or 0)

    @property
    def open(self) -> Load:
        """How much may be open at a time."""
        return Load(self.open_images or 0, self.open_bytes or 0)


NAMES = tuple(field.name for field in fields(Quotas))
NONE = Quotas()


@dataclass(frozen=True)
class State:
    """How a key stands: what is left of its minute (below zero where one order took more), and what it has open."""

    left: Load
    open: Load


def state(c: sa.Connection, key_id: str, quotas: Quotas, *, besides: str | None = None) -> State:
    """How a key stands now; the job `besides` is left out of what is open."""
    row = c.execute(sa.select(KEYS, clock.now().label("now")).where(KEYS.c.id == key_id)).one()
    full, minutes = quotas.a_minute, 0.0
    if row.spent_at is not None:
        minutes = max((row.now - row.spent_at) / timedelta(seconds=MINUTE), 0.0)
    left = {
        unit: most if kept is None else min(most, kept + minutes * most)
        for unit, kept in (("images", row.images_left), ("bytes", row.bytes_left))
        for most in [full.of(unit)]
    }
    return State(Load(**left), open_load(c, key_id, besides=besides))


def lock(c: sa.Connection, key_id: str) -> None:
    """Let nobody else spend of this key until the end of the transaction; to be done before any job is locked."""
    # Not the lock of a DELETE: jobs that refer to the key may still be made.
    c.execute(sa.select(KEYS.c.id).where(KEYS.c.id == key_id).with_for_update(key_share=True))


def spend(c: sa.Connection, key_id: str, quotas: Quotas, wanted: Load, *, besides: str | None = None) -> None:
    """Take so much from a key, which has to be locked; `besides` is the job that it is for, if that is there already.

    Raises:
        errors.Later: there is not enough left, or too much is open.
        errors.Refused: so much may never be open.
    """
    if not quotas.limited:
        return
    stands = state(c, key_id, quotas, besides=besides)
    check(quotas, stands, wanted)
    left = stands.left - wanted
    values = {"images_left": left.images, "bytes_left": left.bytes, "spent_at": clock.now()}
    c.execute(sa.update(KEYS).where(KEYS.c.id == key_id).values(values))


def check(quotas: Quotas, stands: State, wanted: Load) -> None:
    """See whether a key may hand in so much.

    An order that is larger than a whole minute is taken when that is unspent; the following minutes pay for it.

    Raises:
        errors.RateLimited: too little is left of its minute.
        errors.QuotaExceeded: too much of it is open.
        errors.TooManyImages: so much may never be open.
    """
    for unit, what in UNITS.items():
        most, asked = quotas.open.of(unit), wanted.of(unit)
        if most and asked > most:
            raise errors.TooManyImages(
                f"The request holds {asked:,.0f} {what}, and this key may have {most:,.0f} open at a time. "
                "Send fewer pictures at a time."
            )
        if most and (there := stands.open.of(unit)) + asked > most:
            detail = f"This key has {there:,.0f} {what} open, of {most:,.0f} that it may have."
            raise errors.QuotaExceeded(detail, SOON_SECONDS)
        a_minute = quotas.a_minute.of(unit)
        if a_minute and (left := stands.left.of(unit)) < min(asked, a_minute):
            detail = f"This key may hand in {a_minute:,.0f} {what} a minute, and has done so."
            raise errors.RateLimited(detail, (min(asked, a_minute) - left) / a_minute * MINUTE)


def open_load(c: sa.Connection, owner: str | None = None, *, besides: str | None = None) -> Load:
    """The pictures that have no result yet: of a key, or of all; without those of the job `besides`.

    Read off the jobs that are not over, however many pictures they have. How many bytes of a job are open is
    reckoned by its mean picture.
    """
    left = JOBS.c.total - ENDED
    share = JOBS.c.bytes * sa.cast(left, sa.Double) / sa.func.nullif(JOBS.c.total, 0)
    query = sa.select(sa.func.sum(left), sa.func.sum(share)).where(JOBS.c.finished_at.is_(None))
    if owner is not None:
        query = query.where(JOBS.c.owner == owner)
    if besides is not None:
        query = query.where(JOBS.c.id != besides)
    images, bytes_ = c.execute(query).one()
    return Load(int(images or 0), int(bytes_ or 0))
