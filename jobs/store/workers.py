"""Workers: which ones live, and when each last got something done."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from jobs import clock, tables
from jobs.store import schema, work

WORKERS: Any = tables.Worker.__table__
LIFE_SECONDS = 15.0  # a worker shows life every few seconds; after so long without, it is taken for gone
FORGET_SECONDS = 86_400.0


def enter(c: sa.Connection, id_: str, maker: work.Maker, device: str) -> None:
    """Enter a worker that has its model loaded, and forget those gone for a day.

    Raises:
        errors.DatabaseUnavailable: the tables are older than this program.
    """
    schema.check(c)
    c.execute(sa.delete(WORKERS).where(WORKERS.c.seen_at < clock.now(-FORGET_SECONDS)))
    c.execute(
        sa.insert(WORKERS).values(
            id=id_,
            model=maker.name,
            model_version=maker.version,
            model_digest=maker.digest,
            device=device,
            images=0,
            started_at=clock.now(),
            seen_at=clock.now(),
        )
    )


def show_life(c: sa.Connection, id_: str, images: int) -> None:
    """Note that a worker lives, and how many images it has finished since it last did so."""
    values: dict[str, Any] = {"seen_at": clock.now()}
    if images:
        values |= {"images": WORKERS.c.images + images, "progress_at": clock.now()}
    c.execute(sa.update(WORKERS).where(WORKERS.c.id == id_).values(values))


def leave(c: sa.Connection, id_: str) -> None:
    """Strike a worker that has ended well."""
    c.execute(sa.delete(WORKERS).where(WORKERS.c.id == id_))


def living(c: sa.Connection) -> Sequence[sa.Row[Any]]:
    """The workers that have shown life lately."""
    query = sa.select(WORKERS).where(WORKERS.c.seen_at > clock.now(-LIFE_SECONDS))
    return c.execute(query.order_by(WORKERS.c.started_at)).all()
