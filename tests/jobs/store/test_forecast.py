import random
from datetime import UTC, datetime, timedelta
from itertools import accumulate

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
    assert seen.pace.seconds(3) is None
    assert seen.pace.range(3) is None


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
    assert seen.pace.seconds(12) == pytest.approx(12 / seen.rate)
    past = sa.update(making.RESULTS).values(finished_at=sa.text("'2020-01-01 00:00:00'"))
    db.write(lambda c: c.execute(past))
    assert look(db).rate == 0


NOW = datetime(2026, 1, 31, tzinfo=UTC)


def paced(counts):
    """The pace of a minute in which so many were finished in each tenth of it, the latest first."""
    each = [(6 * tenth + 0.6 * (part + 0.9), count / 10) for tenth, count in enumerate(counts) for part in range(10)]
    return forecast.Pace.of([(NOW - timedelta(seconds=ago), count) for ago, count in each], NOW)


def test_a_steady_pace_gives_a_narrow_range_and_an_uneven_one_a_wide_one():
    """Around the estimate; and where it stood still for long, nobody knows how long it will take."""
    even, uneven = paced([60] * 10), paced([90, 30] * 5)
    assert even.rate == uneven.rate == pytest.approx(10, rel=0.2)
    for pace, most in ((even, 0.5), (uneven, 2.0)):
        least, longest = pace.range(6000)
        assert least <= pace.seconds(6000) <= longest
        assert longest - least < most * pace.seconds(6000)
    assert even.range(6000)[1] - even.range(6000)[0] < uneven.range(6000)[1] - uneven.range(6000)[0]
    assert paced([0] * 9 + [600]).range(60)[1] is None


def test_the_longer_it_takes_the_less_chance_has_a_say():
    """In proportion: ten thousand pictures are told more exactly than a hundred."""
    pace = paced([70, 50, 60, 65, 55, 62, 58, 66, 54, 60])
    widths = [(high - low) / pace.seconds(images) for images in (100, 10_000) for low, high in [pace.range(images)]]
    assert widths[0] > widths[1] > 0


def test_the_range_holds_what_comes_nineteen_times_in_twenty():
    """By what it is made for: batches at random moments, a minute seen, and what follows measured."""
    dice = random.Random(7)  # noqa: S311 (nothing secret)
    held = 0
    for _ in range(400):
        gaps = list(accumulate(dice.expovariate(2.0) for _ in range(2000)))  # two batches of 16 a second
        seen = [(NOW - timedelta(seconds=60 - at), 16) for at in gaps if at < 60]
        coming = [at - 60 for at in gaps if at >= 60]
        low, high = forecast.Pace.of(seen, NOW).range(100 * 16)
        held += low <= coming[99] <= high
    assert held / 400 > 0.9


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
