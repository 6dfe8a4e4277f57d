"""Lease table: the claims that this worker holds and whose leases its heartbeat extends."""

import threading
from collections.abc import Iterable

from core.db.queries import claims as claim_queries


class LeaseTable:
    """Claims without an outcome yet, by image id; shared by the pipeline's threads and the heartbeat."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claims: dict[int, claim_queries.Claim] = {}

    def add(self, claims: Iterable[claim_queries.Claim]) -> None:
        """Add new claims."""
        with self._lock:
            self._claims.update((claim.image_id, claim) for claim in claims)

    def update(self, claims: Iterable[claim_queries.Claim]) -> None:
        """Replace the claims on these images, whose fences have changed; skip those removed meanwhile."""
        with self._lock:
            self._claims.update((claim.image_id, claim) for claim in claims if claim.image_id in self._claims)

    def remove(self, claims: Iterable[claim_queries.Claim]) -> None:
        """Remove the claims on these images."""
        with self._lock:
            for claim in claims:
                self._claims.pop(claim.image_id, None)

    def snapshot(self) -> list[claim_queries.Claim]:
        """Return a copy of the current claims."""
        with self._lock:
            return list(self._claims.values())
