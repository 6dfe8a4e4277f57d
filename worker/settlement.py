"""Settlement: write the end of claims to the database, and drop them from the lease table."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa

from core import errors
from core.db import database
from core.db.queries import claims as claim_queries
from model.packaging import manifest
from worker import lease_table, source_cooldown

log = logging.getLogger(__name__)
RETRY_SECONDS = 0.5
T = TypeVar("T")


@dataclass(eq=False)
class ClaimSettler:
    """Write the end of claims, and remove them from the lease table in any case."""

    db: database.Database
    leases: lease_table.LeaseTable
    sources: source_cooldown.SourceCooldown
    lease_seconds: float
    stop: threading.Event

    def settle(
        self,
        claims: Sequence[claim_queries.Claim],
        write: Callable[[sa.Connection, Sequence[claim_queries.Claim]], T],
    ) -> T | None:
        """End claims by `write`; return its result, or None if it failed, was not retried any more, or had no claims.

        While the database is unavailable, `write` is retried for as long as the leases can last, unless the worker
        stops. Images of claims whose end was not written are requeued once the leases have expired.
        """
        deadline = time.monotonic() + self.lease_seconds
        try:
            while claims:
                try:
                    return self.db.write(write, claims)
                except errors.DatabaseUnavailable as error:
                    if time.monotonic() > deadline or self.stop.is_set():
                        log.error(
                            "the end of %d claims was not written; their images are retried once the leases expire: %s",
                            len(claims),
                            error.detail,
                        )
                        break
                    log.warning("the end of %d claims is not written yet; retrying: %s", len(claims), error.detail)
                    time.sleep(RETRY_SECONDS)
        except Exception:
            log.exception("the outcomes of %d images could not be written; they will be retried", len(claims))
        finally:
            self.leases.remove(claims)
        return None

    def release(self, claims: Sequence[claim_queries.Claim]) -> None:
        """Requeue the images of claims at once, without counting an attempt."""
        self.settle(claims, claim_queries.release)

    def abandon(self, claims: Sequence[claim_queries.Claim]) -> None:
        """End the leases of claims as if this worker had died: their images are retried in smaller batches."""
        self.settle(claims, claim_queries.abandon)

    @contextlib.contextmanager
    def settle_on_error(self, claims: Sequence[claim_queries.Claim]) -> Iterator[None]:
        """Suppress an exception in the block, and end the claims: release for a service or bundle, else abandon."""
        try:
            yield
        except errors.SourceUnavailable as error:
            log.warning("a batch of %d is handed back: %s (%s)", len(claims), error.detail, error.reason)
            self.sources.suspend(error.source)
            self.release(claims)
        except (errors.ServiceUnavailable, manifest.InvalidBundle) as error:
            log.warning("a batch of %d is handed back: %s", len(claims), error)
            self.release(claims)
        except Exception:
            log.exception("a batch of %d failed; its images will be retried in smaller batches", len(claims))
            self.abandon(claims)
