import threading
import time
from datetime import UTC, datetime

import pytest

from core import errors
from core.db.queries import claims as claim_queries
from model.packaging import manifest
from worker import lease_table, settlement, source_cooldown

CLAIMS = [claim_queries.Claim(n, "job", f"{n}.jpg", "0" * 64, 1, "me", datetime.now(UTC)) for n in range(3)]


class FakeDatabase:
    """Record the queries written; the first `outages` writes fail."""

    def __init__(self, outages=0):
        self.outages = outages
        self.queries = []

    def write(self, query, *arguments):
        """Record a query."""
        if self.outages:
            self.outages -= 1
            raise errors.DatabaseUnavailable("Away.")
        self.queries.append(query)
        return query(None, *arguments) if query.__module__ == __name__ else len(arguments[0])


class Settler(settlement.ClaimSettler):
    """A settler with a lease table that holds CLAIMS, and one source."""

    def __init__(self, db, lease_seconds=5.0):
        self.leases, self.sources = lease_table.LeaseTable(), source_cooldown.SourceCooldown(["camera"])
        self.stop = threading.Event()
        self.leases.add(CLAIMS)
        super().__init__(db, self.leases, self.sources, lease_seconds, self.stop)


@pytest.fixture(autouse=True)
def _no_wait(monkeypatch):
    monkeypatch.setattr(settlement, "RETRY_SECONDS", 0.01)


def test_settled_claims_leave_the_lease_table():
    settler = Settler(FakeDatabase())
    settler.release(CLAIMS[:2])
    assert settler.leases.snapshot() == CLAIMS[2:]


def test_a_write_is_retried_during_an_outage():
    db = FakeDatabase(outages=3)
    settler = Settler(db)
    assert settler.settle(CLAIMS, lambda _, claims: len(claims)) == 3
    assert len(db.queries) == 1


@pytest.mark.parametrize("reason", ["lease ended", "stopping"])
def test_a_write_is_given_up_when_the_leases_end_or_the_worker_stops(reason):
    settler = Settler(FakeDatabase(outages=10**6), lease_seconds=0.05 if reason == "lease ended" else 60.0)
    if reason == "stopping":
        settler.stop.set()
    started = time.monotonic()
    assert settler.settle(CLAIMS, lambda *_: 1) is None
    assert time.monotonic() - started < 50
    assert settler.leases.snapshot() == []


def test_an_unexpected_error_is_logged_and_the_claims_are_dropped(caplog):
    settler = Settler(FakeDatabase())
    assert settler.settle(CLAIMS, lambda *_: 1 // 0) is None
    assert settler.leases.snapshot() == []
    assert "could not be written" in caplog.text


@pytest.mark.parametrize(
    ("error", "settle"),
    [
        (errors.BlobsUnavailable("Away."), claim_queries.release),
        (manifest.InvalidBundle("No."), claim_queries.release),
        (RuntimeError("a fault of the test's own"), claim_queries.abandon),
    ],
)
def test_an_outage_releases_claims_and_any_other_error_abandons_them(error, settle):
    """Only the latter may be caused by the images."""
    db = FakeDatabase()
    settler = Settler(db)
    with settler.settle_on_error(CLAIMS):
        raise error
    assert db.queries == [settle]
    assert settler.leases.snapshot() == []


def test_a_source_outage_starts_its_cooldown():
    db = FakeDatabase()
    settler = Settler(db)
    with settler.settle_on_error(CLAIMS):
        raise errors.SourceUnavailable("camera", "timed out")
    assert db.queries == [claim_queries.release]
    assert settler.sources.available() == []
