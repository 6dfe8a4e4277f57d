"""Disk share: when the blob store's disk is nearly full, what is left is for the keys that store little."""

import threading
import time

from core import errors
from core.db import database
from core.db.queries import quotas
from core.intake import key_loads
from core.storage import base

RESERVED_PART = 0.1  # of the disk, for keys that store less than an equal share
MAX_RESERVED = quotas.Load(images=100_000, bytes=1_000_000_000)  # of it: files and bytes
MAX_AGE_SECONDS = 60.0  # of the sums by key, which are read only while the disk is nearly full
RETRY_AFTER_SECONDS = 60.0


class DiskShare:
    """Reject submissions that would need the reserve of the disk, of keys that store more than an equal share.

    What a key stores is estimated by the images of its jobs, as if no two had the same bytes.
    """

    def __init__(self, db: database.Database, blob_store: base.BlobStore) -> None:
        self._db = db
        self._blob_store = blob_store
        self._lock = threading.Lock()
        self._stored = key_loads.KeyLoads({})
        self._refreshed_at = float("-inf")

    def admit(self, owner: str, load: quotas.Load) -> None:
        """Check whether a key may store so much.

        Raises:
            errors.StoreFull: the disk is nearly full, and the key stores more than its share.
            errors.DatabaseUnavailable: the disk is nearly full, and the database does not answer.
        """
        disk = self._blob_store.disk() if load.bytes else None
        if disk is None:
            return
        size = quotas.Load(disk.f_files, disk.f_blocks * disk.f_frsize)
        free = quotas.Load(disk.f_favail, disk.f_bavail * disk.f_frsize)
        load = quotas.Load(load.images, load.bytes + load.images * disk.f_frsize)
        low_units = [
            unit
            for unit in quotas.UNITS
            if getattr(free, unit) < min(getattr(size, unit) * RESERVED_PART, getattr(MAX_RESERVED, unit))
        ]
        if not low_units:
            return
        with self._lock:
            self._refresh(disk.f_frsize)
            available = self._stored.total + free
            if any(self._stored.is_above_share(owner, load, getattr(available, unit), unit) for unit in low_units):
                raise errors.StoreFull(
                    "The disk for images is nearly full, and this key stores more than its equal share; "
                    "delete jobs of this key.",
                    RETRY_AFTER_SECONDS,
                )
            self._stored.add(owner, load)

    def _refresh(self, block_bytes: int) -> None:
        if time.monotonic() - self._refreshed_at > MAX_AGE_SECONDS:
            stored = self._db.read(quotas.stored_loads)
            whole_blocks = {
                key: quotas.Load(load.images, load.bytes + load.images * block_bytes) for key, load in stored.items()
            }
            self._stored = key_loads.KeyLoads(whole_blocks)
            self._refreshed_at = time.monotonic()
