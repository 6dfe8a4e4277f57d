"""Helpers of the worker tests."""

import threading

import sqlalchemy as sa

from tests.support import factories
from tests.support.waiting import wait_until  # noqa: F401 (one of these helpers)


def running_count(db):
    """Return how many images are running."""
    return sum(status == "running" for status, _ in factories.image_states(db).values())


def attempts(db, *statuses):
    """Return the distinct attempts of images with these statuses, or of all."""
    states = factories.image_states(db).values()
    return {attempt for status, attempt in states if not statuses or status in statuses}


def counts_by_label(db):
    """Return for each label the version that its results name, as NAME@VERSION, and their number."""
    columns = (factories.RESULTS.c.label, factories.RESULTS.c.model_name, factories.RESULTS.c.model_version)
    query = sa.select(*columns, sa.func.count()).group_by(*columns)
    rows = db.read(lambda conn: conn.execute(query).all())
    return {label: (f"{name}@{version}", count) for label, name, version, count in rows}


def start_run(pipeline):
    """Run a pipeline in a thread; return the thread."""
    thread = threading.Thread(target=pipeline.run, daemon=True)
    thread.start()
    return thread


def run_later(seconds, action):
    """Start a timer; return it."""
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer
