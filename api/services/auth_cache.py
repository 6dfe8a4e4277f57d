"""Per-process cache of valid API keys, and a throttle for addresses that send invalid ones."""

import hashlib
import threading
import time
from collections import OrderedDict
from typing import Any

from core.db.queries import api_keys

WINDOW_SECONDS = 60.0
CACHE_TTL_SECONDS = 10.0  # a key that another process revokes may be accepted for so much longer here
MAX_ENTRIES = 10_000  # of addresses and of keys; the oldest are evicted


class AuthCache:
    """Remember valid keys, and count invalid ones by address; thread-safe.

    An address with too many failures is blocked except for recently valid keys: callers behind one proxy share an
    address, and must not lock each other out.
    """

    def __init__(self, max_failures_per_minute: int) -> None:
        """Allow each address so many failures per minute; 0 is unlimited."""
        self._max_failures = max_failures_per_minute
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._callers: OrderedDict[bytes, tuple[float, api_keys.Caller]] = OrderedDict()

    def blocked_for(self, address: str, key: str) -> float | None:
        """Return for how many seconds this address is blocked with this key; None if it is not."""
        with self._lock:
            window_start, count = self._failures.get(address, (0.0, 0))
            remaining = window_start + WINDOW_SECONDS - time.monotonic()
            if not self._max_failures or count < self._max_failures or remaining <= 0 or _digest(key) in self._callers:
                return None
            return remaining

    def get(self, key: str) -> api_keys.Caller | None:
        """Return the caller with this key if it was valid recently; another process may have revoked it since."""
        with self._lock:
            valid_until, caller = self._callers.get(_digest(key), (0.0, None))
            return caller if time.monotonic() < valid_until else None

    def is_known(self, key: str) -> bool:
        """Return whether a key was valid when it was last looked up, however long ago."""
        with self._lock:
            return _digest(key) in self._callers

    def put(self, key: str, caller: api_keys.Caller) -> None:
        """Remember a valid key and its caller."""
        with self._lock:
            valid_until = time.monotonic() + min(CACHE_TTL_SECONDS, caller.seconds_valid)
            _store(self._callers, _digest(key), (valid_until, caller))

    def invalidate(self, key_id: str) -> None:
        """Make the next request look a key up again, since it was changed or revoked; it stays exempt from blocking."""
        with self._lock:
            for digest, (_, caller) in self._callers.items():
                if caller.id == key_id:
                    self._callers[digest] = (0.0, caller)

    def record_failure(self, address: str, key: str) -> None:
        """Count an invalid key."""
        with self._lock:
            now = time.monotonic()
            window_start, count = self._failures.get(address, (now, 0))
            is_same_window = now - window_start < WINDOW_SECONDS
            _store(self._failures, address, (window_start, count + 1) if is_same_window else (now, 1))
            self._callers.pop(_digest(key), None)


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _store(entries: "OrderedDict[Any, Any]", key: object, value: object) -> None:
    entries[key] = value
    entries.move_to_end(key)
    if len(entries) > MAX_ENTRIES:
        entries.popitem(last=False)
