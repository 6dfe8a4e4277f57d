"""Workers: which ones live, and when each last got something done."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from jobs import clock, tables
from jobs.store import schema, work
from jobs.store.sql import WORKERS

STILL_SECONDS = 30.0  # one that gets nothing done for so long, while pictures wait, does not get on
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
            serves={maker.name: maker.version},
            refuses={},
            device=device,
            images=0,
            started_at=clock.now(),
            seen_at=clock.now(),
        )
    )


def show_life(
    c: sa.Connection, id_: str, images: int, *, moves: bool = False, batch_sizes: Mapping[str, int] | None = None
) -> None:
    """Note that a worker lives, how many images it has finished since it last did so, and whether it gets on at all.

    `batch_sizes` tells how many images its next batch of each model may have.
    """
    values: dict[str, Any] = {"seen_at": clock.now(), "images": WORKERS.c.images + images}
    values |= {} if batch_sizes is None else {"batch_sizes": dict(batch_sizes)}
    if images or moves:
        values |= {"progress_at": clock.now()}
    c.execute(sa.update(WORKERS).where(WORKERS.c.id == id_).values(values))


def note_models(c: sa.Connection, id_: str, serves: Mapping[str, str], refuses: Mapping[str, str]) -> None:
    """Note the version of each model that a worker answers with, and what it cannot serve, with the reason."""
    c.execute(sa.update(WORKERS).where(WORKERS.c.id == id_).values(serves=dict(serves), refuses=dict(refuses)))


def leave(c: sa.Connection, id_: str) -> None:
    """Strike a worker that has ended well."""
    c.execute(sa.delete(WORKERS).where(WORKERS.c.id == id_))


def living(c: sa.Connection) -> Sequence[sa.Row[Any]]:
    """The workers that have shown life lately; `gets_on` says of each whether its work moves, or there is none."""
    moved = sa.func.coalesce(WORKERS.c.progress_at, WORKERS.c.started_at)
    query = sa.select(WORKERS, (moved > clock.now(-STILL_SECONDS)).label("gets_on"))
    query = query.where(WORKERS.c.seen_at > clock.now(-tables.LIFE_SECONDS))
    return c.execute(query.order_by(WORKERS.c.started_at)).all()
