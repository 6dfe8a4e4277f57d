"""The door: who has shown a good key lately, and who wrong ones, by address; each process knows its own."""

import hashlib
import threading
import time
from collections import OrderedDict
from typing import Any

from jobs.store import keys

MINUTE = 60.0
TRUSTED_SECONDS = 10.0  # for so long a good key is not looked up again; a revoked one may open so much longer elsewhere
MOST_KNOWN = 10_000  # addresses, and keys; beyond that the oldest are forgotten


class Door:
    """Counts wrong keys; may be shared between threads.

    An address that has tried too many is turned away, but for keys that were good lately: whoever shares an address,
    as all do behind a proxy, is not shut out by the others.
    """

    def __init__(self, most_per_minute: int) -> None:
        """Let an address try so many wrong keys a minute; 0 is no limit."""
        self._most = most_per_minute
        self._lock = threading.Lock()
        self._bad: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._good: OrderedDict[bytes, tuple[float, keys.Caller]] = OrderedDict()

    def shut_seconds(self, address: str, key: str) -> float | None:
        """For how many seconds this address is turned away with this key; None if it is not."""
        with self._lock:
            since, count = self._bad.get(address, (0.0, 0))
            left = since + MINUTE - time.monotonic()
            if not self._most or count < self._most or left <= 0 or _digest(key) in self._good:
                return None
            return left

    def holder(self, key: str) -> keys.Caller | None:
        """Who holds this key, if it was looked up lately; it may have been revoked since by another process."""
        with self._lock:
            until, caller = self._good.get(_digest(key), (0.0, None))
            return caller if time.monotonic() < until else None

    def good(self, key: str, caller: keys.Caller) -> None:
        """Note that a key is good, and whose it is."""
        with self._lock:
            _put(self._good, _digest(key), (time.monotonic() + min(TRUSTED_SECONDS, caller.seconds), caller))

    def doubt(self, key_id: str) -> None:
        """Have a key looked up anew, because it was changed or revoked; it still counts as one that was good."""
        with self._lock:
            for digest, (_, caller) in self._good.items():
                if caller.id == key_id:
                    self._good[digest] = (0.0, caller)

    def bad(self, address: str, key: str) -> None:
        """Note that a key is not, or no more."""
        with self._lock:
            now = time.monotonic()
            since, count = self._bad.get(address, (now, 0))
            _put(self._bad, address, (since, count + 1) if now - since < MINUTE else (now, 1))
            self._good.pop(_digest(key), None)


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _put(known: "OrderedDict[Any, Any]", name: object, value: object) -> None:
    known[name] = value
    known.move_to_end(name)
    if len(known) > MOST_KNOWN:
        known.popitem(last=False)
