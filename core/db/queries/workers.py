"""Workers: registration, heartbeats and progress."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from core.db import clock, revision, tables
from core.db.expressions import IMAGES, IS_RUNNING, WORKERS
from core.db.queries import claims as claim_queries

STALLED_SECONDS = 30.0  # without progress for so long while images are queued, a worker is stalled
DELETE_AFTER_SECONDS = 86_400.0
CRASH_WINDOW_SECONDS = 300.0
STEADY_SECONDS = 30.0  # a worker that has lived for so long is not in a crash loop
IS_ALIVE = WORKERS.c.heartbeat_at >= clock.now(-tables.WORKER_TTL_SECONDS)


def register(
    conn: sa.Connection,
    id_: str,
    model: claim_queries.ModelRef,
    device: str,
    *,
    pid: int | None = None,
    pid_namespace: str | None = None,
) -> None:
    """Register a worker that has its model loaded, and delete workers that have been gone for a day.

    With `pid_namespace`, others of that namespace end its leases when the process `pid` is dead.

    Raises:
        errors.DatabaseUnavailable: the schema is older than this program.
    """
    revision.check(conn)
    conn.execute(sa.delete(WORKERS).where(WORKERS.c.heartbeat_at < clock.now(-DELETE_AFTER_SECONDS)))
    conn.execute(
        sa.insert(WORKERS).values(
            id=id_,
            loaded_models={model.name: model.version},
            rejected_models={},
            device=device,
            images=0,
            started_at=clock.now(),
            heartbeat_at=clock.now(),
            pid=pid,
            pid_namespace=pid_namespace,
        )
    )


def heartbeat(
    conn: sa.Connection,
    id_: str,
    images: int,
    *,
    has_progress: bool = False,
    batch_sizes: Mapping[str, int] | None = None,
) -> None:
    """Record a worker's heartbeat, the images it has finished since the last one, and whether it makes progress.

    `batch_sizes` holds the maximum size of its next batch of each model.
    """
    values: dict[str, Any] = {"heartbeat_at": clock.now(), "images": WORKERS.c.images + images}
    values |= {} if batch_sizes is None else {"batch_sizes": dict(batch_sizes)}
    if images or has_progress:
        values |= {"last_progress_at": clock.now()}
    conn.execute(sa.update(WORKERS).where(WORKERS.c.id == id_).values(values))


def update_models(
    conn: sa.Connection, id_: str, loaded_models: Mapping[str, str], rejected_models: Mapping[str, str]
) -> None:
    """Record the loaded version of each model, and the rejected versions with the reasons."""
    conn.execute(
        sa.update(WORKERS)
        .where(WORKERS.c.id == id_)
        .values(loaded_models=dict(loaded_models), rejected_models=dict(rejected_models))
    )


def unregister(conn: sa.Connection, id_: str) -> None:
    """Delete a worker that has shut down."""
    conn.execute(sa.delete(WORKERS).where(WORKERS.c.id == id_))


def list_alive(conn: sa.Connection) -> Sequence[sa.Row[Any]]:
    """List the workers with a recent heartbeat.

    `is_progressing` says whether each finishes images, or has none. The difference between `heartbeat_at` and
    `started_at` is how long it has lived at least.
    """
    last_progress = sa.func.coalesce(WORKERS.c.last_progress_at, WORKERS.c.started_at)
    query = sa.select(WORKERS, (last_progress > clock.now(-STALLED_SECONDS)).label("is_progressing"))
    return conn.execute(query.where(IS_ALIVE).order_by(WORKERS.c.started_at)).all()


def list_namespace(conn: sa.Connection, pid_namespace: str) -> Sequence[sa.Row[Any]]:
    """List `id`, `pid` and `heartbeat_at` of the workers of a PID namespace.

    Those without a recent heartbeat are left out, unless they still hold images.
    """
    has_images = WORKERS.c.id.in_(sa.select(IMAGES.c.worker).where(IS_RUNNING))
    query = sa.select(WORKERS.c.id, WORKERS.c.pid, WORKERS.c.heartbeat_at)
    return conn.execute(query.where(WORKERS.c.pid_namespace == pid_namespace, sa.or_(IS_ALIVE, has_images))).all()


def count_running(conn: sa.Connection) -> dict[str, int]:
    """Count the images that each worker holds, by its id."""
    query = sa.select(IMAGES.c.worker, sa.func.count()).where(IS_RUNNING).group_by(IMAGES.c.worker)
    return {worker: count for worker, count in conn.execute(query) if worker is not None}


def count_crashed(conn: sa.Connection) -> int:
    """Count the workers that have started lately, and were lost without having shut down."""
    is_recent = WORKERS.c.started_at > clock.now(-CRASH_WINDOW_SECONDS)
    return int(conn.execute(sa.select(sa.func.count()).select_from(WORKERS).where(is_recent, ~IS_ALIVE)).scalar_one())
