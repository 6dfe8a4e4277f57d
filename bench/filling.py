"""Filling: a database gets millions of finished images, by a handful of set-based statements.

Half of the jobs are the admin's, half somebody else's; jobs have eight images, but the first, which has the first 15 %.
One image in eight has failed, so that every filter of the admin's lists still has a thousandth page at a million rows.
"""

import math
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from jobs import tables

STEP = 1_000_000  # rows for one transaction
JOB = 8  # images of one job
ORDERED = 9  # every image whose number this divides has the same identifier; of the others, half have their own
FAILS = 8  # every image whose number this divides
GIANT = 0.15  # of all images are in one job
MODEL = "sushi-or-sandwich"
DAYS = 30  # over which the results are spread
BYTES = {"sqlite": 1_100, "postgresql": 1_000}  # of one image with its result, its share of a job and the indexes


@dataclass(frozen=True)
class _Words:
    """What the dialects spell in their own way, as SQL in which `n` is the number of a row."""

    series: str
    uuid: str
    ago: str
    false: str

    def id(self, number: str) -> str:
        """An id that sorts as the number does, and before all that are made from now on."""
        return self.uuid.format(number)


WORDS = {
    "sqlite": _Words(
        "(WITH RECURSIVE s(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM s WHERE n < :last) SELECT n FROM s) AS s",
        "('01800000-0000-7000-8000-' || printf('%012x', {}))",
        "strftime('%Y-%m-%d %H:%M:%f000', 'now', '-' || ({}) || ' seconds')",
        "0",
    ),
    "postgresql": _Words(
        "generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS s(n)",
        "('01800000-0000-7000-8000-' || lpad(to_hex({}), 12, '0'))::uuid",
        "now() - make_interval(secs => {})",
        "false",
    ),
}


def need(dialect: str, rows: int) -> int:
    """The bytes of disk that so many rows take, about."""
    return rows * BYTES[dialect]


def fill(engine: sa.Engine, rows: int, owners: tuple[str, str]) -> None:
    """Put `rows` images with their results into empty tables, and let the database look at them.

    Args:
        engine: of a migrated database.
        rows: how many.
        owners: the ids of two keys, who own the jobs by turns.
    """
    if not rows:
        return
    words = WORDS[engine.dialect.name]
    giant = max(1, int(rows * GIANT))
    jobs = 1 + math.ceil((rows - giant) / JOB)
    job_of = f"CASE WHEN n <= {giant} THEN 0 ELSE 1 + (n - {giant} - 1) / {JOB} END"
    begin = f"CASE WHEN n = 0 THEN 0 ELSE {giant} + {JOB} * (n - 1) END"
    end = f"CASE WHEN n = {jobs - 1} THEN {rows} ELSE {giant} + {JOB} * n END"
    ago = words.ago.format(f"{DAYS} * 86400.0 * (1 - n * 1.0 / {rows})")
    ago_job = words.ago.format(f"{DAYS} * 86400.0 * (1 - ({begin}) * 1.0 / {rows})")
    _insert(engine, tables.Job, words, (0, jobs - 1), _jobs(words, ago_job, begin, end, owners))
    _insert(engine, tables.Image, words, (1, rows), _images(words, words.id(job_of)))
    _insert(engine, tables.Result, words, (1, rows), _results(words, words.id(job_of), ago))
    _count_on(engine)
    settle(engine)


def _jobs(words: _Words, ago: str, begin: str, end: str, owners: tuple[str, str]) -> dict[str, str]:
    """Jobs: the images of each are those after `begin`, up to `end`."""
    total, failed = f"({end}) - ({begin})", f"(({end}) / {FAILS} - ({begin}) / {FAILS})"
    return {
        "id": words.id("n"),
        "owner": f"CASE WHEN n % 2 = 0 THEN {_quoted(words, owners[0])} ELSE {_quoted(words, owners[1])} END",
        "model": f"'{MODEL}'",
        "metadata": "'{}'",
        "total": total,
        "done": f"{total} - {failed}",
        "failed": failed,
        "idempotency_key": "NULL",
        "cancelled_at": "NULL",
        "priority": str(tables.Priority.BULK.value),
        **dict.fromkeys(("created_at", "sealed_at", "started_at", "finished_at"), ago),
    }


def _images(words: _Words, job: str) -> dict[str, str]:
    digest = "printf('%064x', n)" if words is WORDS["sqlite"] else "lpad(to_hex(n), 64, '0')"
    return {
        "id": "n",
        "job_id": job,
        "name": "'holiday/IMG_' || (100000000 + n) || '.jpg'",
        "custom_id": f"CASE WHEN n % {ORDERED} = 0 THEN 'order-4711' WHEN n % 2 = 0 THEN 'order-' || (10000 + n) END",
        "sha256": digest,
        "bytes": "100000",
        "model": f"'{MODEL}'",
        "priority": str(tables.Priority.BULK.value),
        "status": f"CASE WHEN n % {FAILS} = 0 THEN 'failed' ELSE 'done' END",
        "attempt": "1",
        "worker": "'host:4711:abcdef'",
    }


def _results(words: _Words, job: str, ago: str) -> dict[str, str]:
    failed, confidence = f"n % {FAILS} = 0", "0.5 + (n * 7919 % 5000) / 10000.0"
    label = "CASE WHEN n * 31 % 7 < 3 THEN 'sushi' ELSE 'sandwich' END"
    json = "::jsonb" if words is WORDS["postgresql"] else ""
    return {
        "image_id": "n",
        "job_id": job,
        "status": f"CASE WHEN {failed} THEN 'failed' ELSE 'done' END",
        "label": f"CASE WHEN {failed} THEN NULL ELSE {label} END",
        "confidence": f"CASE WHEN {failed} THEN NULL ELSE {confidence} END",
        "scores": f'CASE WHEN {failed} THEN NULL ELSE \'{{"sandwich": 0.2512, "sushi": 0.7488}}\'{json} END',
        "error_code": f"CASE WHEN {failed} THEN 'undecodable' END",
        "error_detail": f"CASE WHEN {failed} THEN 'The picture is damaged and cannot be decoded.' END",
        "model": f"'{MODEL}'",
        "model_version": "'1'",
        "model_digest": "'f30705175f417080cccb0450db726422910a3a88e02a2ad394444fd3a30c1b2a'",
        "cached": words.false,
        "timings": '\'{"decode_ms": 1.234, "forward_ms": 12.345, "batch": 64}\'' + json,
        "finished_at": ago,
    }


def _insert(engine: sa.Engine, entity: Any, words: _Words, span: tuple[int, int], values: dict[str, str]) -> None:
    table: sa.Table = entity.__table__
    known = {name: sql for name, sql in values.items() if name in table.c}
    columns = known | {column.name: _plain(column, words) for column in table.c if column.name not in known}
    sql = f"INSERT INTO {table.name} ({', '.join(columns)}) SELECT {', '.join(columns.values())} FROM {words.series}"  # noqa: S608 (all of it is written here)
    for first in range(span[0], span[1] + 1, STEP):
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(sa.text("SET LOCAL session_replication_role = replica"))  # no foreign key is asked
            connection.execute(sa.text(sql), {"first": first, "last": min(first + STEP - 1, span[1])})


def _plain(column: "sa.Column[Any]", words: _Words) -> str:
    """A value for a column that this file does not know: nothing, or what means nothing."""
    if column.nullable:
        return "NULL"
    kind = column.type.python_type
    return {int: "0", float: "0", bool: words.false, str: "''", dict: "'{}'"}.get(kind, words.ago.format("0"))


def _quoted(words: _Words, id_: str) -> str:
    return f"'{id_}'::uuid" if words is WORDS["postgresql"] else f"'{id_}'"


def _count_on(engine: sa.Engine) -> None:
    """Let PostgreSQL number on from here; SQLite does by itself."""
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(
                sa.text("SELECT setval(pg_get_serial_sequence('images', 'id'), (SELECT max(id) FROM images))")
            )


def settle(engine: sa.Engine) -> None:
    """What autovacuum would have done by now; for SQLite, the write-ahead log is folded in."""
    vacuum = "VACUUM ANALYZE" if engine.dialect.name == "postgresql" else "PRAGMA wal_checkpoint(TRUNCATE)"
    raw = engine.raw_connection()
    try:
        if engine.dialect.name == "postgresql":
            raw.dbapi_connection.autocommit = True  # type: ignore[union-attr]  # psycopg's own
        raw.cursor().execute(vacuum)
    finally:
        raw.close()
        engine.dispose()
