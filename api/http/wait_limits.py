"""Limits of requests that wait, and of event streams: how many there may be in this process, half of one key."""

import math
from collections import Counter

from api.services import container
from core import errors

RETRY_AFTER_SECONDS = 5.0
KEY_SHARES = 2
PROBLEM_CODES = {429: ["too_many_waits"], 503: ["too_busy"]}


class TooManyWaits(errors.TemporarilyRejected):
    """Too many requests of this key wait for a job; poll without `wait`."""

    code = "too_many_waits"


class TooManyWaitsOfAllKeys(errors.TemporarilyRejected):
    """Too many requests wait for a job; poll without `wait`."""

    code = "too_busy"


class TooManyStreams(errors.ServiceUnavailable):
    """Too many event streams are open; poll the job, or use `?wait=`."""

    code = "too_many_streams"


def fits(counts: Counter[str], maximum: int, key_id: str) -> bool:
    """Return whether one more of this key fits."""
    return counts.total() < maximum and counts[key_id] < math.ceil(maximum / KEY_SHARES)


def can_wait(services: container.Services, key_id: str) -> bool:
    """Return whether one more request of this key may wait."""
    return fits(services.job_watcher.waits, services.settings.max_waits, key_id)


def check(services: container.Services, key_id: str) -> None:
    """Check that one more request of this key may wait.

    Raises:
        TooManyWaits: too many of this key wait.
        TooManyWaitsOfAllKeys: too many of all keys together wait.
    """
    if can_wait(services, key_id):
        return
    count = services.job_watcher.waits[key_id]
    if fits(Counter({key_id: count}), services.settings.max_waits, key_id):
        raise TooManyWaitsOfAllKeys("Too many requests wait for a job; poll without `wait`.", RETRY_AFTER_SECONDS)
    raise TooManyWaits(f"{count:,} requests of this key wait for a job; poll without `wait`.", RETRY_AFTER_SECONDS)


def check_stream(services: container.Services, key_id: str) -> None:
    """Check that one more event stream of this key may be open.

    Raises:
        TooManyStreams: it may not.
    """
    if not fits(services.job_watcher.streams, services.settings.max_event_streams, key_id):
        raise TooManyStreams
