"""Admission control: whether more images can be accepted now, checked before anything is written."""

import threading

from core import enums, errors, settings
from core.db import database
from core.db.queries import eta, quotas
from core.intake import disk_share, key_loads
from core.intake.eta_cache import EtaCache

INTERACTIVE_HEADROOM = 1.1  # interactive jobs may exceed the limit of bulk jobs by this factor
MIN_RETRY_AFTER_SECONDS, MAX_RETRY_AFTER_SECONDS = 1.0, 60.0  # bounds of Retry-After
DEFAULT_RETRY_AFTER_SECONDS = 10.0  # if the throughput is not known


def default_quotas(config: settings.Settings) -> quotas.Quotas:
    """Return the quotas of keys that have none of their own."""
    return quotas.Quotas(*(getattr(config, f"key_{name}") for name in quotas.FIELD_NAMES))


class AdmissionControl:
    """Limit the queue to its maximum, and each key to its quotas.

    A full queue rejects only the keys that would have more of it than an equal share: else one key could fill it, and
    keep all others out. So it may exceed its maximum, by the shares of the keys that came later.

    The open images of each key are read every two seconds, with the ETA estimate; those admitted since are added. Other
    processes may therefore exceed the maximum a little. A key's own quotas are exact: `core.db.queries.quotas` checks
    them again when the images are written.
    """

    def __init__(
        self,
        config: settings.Settings,
        db: database.Database,
        eta_cache: EtaCache,
        disk: disk_share.DiskShare | None = None,
    ) -> None:
        self._db = db
        self._eta_cache = eta_cache
        self._disk = disk
        self._queue_limit = quotas.Load(config.max_queued_images, config.max_queued_bytes)
        self._lock = threading.Lock()
        self._last_estimate: eta.QueueEstimate | None = None
        self._open = key_loads.KeyLoads({})
        """The open images of each key: of the last estimate, and those admitted since."""

    def admit(
        self, owner: str, key_quotas: quotas.Quotas, load: quotas.Load, priority: int = enums.Priority.BULK.value
    ) -> None:
        """Check whether a submission of this load can be accepted, and count it as admitted.

        Raises:
            errors.TemporarilyRejected: it cannot be accepted now; the error has the reason and the delay.
            errors.TooManyImages: it exceeds the quotas of the key by itself.
            errors.DatabaseUnavailable: the database does not answer.
        """
        if key_quotas.is_limited:
            self._check_key(owner, key_quotas, load)
        if self._disk is not None:
            self._disk.admit(owner, load)
        if self._queue_limit != quotas.NO_LOAD:
            self._check_queue(owner, load, INTERACTIVE_HEADROOM if priority == enums.Priority.INTERACTIVE else 1.0)

    def refresh_estimate(self) -> None:
        """Refresh the ETA estimate if it is old: responses to submissions take the latest, and ask no database.

        Raises:
            errors.DatabaseUnavailable: the database does not answer.
        """
        self._eta_cache.get()

    def _check_key(self, owner: str, key_quotas: quotas.Quotas, load: quotas.Load) -> None:
        state = self._db.read(quotas.get_usage, owner, key_quotas)
        try:
            quotas.check(key_quotas, state, load)
        except errors.QuotaExceeded as error:
            if (max_open_images := key_quotas.max_open.images) and (
                excess := state.open.images + load.images - max_open_images
            ) > 0:
                raise errors.QuotaExceeded(error.detail, self._retry_after(excess)) from None
            raise

    def _check_queue(self, owner: str, load: quotas.Load, headroom: float) -> None:
        estimate = self._eta_cache.get()
        if estimate is None:
            return
        with self._lock:
            if estimate is not self._last_estimate:
                self._last_estimate, self._open = estimate, key_loads.KeyLoads(estimate.open_loads)
            for unit, unit_name in quotas.UNITS.items():
                limit, current = getattr(self._queue_limit, unit) * headroom, getattr(self._open.total, unit)
                excess = current + getattr(load, unit) - limit
                if limit and excess > 0 and self._open.is_above_share(owner, load, limit, unit):
                    own = getattr(self._open.of(owner), unit)
                    detail = f"The queue is full ({current:,.0f} {unit_name}, {own:,.0f} of this key)."
                    raise errors.QueueFull(detail, self._retry_after(excess * self._open.total.images / current))
            self._open.add(owner, load)

    def _retry_after(self, images: float) -> float:
        """Return in how many seconds so many images will be done."""
        estimate = self._eta_cache.latest
        seconds = images / estimate.rate if estimate is not None and estimate.rate else DEFAULT_RETRY_AFTER_SECONDS
        return min(max(seconds, MIN_RETRY_AFTER_SECONDS), MAX_RETRY_AFTER_SECONDS)
