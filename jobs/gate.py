"""The gate: whether more pictures may be taken in now, before anything of them is written."""

import threading

from jobs import database, errors, outlook, settings, tables
from jobs.store import forecast, quotas

URGENT = 1.1  # bulk leaves so much room in the queue to those who wait for an answer
LEAST_SECONDS, MOST_SECONDS = 1.0, 60.0  # after which whoever is sent away may come again
UNKNOWN_SECONDS = 10.0  # where nobody knows how fast it goes


def quotas_by(wanted: settings.Settings) -> quotas.Quotas:
    """What every key may do that has no quotas of its own."""
    return quotas.Quotas(*(getattr(wanted, f"key_{name}") for name in quotas.NAMES))


class Gate:
    """Keeps the queue below its watermark, and each key within its quotas.

    How much everybody has open is looked up every few seconds, with the forecast that there is anyway; what was let in
    since is added. So it may be passed by what other processes let in meanwhile. A key's own quotas are exact:
    `jobs.store.quotas` looks once more, when the pictures are written.
    """

    def __init__(self, wanted: settings.Settings, db: database.Database, sight: outlook.Outlook) -> None:
        self._db = db
        self._sight = sight
        self._most = quotas.Load(wanted.max_queued_images, wanted.max_queued_bytes)
        self._lock = threading.Lock()
        self._seen: forecast.Forecast | None = None
        self._since = quotas.NOTHING

    def check(
        self, owner: str, own: quotas.Quotas, wanted: quotas.Load, priority: int = tables.Priority.BULK.value
    ) -> None:
        """See whether so much may be taken in.

        Raises:
            errors.Later: not now; it says why, and when.
            errors.Refused: never, by the key's quotas.
            errors.DatabaseUnavailable: the database does not answer.
        """
        if own.limited:
            self._check_key(owner, own, wanted)
        if self._most != quotas.NOTHING:
            self._check_queue(wanted, URGENT if priority == tables.Priority.INTERACTIVE else 1.0)

    def _check_key(self, owner: str, own: quotas.Quotas, wanted: quotas.Load) -> None:
        stands = self._db.read(quotas.state, owner, own)
        try:
            quotas.check(own, stands, wanted)
        except errors.QuotaExceeded as error:
            if (most := own.open.images) and (short := stands.open.images + wanted.images - most) > 0:
                raise errors.QuotaExceeded(error.detail, self._seconds(short)) from None
            raise

    def _check_queue(self, wanted: quotas.Load, room: float) -> None:
        latest = self._sight.now()
        if latest is None:
            return
        with self._lock:
            if latest is not self._seen:
                self._seen, self._since = latest, quotas.NOTHING
            there = latest.load + self._since
            for unit, what in quotas.UNITS.items():
                most, open_ = self._most.of(unit) * room, there.of(unit)
                # What is larger than the whole queue is taken when that is empty.
                if most and open_ and open_ + wanted.of(unit) > most:
                    short = (open_ + wanted.of(unit) - most) * (there.images / open_)
                    detail = f"The queue is full: {open_:,.0f} {what} wait."
                    raise errors.QueueFull(detail, self._seconds(short))
            self._since += wanted

    def _seconds(self, images: float) -> float:
        """In how many seconds so many pictures will be done."""
        latest = self._sight.latest
        seconds = images / latest.rate if latest is not None and latest.rate else UNKNOWN_SECONDS
        return min(max(seconds, LEAST_SECONDS), MOST_SECONDS)
