"""Tests of model versions: which version a worker should test, what came of it, and which one has cost a worker."""

import sqlalchemy as sa

from core.db import clock, tables
from core.db.expressions import MODELS, WORKERS
from core.db.queries import models

MAX_ERROR_CHARS = 1000


def begin(conn: sa.Connection, worker: str, model_id: int) -> bool:
    """Note that a worker is about to test a version; return False if another one does, or has done."""
    is_tested = sa.exists().where(MODELS.c.id == model_id, MODELS.c.tested_at.is_not(None))
    others = sa.exists().where(WORKERS.c.loading_model_id == model_id, WORKERS.c.id != worker)
    if conn.execute(sa.select(sa.or_(is_tested, others))).scalar():
        return False
    conn.execute(sa.update(WORKERS).where(WORKERS.c.id == worker).values(loading_model_id=model_id))
    return True


def end(conn: sa.Connection, worker: str, model_id: int, error: str | None) -> None:
    """Record the outcome of a test: the reason why the version cannot be used, or None."""
    _record(conn, model_id, error)
    give_up(conn, worker)


def give_up(conn: sa.Connection, worker: str) -> None:
    """Note that a test has ended without an outcome."""
    conn.execute(sa.update(WORKERS).where(WORKERS.c.id == worker).values(loading_model_id=None))


def blame_lost(conn: sa.Connection) -> list[str]:
    """Fail the versions that workers were testing when they were lost; return the names of these versions."""
    is_lost = (WORKERS.c.loading_model_id.is_not(None), WORKERS.c.heartbeat_at < clock.now(-tables.WORKER_TTL_SECONDS))
    lost = conn.execute(sa.select(WORKERS.c.id, WORKERS.c.loading_model_id).where(*is_lost)).all()
    for worker, model_id in lost:
        _record(conn, model_id, f"The worker {worker} was lost while it tested this version.")
        give_up(conn, worker)
    ids = {model_id for _, model_id in lost}
    names = conn.execute(sa.select(MODELS.c.name, MODELS.c.version).where(MODELS.c.id.in_(ids))).all() if ids else []
    return [f"{name}@{version}" for name, version in names]


def next_untested(conn: sa.Connection) -> models.Version | None:
    """Return the oldest uploaded version that no worker has tested or is testing; None if there is none."""
    is_being_tested = sa.exists().where(WORKERS.c.loading_model_id == MODELS.c.id)
    query = sa.select(*models.VERSION_COLUMNS).where(MODELS.c.tested_at.is_(None), ~is_being_tested)
    # JSON null and SQL NULL both mean that there are no files.
    rows = conn.execute(query.order_by(MODELS.c.id)).all()
    return next((models.Version(*row) for row in rows if row.files is not None), None)


def _record(conn: sa.Connection, model_id: int, error: str | None) -> None:
    values = {"tested_at": clock.now(), "test_error": error and error[:MAX_ERROR_CHARS]}
    conn.execute(sa.update(MODELS).where(MODELS.c.id == model_id).values(values))
