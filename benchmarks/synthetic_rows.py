"""Synthetic rows: fill a database with millions of finished images, by a few set-based statements.

Half of the jobs belong to the admin, half to another key. Jobs have eight images, except the first one, which has 15 %
of all. One image in eight has failed, so that each filter of the admin's lists has a page 1,000 at a million rows.
"""

import math
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from core import enums
from core.db import tables

ROWS_PER_TRANSACTION = 1_000_000
IMAGES_PER_JOB = 8
SHARED_CUSTOM_ID_EVERY = 9  # each 9th image has the same custom_id; half of the others have their own
FAILED_EVERY = 8  # each 8th image has failed
GIANT_JOB_SHARE = 0.15  # of all images are in one job
MODEL = "sushi-or-sandwich"
SPREAD_DAYS = 30  # over which the results are spread
# Disk space of one image with its result, its share of a job, and their index entries.
BYTES_PER_ROW = {"sqlite": 1_300, "postgresql": 1_200}


@dataclass(frozen=True)
class _DialectSql:
    """SQL fragments that differ between dialects; `n` is the number of a row."""

    series: str
    uuid: str
    seconds_ago: str
    false: str

    def id(self, number: str) -> str:
        """Return SQL for an id that sorts by number, and before all ids generated now."""
        return self.uuid.format(number)


DIALECT_SQL = {
    "sqlite": _DialectSql(
        "(WITH RECURSIVE s(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM s WHERE n < :last) SELECT n FROM s) AS s",
        "('01800000-0000-7000-8000-' || printf('%012x', {}))",
        "strftime('%Y-%m-%d %H:%M:%f000', 'now', '-' || ({}) || ' seconds')",
        "0",
    ),
    "postgresql": _DialectSql(
        "generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS s(n)",
        "('01800000-0000-7000-8000-' || lpad(to_hex({}), 12, '0'))::uuid",
        "now() - make_interval(secs => {})",
        "false",
    ),
}


def required_bytes(dialect: str, rows: int) -> int:
    """Return the approximate disk space of `rows` rows."""
    return rows * BYTES_PER_ROW[dialect]


def fill(engine: sa.Engine, rows: int, owners: tuple[str, str]) -> None:
    """Insert `rows` images with their results into empty tables, then vacuum and analyze.

    Args:
        engine: engine of a migrated database.
        rows: number of images.
        owners: ids of two API keys, which own the jobs in turn.
    """
    if not rows:
        return
    dialect = DIALECT_SQL[engine.dialect.name]
    giant_size = max(1, int(rows * GIANT_JOB_SHARE))
    job_count = 1 + math.ceil((rows - giant_size) / IMAGES_PER_JOB)
    job_of = f"CASE WHEN n <= {giant_size} THEN 0 ELSE 1 + (n - {giant_size} - 1) / {IMAGES_PER_JOB} END"
    first_image = f"CASE WHEN n = 0 THEN 0 ELSE {giant_size} + {IMAGES_PER_JOB} * (n - 1) END"
    last_image = f"CASE WHEN n = {job_count - 1} THEN {rows} ELSE {giant_size} + {IMAGES_PER_JOB} * n END"
    result_time = dialect.seconds_ago.format(f"{SPREAD_DAYS} * 86400.0 * (1 - n * 1.0 / {rows})")
    job_time = dialect.seconds_ago.format(f"{SPREAD_DAYS} * 86400.0 * (1 - ({first_image}) * 1.0 / {rows})")
    _insert_rows(
        engine,
        tables.Job,
        dialect,
        (0, job_count - 1),
        _job_columns(dialect, job_time, first_image, last_image, owners),
    )
    _insert_rows(engine, tables.Image, dialect, (1, rows), _image_columns(dialect, job_of, owners))
    _insert_rows(engine, tables.Result, dialect, (1, rows), _result_columns(dialect, dialect.id(job_of), result_time))
    _advance_sequence(engine)
    vacuum(engine)


def _job_columns(
    dialect: _DialectSql, job_time: str, first_image: str, last_image: str, owners: tuple[str, str]
) -> dict[str, str]:
    """Return SQL for the columns of `jobs`; a job's images are those after `first_image`, up to `last_image`."""
    quoted = [_quote_id(dialect, owner) for owner in owners]
    total, failed = (
        f"({last_image}) - ({first_image})",
        f"(({last_image}) / {FAILED_EVERY} - ({first_image}) / {FAILED_EVERY})",
    )
    return {
        "id": dialect.id("n"),
        "api_key_id": f"CASE n % 2 WHEN 0 THEN {quoted[0]} ELSE {quoted[1]} END",
        "model": f"'{MODEL}'",
        "name": "CASE n % 2 WHEN 0 THEN 'Holiday ' || n END",
        "metadata": "'{}'",
        "total": total,
        "done": f"{total} - {failed}",
        "failed": failed,
        "idempotency_key": "NULL",
        "cancelled_at": "NULL",
        "priority": str(enums.Priority.BULK.value),
        **dict.fromkeys(("created_at", "sealed_at", "started_at", "finished_at"), job_time),
    }


def _image_columns(dialect: _DialectSql, job: str, owners: tuple[str, str]) -> dict[str, str]:
    quoted = [_quote_id(dialect, owner) for owner in owners]
    digest = "printf('%064x', n)" if dialect is DIALECT_SQL["sqlite"] else "lpad(to_hex(n), 64, '0')"
    return {
        "id": "n",
        "job_id": dialect.id(job),
        "api_key_id": f"CASE ({job}) % 2 WHEN 0 THEN {quoted[0]} ELSE {quoted[1]} END",
        "name": "'holiday/IMG_' || (100000000 + n) || '.jpg'",
        "custom_id": (
            f"CASE WHEN n % {SHARED_CUSTOM_ID_EVERY} = 0 THEN 'order-4711' "
            "WHEN n % 2 = 0 THEN 'order-' || (10000 + n) END"
        ),
        "sha256": digest,
        "bytes": "100000",
        "model_name": f"'{MODEL}'",
        "priority": str(enums.Priority.BULK.value),
        "status": f"CASE WHEN n % {FAILED_EVERY} = 0 THEN 'failed' ELSE 'done' END",
        "attempt": "1",
        "worker": "'host:4711:abcdef'",
    }


def _result_columns(dialect: _DialectSql, job: str, result_time: str) -> dict[str, str]:
    failed, confidence = f"n % {FAILED_EVERY} = 0", "0.5 + (n * 7919 % 5000) / 10000.0"
    label = "CASE WHEN n * 31 % 7 < 3 THEN 'sushi' ELSE 'sandwich' END"
    json_cast = "::jsonb" if dialect is DIALECT_SQL["postgresql"] else ""
    return {
        "image_id": "n",
        "job_id": job,
        "status": f"CASE WHEN {failed} THEN 'failed' ELSE 'done' END",
        "label": f"CASE WHEN {failed} THEN NULL ELSE {label} END",
        "confidence": f"CASE WHEN {failed} THEN NULL ELSE {confidence} END",
        "familiarity": f"CASE WHEN {failed} THEN NULL ELSE (n * 104729 % 10000) / 10000.0 END",
        "scores": f'CASE WHEN {failed} THEN NULL ELSE \'{{"sandwich": 0.2512, "sushi": 0.7488}}\'{json_cast} END',
        "error_code": f"CASE WHEN {failed} THEN 'undecodable' END",
        "error_detail": f"CASE WHEN {failed} THEN 'The image is damaged and cannot be decoded.' END",
        "model_name": f"'{MODEL}'",
        "model_version": "'1'",
        "model_digest": "'f30705175f417080cccb0450db726422910a3a88e02a2ad394444fd3a30c1b2a'",
        "cached": dialect.false,
        "timings": '\'{"decode_ms": 1.234, "forward_ms": 12.345, "batch": 64}\'' + json_cast,
        "finished_at": result_time,
    }


def _insert_rows(
    engine: sa.Engine, entity: Any, dialect: _DialectSql, row_range: tuple[int, int], values: dict[str, str]
) -> None:
    table: sa.Table = entity.__table__
    known = {name: sql for name, sql in values.items() if name in table.c}
    columns = known | {column.name: _default_value(column, dialect) for column in table.c if column.name not in known}
    sql = f"INSERT INTO {table.name} ({', '.join(columns)}) SELECT {', '.join(columns.values())} FROM {dialect.series}"  # noqa: S608 (no part of it comes from outside this file)
    for first in range(row_range[0], row_range[1] + 1, ROWS_PER_TRANSACTION):
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(sa.text("SET LOCAL session_replication_role = replica"))  # skip foreign key checks
            connection.execute(
                sa.text(sql), {"first": first, "last": min(first + ROWS_PER_TRANSACTION - 1, row_range[1])}
            )


def _default_value(column: "sa.Column[Any]", dialect: _DialectSql) -> str:
    """Return a neutral value for a column that this file does not fill."""
    if column.nullable:
        return "NULL"
    python_type = column.type.python_type
    return {int: "0", float: "0", bool: dialect.false, str: "''", dict: "'{}'"}.get(
        python_type, dialect.seconds_ago.format("0")
    )


def _quote_id(dialect: _DialectSql, id_: str) -> str:
    return f"'{id_}'::uuid" if dialect is DIALECT_SQL["postgresql"] else f"'{id_}'"


def _advance_sequence(engine: sa.Engine) -> None:
    """Advance PostgreSQL's sequence past the inserted ids; SQLite needs no help."""
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(
                sa.text("SELECT setval(pg_get_serial_sequence('images', 'id'), (SELECT max(id) FROM images))")
            )


def vacuum(engine: sa.Engine) -> None:
    """Vacuum and analyze PostgreSQL, as autovacuum would; checkpoint SQLite's write-ahead log."""
    statement_sql = "VACUUM ANALYZE" if engine.dialect.name == "postgresql" else "PRAGMA wal_checkpoint(TRUNCATE)"
    raw_connection = engine.raw_connection()
    try:
        if engine.dialect.name == "postgresql":
            raw_connection.dbapi_connection.autocommit = True  # type: ignore[union-attr]  # psycopg's own
        raw_connection.cursor().execute(statement_sql)
    finally:
        raw_connection.close()
        engine.dispose()
