"""RateLimit headers: what a key with a limit per minute may still submit.

As in draft-ietf-httpapi-ratelimit-headers: `RateLimit-Policy` gives the limit in a window of `w` seconds, `RateLimit`
what remains of it, and in how many seconds all of it is available again.
"""

import functools
import math

import flask

from core import errors
from core.db import database
from core.db.queries import quotas

LIMITED_ENDPOINTS = {"jobs.submit", "jobs.add", "jobs.retry", "results.verify", "selections.resubmit"}
HEADERS = {
    "RateLimit-Policy": "what the key may submit, if that is limited: images, bytes and seconds of work in 60 seconds",
    "RateLimit": "what remains of it (`r`), and in how many seconds all of it is available again (`t`)",
}
PROBLEM_CODES = {429: ["rate_limited", "quota_exceeded"], 503: ["queue_full", "store_full"]}


def register(app: flask.Flask, db: database.Database) -> None:
    """Add the headers to every response to a submission."""
    app.after_request(functools.partial(_add_headers, db))


def _add_headers(db: database.Database, response: flask.Response) -> flask.Response:
    caller = flask.g.get("caller")  # None for a request that was not authenticated
    if caller is None or flask.request.endpoint not in LIMITED_ENDPOINTS:
        return response
    if caller.key_quotas.per_minute == quotas.NO_LOAD or response.status_code == 403:
        return response
    try:
        remaining = db.read(quotas.get_usage, caller.id, caller.key_quotas).remaining
    except errors.DatabaseUnavailable:
        return response
    limits = caller.key_quotas.per_minute
    units = [unit for unit in quotas.RATE_UNITS if getattr(limits, unit)]
    response.headers["RateLimit-Policy"] = ", ".join(_policy(unit, limits) for unit in units)
    response.headers["RateLimit"] = ", ".join(_remaining(unit, limits, remaining) for unit in units)
    return response


def _policy(unit: str, limits: quotas.Load) -> str:
    quota_unit = "content-bytes" if unit == "bytes" else unit
    return f'"{unit}";q={getattr(limits, unit):.0f};w={quotas.WINDOW_SECONDS:.0f};qu="{quota_unit}"'


def _remaining(unit: str, limits: quotas.Load, remaining: quotas.Load) -> str:
    limit = getattr(limits, unit)
    seconds = math.ceil((limit - getattr(remaining, unit)) / limit * quotas.WINDOW_SECONDS)
    return f'"{unit}";r={max(0, math.floor(getattr(remaining, unit)))};t={seconds}'
