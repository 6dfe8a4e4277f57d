import pytest
import sqlalchemy as sa

from jobs import tables
from jobs.store import forecast
from tests.jobs import making
from tests.jobs.store.test_plans import explained, statements


def look(db):
    """The forecast now."""
    return db.read(forecast.look)


def test_with_nothing_done_nobody_knows(db, owner):
    """A place, but no time."""
    first, second = making.job(db, owner, "a", "b"), making.job(db, owner, "a")
    seen = look(db)
    assert (seen.position(1, first), seen.position(1, second)) == (0, 2)
    assert seen.seconds(2, 1) is None


def test_what_goes_before_is_what_is_left_of_those_served_before(db, owner):
    """By priority, then age; what has ended is no longer before anybody."""
    bulk = making.job(db, owner, "a", "b", "c")
    later = making.job(db, owner, "d")
    quick = making.job(db, owner, "e", priority=tables.Priority.INTERACTIVE)
    seen = look(db)
    assert (seen.position(0, quick), seen.position(1, bulk), seen.position(1, later)) == (0, 1, 4)
    making.finish(db, making.claim(db, limit=2))
    assert look(db).position(1, later) == 2


def test_one_that_came_after_the_look_stands_behind_all(db, owner):
    """The forecast of two seconds ago serves it too."""
    making.job(db, owner, "a", "b")
    seen = look(db)
    assert seen.position(1, making.job(db, owner, "c")) == 2


def test_the_rate_is_that_of_the_last_minute(db, owner):
    """Twelve in about no time: at least a second is reckoned, so twelve a second."""
    making.job(db, owner, *map(str, range(12)))
    making.finish(db, making.claim(db))
    seen = look(db)
    assert 0 < seen.rate <= 12
    assert seen.seconds(6, 6) == pytest.approx(12 / seen.rate)
    past = sa.update(making.RESULTS).values(finished_at=sa.text("'2020-01-01 00:00:00'"))
    db.write(lambda c: c.execute(past))
    assert look(db).rate == 0


def test_what_was_called_off_was_not_done(db, owner):
    """Cancelling a million pictures is no work."""
    from jobs.store import jobs

    db.write(jobs.cancel, making.job(db, owner, "a", "b"), owner)
    assert look(db).rate == 0


def test_a_look_reads_little(db, owner):
    """The latest results and the open jobs by their indexes, however many there are of others."""
    for n in range(300):
        making.job(db, owner, str(n))
    while claims := making.claim(db):
        making.finish(db, claims)
    making.job(db, owner, "open")
    db.write(lambda c: c.exec_driver_sql("ANALYZE"))
    plans = [explained(db, *ran) for ran in statements(db, lambda: look(db)) if "SELECT" in ran[0]]
    assert any("ix_jobs_open" in plan for plan in plans)
    assert not any("Seq Scan on jobs" in plan or "SCAN jobs\n" in plan for plan in plans)
