"""`python -m jobs.courier`: runs errands until it is told to stop; as many may run as one likes.

It sends the webhooks that are due, and fills jobs from sources (`jobs/scanner.py`). Neither is the worker's business
or the API's: a receiver that is slow holds up nobody but other webhooks, and of these at most a quarter, since an owner
gets no more of a courier than that. Scans have threads of their own.
"""

import argparse
import contextlib
import logging
import signal
import sys
import threading
import time
from collections import Counter
from typing import Any

import sqlalchemy as sa

from jobs import database, destinations, errands, errors, scanner, sending, settings, tracing, webhooks
from jobs.store import deliveries, jobs, scans, schema, signing

AT_ONCE = 32
OF_ONE_OWNER = AT_ONCE // 4

log = logging.getLogger(__name__)


class Courier(errands.Errands):
    """Claims what is due, sends it, and notes what came of it; several at once share the work."""

    def __init__(self, wanted: settings.Settings, db: database.Database) -> None:
        super().__init__("courier", AT_ONCE)
        self._rules = destinations.Rules.read(wanted.webhook_allow)
        self._db = db
        self._tls = sending.trust()

    def look(self) -> int:
        """Claim what is due, as far as there are hands, and send it off. Returns how many.

        Raises:
            errors.DatabaseUnavailable: the database does not answer, or its tables are of another age.
        """
        free = self._free()
        if not free or not self._db.read(deliveries.is_due):
            return 0
        busy = [owner for owner, count in Counter(self._out.values()).items() if count >= OF_ONE_OWNER]
        claims = self._db.write(_claim, free, busy)
        for claimed, job, secrets in claims:
            self._begin(claimed.owner, self._deliver, claimed, job, secrets)
        return len(claims)

    def _deliver(self, claimed: deliveries.Claim, job: Any, secrets: list[str]) -> None:
        try:
            body = webhooks.payload(job, claimed.event)
            headers = webhooks.signed(claimed.id, int(time.time()), body, secrets)
            outcome = self._send(claimed, job, headers, body)
            if outcome.error is not None:
                log.info("webhook %s, attempt %d: %s", claimed.id, claimed.attempts, outcome.error)
            self._db.write(deliveries.note, claimed, outcome)
        except errors.DatabaseUnavailable as error:
            log.warning("webhook %s will be sent again: %s", claimed.id, error.detail)
        except Exception:
            log.exception("webhook %s broke down; it is tried again when its lease ends", claimed.id)

    def _send(self, claimed: deliveries.Claim, job: Any, headers: dict[str, str], body: bytes) -> webhooks.Outcome:
        """One attempt, traced: its receiver may go on with the trace."""
        told: dict[str, str | int] = {"sortbelt.job.id": claimed.job_id, "sortbelt.delivery.id": claimed.id}
        about: dict[str, str | int] = told | {
            "sortbelt.delivery.attempt": claimed.attempts,
            "http.request.method": "POST",
        }
        with tracing.sent("webhook", about, {claimed.job_id: job.traceparent}) as span:
            if (here := tracing.traceparent()) is not None:
                headers |= {"traceparent": here}
            outcome = sending.send(claimed.url, headers, body, self._rules, self._tls)
            if outcome.status is not None:
                span.tell({"http.response.status_code": outcome.status})
            if outcome.error is not None:
                span.fail("no answer" if outcome.status is None else str(outcome.status))
        return outcome


def _claim(c: sa.Connection, limit: int, busy: list[str]) -> list[tuple[deliveries.Claim, Any, list[str]]]:
    """What is due, with the jobs that it tells of and the secrets that sign it."""
    schema.check(c)
    claims = deliveries.claim(c, limit=limit, each=OF_ONE_OWNER, but=busy)
    rows = jobs.states(c, {claimed.job_id for claimed in claims})
    secrets = {owner: signing.valid(c, owner) for owner in sorted({claimed.owner for claimed in claims})}
    return [(claimed, rows[claimed.job_id], secrets[claimed.owner]) for claimed in claims]


def main() -> int:
    """Run errands until told to stop; 0, 2 for a bad setting; with --check 1 if some are late, 3 without a database."""
    parser = argparse.ArgumentParser(prog="python -m jobs.courier", description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="only tell whether errands are overdue: 0, or 1 if so")
    parser.add_argument("--loglevel", default="WARNING", help="DEBUG, INFO (every attempt in vain), WARNING or ERROR")
    asked = parser.parse_args()
    wanted = settings.read_or_exit()
    db = database.Database(wanted.database_url)
    if asked.check:
        with contextlib.closing(db):
            return _check(db)
    logging.basicConfig(level=asked.loglevel, format="%(asctime)s %(levelname)s %(message)s")
    tracing.start_or_exit("sortbelt-courier", on=wanted.tracing)
    courier, finder = Courier(wanted, db), scanner.Scanner(wanted, db)

    def stop(*_: object) -> None:
        courier.stop()
        finder.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    finding = threading.Thread(target=finder.run, name="scanner")
    finding.start()
    courier.run()
    finding.join()
    tracing.close()
    return 0


def _check(db: database.Database) -> int:
    try:
        late, waiting = db.read(deliveries.overdue), db.read(scans.overdue)
    except errors.DatabaseUnavailable as error:
        print(f"sortbelt: {error.detail}", file=sys.stderr)  # noqa: T201 (its only voice)
        return 3
    print(f"{late} webhooks and {waiting} scans are overdue")  # noqa: T201 (that is its answer)
    return 1 if late or waiting else 0


if __name__ == "__main__":
    sys.exit(main())
