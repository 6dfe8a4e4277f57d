import random
from datetime import UTC, datetime, timedelta
from itertools import accumulate

import pytest
import sqlalchemy as sa

from core import enums
from core.db.queries import eta
from tests.integration.core.db.queries.test_query_plans import explained, statements
from tests.support import factories


def look(db):
    """The forecast now."""
    return db.read(eta.estimate_queue)


def test_without_finished_images_there_is_no_estimate(db, owner):
    """A place, but no time."""
    first, second = factories.create_job(db, owner, "a", "b"), factories.create_job(db, owner, "a")
    seen = look(db)
    assert (seen.position(1, first), seen.position(1, second)) == (0, 2)
    assert seen.throughput.eta_seconds(3) is None
    assert seen.throughput.eta_range(3) is None


def test_what_goes_before_is_what_is_left_of_those_served_before(db, owner):
    """By priority, then age; finished images are not ahead of others."""
    bulk = factories.create_job(db, owner, "a", "b", "c")
    later = factories.create_job(db, owner, "d")
    quick = factories.create_job(db, owner, "e", priority=enums.Priority.INTERACTIVE)
    seen = look(db)
    assert (seen.position(0, quick), seen.position(1, bulk), seen.position(1, later)) == (0, 1, 4)
    factories.complete_claims(db, factories.claim_images(db, limit=2))
    assert look(db).position(1, later) == 2


def test_one_that_came_after_the_look_stands_behind_all(db, owner):
    """The forecast of two seconds ago serves it too."""
    factories.create_job(db, owner, "a", "b")
    seen = look(db)
    assert seen.position(1, factories.create_job(db, owner, "c")) == 2


def test_the_rate_is_that_of_the_last_minute(db, owner):
    """Twelve in about no time: at least a second is reckoned, so twelve a second."""
    factories.create_job(db, owner, *map(str, range(12)))
    factories.complete_claims(db, factories.claim_images(db))
    seen = look(db)
    assert 0 < seen.rate <= 12
    assert seen.throughput.eta_seconds(12) == pytest.approx(12 / seen.rate)
    past = sa.update(factories.RESULTS).values(finished_at=sa.text("'2020-01-01 00:00:00'"))
    db.write(lambda c: c.execute(past))
    assert look(db).rate == 0


NOW = datetime(2026, 1, 31, tzinfo=UTC)


def paced(counts):
    """The pace of a minute in which so many were finished in each tenth of it, the latest first."""
    each = [(6 * tenth + 0.6 * (part + 0.9), count / 10) for tenth, count in enumerate(counts) for part in range(10)]
    return eta.Throughput.from_counts([(NOW - timedelta(seconds=ago), count) for ago, count in each], NOW)


def test_a_steady_pace_gives_a_narrow_range_and_an_uneven_one_a_wide_one():
    """Around the estimate; after a long standstill, the upper bound is unknown."""
    even, uneven = paced([60] * 10), paced([90, 30] * 5)
    assert even.rate == uneven.rate == pytest.approx(10, rel=0.2)
    for pace, most in ((even, 0.5), (uneven, 2.0)):
        least, longest = pace.eta_range(6000)
        assert least <= pace.eta_seconds(6000) <= longest
        assert longest - least < most * pace.eta_seconds(6000)
    assert even.eta_range(6000)[1] - even.eta_range(6000)[0] < uneven.eta_range(6000)[1] - uneven.eta_range(6000)[0]
    assert paced([0] * 9 + [600]).eta_range(60)[1] is None


def test_the_longer_it_takes_the_less_chance_has_a_say():
    """In proportion: the range of ten thousand images is narrower than that of a hundred."""
    pace = paced([70, 50, 60, 65, 55, 62, 58, 66, 54, 60])
    widths = [
        (high - low) / pace.eta_seconds(images) for images in (100, 10_000) for low, high in [pace.eta_range(images)]
    ]
    assert widths[0] > widths[1] > 0


def test_the_range_holds_what_comes_nineteen_times_in_twenty():
    """By what it is made for: batches at random moments, a minute seen, and what follows measured."""
    dice = random.Random(7)  # noqa: S311 (nothing secret)
    held = 0
    for _ in range(400):
        gaps = list(accumulate(dice.expovariate(2.0) for _ in range(2000)))  # two batches of 16 a second
        seen = [(NOW - timedelta(seconds=60 - at), 16) for at in gaps if at < 60]
        coming = [at - 60 for at in gaps if at >= 60]
        low, high = eta.Throughput.from_counts(seen, NOW).eta_range(100 * 16)
        held += low <= coming[99] <= high
    assert held / 400 > 0.9


def test_what_was_called_off_was_not_done(db, owner):
    """Cancelling a million images takes no time."""
    from core.db.queries import jobs

    db.write(jobs.cancel, factories.create_job(db, owner, "a", "b"), owner)
    assert look(db).rate == 0


def test_a_look_reads_little(db, owner):
    """The latest results and the open jobs by their indexes, however many there are of others."""
    for n in range(300):
        factories.create_job(db, owner, str(n))
    while claims := factories.claim_images(db):
        factories.complete_claims(db, claims)
    factories.create_job(db, owner, "open")
    db.write(lambda c: c.exec_driver_sql("ANALYZE"))
    plans = [explained(db, *ran) for ran in statements(db, lambda: look(db)) if "SELECT" in ran[0]]
    assert any("ix_jobs_open" in plan for plan in plans)
    assert not any("Seq Scan on jobs" in plan or "SCAN jobs\n" in plan for plan in plans)
