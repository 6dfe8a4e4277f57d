"""Tests of model versions: which version a worker should test, the outcome, and versions that lost workers."""

from typing import Any

import sqlalchemy as sa

from core.db import clock
from core.db.expressions import MODELS, WORKERS
from core.db.queries import models, workers

MAX_ERROR_CHARS = 1000
MAX_LOST_WORKERS = 3  # within a day, while they loaded a version that was tested


def begin(conn: sa.Connection, worker: str, model_id: int) -> bool:
    """Note that a worker is about to test a version; return False if another one does, or has done."""
    is_tested = sa.exists().where(MODELS.c.id == model_id, MODELS.c.tested_at.is_not(None))
    others = sa.exists().where(WORKERS.c.loading_model_id == model_id, WORKERS.c.id != worker)
    if conn.execute(sa.select(sa.or_(is_tested, others))).scalar():
        return False
    begin_loading(conn, worker, model_id)
    return True


def end(conn: sa.Connection, worker: str, model_id: int, error: str | None) -> None:
    """Record the outcome of a test: the reason why the version cannot be used, or None."""
    _record(conn, model_id, error)
    end_loading(conn, worker, model_id)


def end_loading(conn: sa.Connection, worker: str, model_id: int) -> None:
    """Note that a test of a version has ended without an outcome, or a load with any."""
    is_noted = (WORKERS.c.id == worker, WORKERS.c.loading_model_id == model_id)
    conn.execute(sa.update(WORKERS).where(*is_noted).values(loading_model_id=None))


def begin_loading(conn: sa.Connection, worker: str, model_id: int) -> None:
    """Note that a worker is about to load a version that was tested; `end_loading` ends it."""
    conn.execute(sa.update(WORKERS).where(WORKERS.c.id == worker).values(loading_model_id=model_id))


def fail_versions_of_lost_workers(conn: sa.Connection) -> list[str]:
    """Fail the versions of which workers were lost; return their names.

    One worker is enough for a version that was being tested. One that has passed is failed only if several workers were
    lost while they loaded it, and none serves it: a worker may have been killed by something else at that moment.
    """
    lost_workers = sa.func.count().label("count")
    lost = sa.select(WORKERS.c.loading_model_id, lost_workers, sa.func.min(WORKERS.c.id).label("worker"))
    lost = lost.where(WORKERS.c.loading_model_id.is_not(None), ~workers.IS_ALIVE).group_by(WORKERS.c.loading_model_id)
    failed = []
    for model_id, count, worker in conn.execute(lost).all():
        version = conn.execute(sa.select(MODELS).where(MODELS.c.id == model_id)).one()
        if version.tested_at is None:
            error = f"The worker {worker} was lost while it tested this version."
        elif count >= MAX_LOST_WORKERS and not _is_served(conn, version):
            error = f"{count} workers were lost while they loaded this version."
        else:
            continue
        _record(conn, model_id, error)
        conn.execute(sa.update(WORKERS).where(WORKERS.c.loading_model_id == model_id).values(loading_model_id=None))
        failed.append(f"{version.name}@{version.version}")
    return failed


def list_untested(conn: sa.Connection, worker: str) -> list[models.Version]:
    """Return the uploaded versions that no worker has tested and no other worker is testing, oldest first.

    The worker's own note does not count: it may be left from a test whose end the database did not take.
    """
    is_being_tested = sa.exists().where(WORKERS.c.loading_model_id == MODELS.c.id, WORKERS.c.id != worker)
    query = sa.select(*models.VERSION_COLUMNS).where(MODELS.c.tested_at.is_(None), ~is_being_tested)
    # JSON null and SQL NULL both mean that there are no files.
    rows = conn.execute(query.order_by(MODELS.c.id)).all()
    return [models.Version(*row) for row in rows if row.files is not None]


def _is_served(conn: sa.Connection, version: Any) -> bool:
    """Return whether a live worker serves a version."""
    served = conn.execute(sa.select(WORKERS.c.loaded_models).where(workers.IS_ALIVE)).scalars()
    return any(loaded_models.get(version.name) == version.version for loaded_models in served)


def _record(conn: sa.Connection, model_id: int, error: str | None) -> None:
    values = {"tested_at": clock.now(), "test_error": error and error[:MAX_ERROR_CHARS]}
    conn.execute(sa.update(MODELS).where(MODELS.c.id == model_id).values(values))
