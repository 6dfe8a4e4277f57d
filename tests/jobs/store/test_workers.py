import sqlalchemy as sa

from jobs import clock, tables
from jobs.store import workers
from tests.jobs import making


def ids(db):
    return [row.id for row in db.read(workers.living)]


def set_back(db, id_, seconds):
    """As if a worker had been seen last so long ago."""
    past = sa.update(workers.WORKERS).where(workers.WORKERS.c.id == id_).values(seen_at=clock.now(-seconds))
    db.write(lambda c: c.execute(past))


def test_a_worker_that_entered_lives_until_it_leaves(db):
    """The table shows who is there, oldest first."""
    db.write(workers.enter, "w1", making.MAKER, "cpu")
    db.write(workers.enter, "w2", making.MAKER, "cpu")
    assert ids(db) == ["w1", "w2"]
    db.write(workers.leave, "w1")
    assert ids(db) == ["w2"]


def test_a_silent_worker_is_taken_for_gone_until_it_shows_life(db):
    """Life is what was shown lately."""
    db.write(workers.enter, "w1", making.MAKER, "cpu")
    set_back(db, "w1", tables.LIFE_SECONDS + 1)
    assert ids(db) == []
    db.write(workers.show_life, "w1", 0)
    assert ids(db) == ["w1"]


def test_progress_is_noted_only_where_there_is_some(db):
    """A worker that idles lives, but gets nothing done."""
    db.write(workers.enter, "w1", making.MAKER, "cpu")
    db.write(workers.show_life, "w1", 0)
    assert db.read(workers.living)[0].progress_at is None
    db.write(workers.show_life, "w1", 5)
    db.write(workers.show_life, "w1", 7)
    (row,) = db.read(workers.living)
    assert row.images == 12
    assert row.progress_at is not None


def test_a_worker_gets_on_while_its_work_moves_or_there_is_none(db):
    """One that has done nothing for long, though it shows life, does not get on; a new one is given time."""
    db.write(workers.enter, "w1", making.MAKER, "cpu")
    gets_on = lambda: [row.gets_on for row in db.read(workers.living)]  # noqa: E731 (a question with a name)
    assert gets_on() == [True]
    long_ago = workers.clock.now(-workers.STILL_SECONDS - 5)
    still = sa.update(workers.WORKERS).values(started_at=long_ago, progress_at=long_ago)
    db.write(lambda c: c.execute(still))
    db.write(workers.show_life, "w1", 0)
    assert gets_on() == [False]
    db.write(workers.show_life, "w1", 0, moves=True)
    assert gets_on() == [True]


def test_those_gone_for_a_day_are_forgotten_when_another_enters(db):
    """The table does not grow for ever."""
    for name in ("old", "recent"):
        db.write(workers.enter, name, making.MAKER, "cpu")
    set_back(db, "old", workers.FORGET_SECONDS + 1)
    set_back(db, "recent", 3600)
    db.write(workers.enter, "new", making.MAKER, "cpu")
    left = db.read(lambda c: c.execute(sa.select(workers.WORKERS.c.id)).scalars().all())
    assert set(left) == {"recent", "new"}
