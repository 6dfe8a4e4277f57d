from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa

from core.db import clock, tables


def ask(db, *columns):
    """The answer to one question."""
    return db.read(lambda c: c.execute(sa.select(*columns)).one())


def test_the_clock_is_that_of_the_database_in_utc(db):
    """Near to ours, which on one machine is the same, and with its zone."""
    (now,) = ask(db, clock.now())
    assert now.utcoffset() == timedelta(0)
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=5)


def test_some_seconds_on_is_so_many_seconds_on(db):
    """To the millisecond, backwards too."""
    for seconds in (0, 0.25, 30, 86_400, -15, -0.001, 1e-7, 100_000_000):
        now, then = ask(db, clock.now(), clock.now(seconds))
        assert (then - now).total_seconds() == pytest.approx(seconds, abs=0.05)


def test_moments_of_the_database_compare_with_moments_of_ours(db):
    """A parameter and the clock are of one kind."""
    (now,) = ask(db, clock.now())
    early, late = (sa.literal(now + timedelta(seconds=s), tables.Timestamp()) for s in (-1, 60))
    compared = ask(db, clock.now() > early, clock.now() < late, clock.now(120) > late)
    assert [bool(answer) for answer in compared] == [True, True, True]


def test_a_moment_of_another_zone_is_the_same_moment(db):
    """A timestamp written with an offset is read back in UTC."""
    elsewhere = datetime(2026, 1, 31, 12, 0, 0, 123456, timezone(timedelta(hours=5, minutes=30)))
    (back,) = ask(db, sa.literal(elsewhere, tables.Timestamp()))
    assert back == elsewhere
    assert back.utcoffset() == timedelta(0)


def test_postgres_counts_from_the_statement_and_not_from_the_transaction(postgres_db):
    """A transaction that waited for a lock must not lease in the past."""
    with postgres_db.engine.connect() as c, c.begin():
        first = c.execute(sa.select(clock.now())).scalar()
        c.exec_driver_sql("SELECT pg_sleep(0.2)")
        assert (c.execute(sa.select(clock.now())).scalar() - first).total_seconds() >= 0.2
