"""Work meter: the seconds that each key's images took, to be charged to their quotas."""

import threading
from collections import defaultdict
from collections.abc import Mapping

from core import errors
from core.db import database
from core.db.queries import quotas
from worker import batch


class WorkMeter:
    """Seconds of decoding, by the CPU, and of the network, by key; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def add(self, classified: batch.Batch) -> None:
        """Count the images of a batch; each had an equal part of the network's time."""
        seconds: defaultdict[str, float] = defaultdict(float)
        for claim, decoded, outcome in zip(
            classified.claims, classified.decode_outcomes, classified.outcomes, strict=True
        ):
            if claim.api_key_id is not None:
                timings = outcome.timings
                network_ms = 0.0 if decoded.error else timings.get("forward_ms", 0.0) / timings.get("batch", 1)
                seconds[claim.api_key_id] += (decoded.cpu_ms + network_ms) / 1000
        self._add(seconds)

    def charge(self, db: database.Database, default_quotas: quotas.Quotas) -> None:
        """Charge the keys with a limit on work for the seconds since the last call.

        Raises:
            errors.DatabaseUnavailable: the database does not answer; the next call charges them.
        """
        with self._lock:
            seconds, self._seconds = self._seconds, defaultdict(float)
        if not seconds:
            return
        try:
            loads = {key: quotas.Load(seconds=value) for key, value in seconds.items()}
            if loads := db.read(quotas.limited_loads, loads, default_quotas):
                db.write(quotas.charge_afterwards, loads, default_quotas)
        except errors.DatabaseUnavailable:
            self._add(seconds)
            raise

    def _add(self, seconds: Mapping[str, float]) -> None:
        with self._lock:
            for key, value in seconds.items():
                self._seconds[key] += value
