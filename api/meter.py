"""The meter: requests that this process has answered, counted here and added to everybody's tallies now and then."""

import logging
import threading
import time
from bisect import bisect_left
from collections import defaultdict

import flask

from jobs import database, errors
from jobs.store import tallies

FLUSH_SECONDS = 5.0  # what a killed process has counted since is lost, and nothing else
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, float("inf"))
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
NO_ROUTE = "none"

log = logging.getLogger(__name__)


def register(app: flask.Flask, meter: "Meter") -> None:
    """Count every answer of an application."""

    def begin() -> None:
        flask.g.began = time.monotonic()

    def end(response: flask.Response) -> flask.Response:
        seconds = time.monotonic() - flask.g.began
        meter.note(flask.request.method, route(), response.status_code, seconds)
        return response

    app.before_request(begin)
    app.after_request(end)


def route() -> str:
    """The route of the request under way, as the document writes it.

    Rules that differ in a value that they give to their view are one route.
    """
    rule = flask.request.url_rule
    if rule is None:
        return NO_ROUTE
    written = str(rule.rule)
    for name, value in (rule.defaults or {}).items():
        written = written.replace(value, f"<{name}>")
    return written.replace("<", "{").replace(">", "}")


class Meter:
    """What was counted since it was last added to the tallies."""

    def __init__(self, db: database.Database) -> None:
        self._db = db
        self._counting = threading.Lock()
        self._flushing = threading.Lock()
        self._counts: defaultdict[tallies.Key, float] = defaultdict(float)
        self._stop = threading.Event()

    def note(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer, and how long its view took."""
        method = method if method in METHODS else "OTHER"
        bound = BOUNDS[bisect_left(BOUNDS, seconds)]
        with self._counting:
            self._counts["http", method, route, str(status)] += 1
            self._counts["http_bucket", method, route, f"{bound:g}"] += 1
            self._counts["http_seconds", method, route] += seconds

    def flush(self) -> None:
        """Add what was counted to the tallies; without a database it is kept for the next time."""
        with self._flushing:
            with self._counting:
                taken, self._counts = self._counts, defaultdict(float)
            try:
                if taken:
                    self._db.write(tallies.add, taken)
            except errors.Unavailable as error:
                log.warning("%s", error.detail)
                with self._counting:
                    for key, count in taken.items():
                        self._counts[key] += count

    def start(self) -> None:
        """Flush now and then, until closed."""
        threading.Thread(target=self._run, name="meter", daemon=True).start()

    def close(self) -> None:
        """Flush for the last time."""
        self._stop.set()
        self.flush()

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            try:
                self.flush()
            except Exception:
                log.exception("requests could not be counted; the next try is soon")
