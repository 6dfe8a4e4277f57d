"""Prepared statements, on both databases: values, rows and errors are those of SQLAlchemy."""

import re

import pytest
import sqlalchemy as sa
from sqlalchemy import exc
from uuid_utils import compat as uuids

from core.db import prepared
from core.db.expressions import JOBS, any_of
from tests.support import factories

PLAN = {"sqlite": "QUERY PLAN", "postgresql": ""}
NAMES = ["id", "metadata", "created_at", "finished_at", "total"]
COLUMNS = [JOBS.c[name] for name in NAMES]
GET = prepared.Prepared(sa.select(*COLUMNS).where(any_of(JOBS.c.id, "jobs")).order_by(JOBS.c.id), COLUMNS)
RENAME = prepared.Prepared(sa.update(JOBS).where(JOBS.c.id == sa.bindparam("job")).values(name=sa.bindparam("new")))
CLEAR = prepared.Prepared(sa.update(JOBS).values(name=None, total=7).returning(JOBS.c.id), [JOBS.c.id])
INSERT = prepared.Prepared(sa.insert(JOBS), sets=[column.name for column in JOBS.columns])


def both(db, action):
    """Return what an action returns, run by the driver's cursor and, while statements are observed, by SQLAlchemy."""
    seen = []
    plain = db.write(action)
    sa.event.listen(db.engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
    observed = db.write(action)
    assert seen
    assert plain == observed
    return plain


def test_rows_are_those_of_sqlalchemy(db, owner):
    """JSON, moments with their zone, NULL; of as many rows as the list names, none for an empty one."""
    ids = sorted(factories.create_job(db, owner, "a", metadata={"é": [1, None]}) for _ in range(3))
    query = sa.select(*COLUMNS).where(JOBS.c.id.in_(ids[:2])).order_by(JOBS.c.id)
    expected = [tuple(row) for row in db.read(lambda conn: conn.execute(query).all())]
    assert both(db, lambda conn: GET.execute(conn, {"jobs": ids[:2]})) == expected
    assert db.read(lambda conn: GET.execute(conn, {"jobs": []})) == []


def test_a_list_is_looked_up_by_an_index(db, owner):
    """SQLAlchemy would compare the condition with 1 in SQLite, which then reads the whole table."""
    seen = []
    sa.event.listen(db.engine, "before_cursor_execute", lambda *args: seen.append(args[2:4]))
    db.read(lambda conn: GET.execute(conn, {"jobs": [owner]}))
    statement, parameters = seen[-1]
    rows = db.read(lambda conn: conn.exec_driver_sql(f"EXPLAIN {PLAN[db.dialect_name]} {statement}", parameters).all())
    plan = "\n".join(str(row[-1]) for row in rows)
    assert re.search("pk_jobs|sqlite_autoindex_jobs_1|Seq Scan", plan), plan  # PostgreSQL has an empty table
    assert "SCAN jobs" not in plan


def test_rows_are_inserted_by_one_statement(db, owner):
    """Each with its own values; the rows that it returns are decoded."""
    factories.create_job(db, owner)
    row = db.read(lambda conn: conn.execute(sa.select(JOBS)).one()._asdict())
    news = [{**row, "id": str(uuids.uuid7()), "name": name, "metadata": {"n": name}} for name in "abc"]
    statement = prepared.Prepared(sa.insert(JOBS).returning(*COLUMNS), COLUMNS, sets=list(row))
    seen = []
    returned = db.write(statement.insert_rows, news)
    sa.event.listen(db.engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
    assert sorted(returned) == sorted(tuple(new[name] for name in NAMES) for new in news)
    more = [{**new, "id": str(uuids.uuid7())} for new in news]
    assert len(db.write(statement.insert_rows, more)) == 3
    assert sum("INSERT" in text for text in seen) == 1
    assert [factories.get_job(db, new["id"]).metadata for new in news] == [{"n": name} for name in "abc"]


def test_a_statement_keeps_its_own_values(db, owner):
    """Also if one of them is NULL; many parameters are one statement for each."""
    ids = sorted(factories.create_job(db, owner, "a") for _ in range(2))
    both(db, lambda conn: RENAME.execute_many(conn, [{"job": id_, "new": f"new {id_}"} for id_ in ids]))
    assert [factories.get_job(db, id_).name for id_ in ids] == [f"new {id_}" for id_ in ids]
    assert sorted(both(db, lambda conn: CLEAR.execute(conn, {}))) == [(id_,) for id_ in ids]
    assert [(row.name, row.total) for row in (factories.get_job(db, id_) for id_ in ids)] == [(None, 7)] * 2


def test_a_list_that_is_not_one_parameter_is_rejected(db):
    """Its text would be another one for each length."""
    statement = prepared.Prepared(sa.select(JOBS.c.id).where(JOBS.c.id.in_(["a"])), [JOBS.c.id])
    with pytest.raises(TypeError, match="any_of"):
        db.read(lambda conn: statement.execute(conn, {}))


def test_an_error_is_that_of_sqlalchemy_and_rolls_back(db, owner):
    """So that `database` knows what to retry, and what an outage is."""
    job_id = factories.create_job(db, owner, "a", name="old")
    row = db.read(lambda conn: conn.execute(sa.select(JOBS).where(JOBS.c.id == job_id)).one())

    def rename_and_repeat(conn):
        RENAME.execute(conn, {"job": job_id, "new": "new"})
        INSERT.execute_many(conn, [row._asdict()])

    with pytest.raises(exc.IntegrityError):
        db.write(rename_and_repeat)
    assert factories.get_job(db, job_id).name == "old"
