import sqlalchemy as sa

from core.db import clock, tables
from core.db.queries import workers
from tests.support import factories


def ids(db):
    return [row.id for row in db.read(workers.list_alive)]


def set_back(db, id_, seconds):
    """As if a worker had been seen last so long ago."""
    past = sa.update(workers.WORKERS).where(workers.WORKERS.c.id == id_).values(heartbeat_at=clock.now(-seconds))
    db.write(lambda c: c.execute(past))


def test_a_worker_that_entered_lives_until_it_leaves(db):
    """The table shows who is there, oldest first."""
    db.write(workers.register, "w1", factories.MODEL_REF, "cpu")
    db.write(workers.register, "w2", factories.MODEL_REF, "cpu")
    assert ids(db) == ["w1", "w2"]
    db.write(workers.unregister, "w1")
    assert ids(db) == ["w2"]


def test_a_silent_worker_is_taken_for_gone_until_it_shows_life(db):
    """Life is what was shown lately."""
    db.write(workers.register, "w1", factories.MODEL_REF, "cpu")
    set_back(db, "w1", tables.WORKER_TTL_SECONDS + 1)
    assert ids(db) == []
    db.write(workers.heartbeat, "w1", 0)
    assert ids(db) == ["w1"]


def test_progress_is_noted_only_where_there_is_some(db):
    """A worker that idles lives, but gets nothing done."""
    db.write(workers.register, "w1", factories.MODEL_REF, "cpu")
    db.write(workers.heartbeat, "w1", 0)
    assert db.read(workers.list_alive)[0].last_progress_at is None
    db.write(workers.heartbeat, "w1", 5)
    db.write(workers.heartbeat, "w1", 7)
    (row,) = db.read(workers.list_alive)
    assert row.images == 12
    assert row.last_progress_at is not None


def test_a_worker_gets_on_while_its_work_moves_or_there_is_none(db):
    """One that has done nothing for long, though it shows life, does not get on; a new one is given time."""
    db.write(workers.register, "w1", factories.MODEL_REF, "cpu")
    is_progressing = lambda: [row.is_progressing for row in db.read(workers.list_alive)]  # noqa: E731 (a question with a name)
    assert is_progressing() == [True]
    long_ago = workers.clock.now(-workers.STALLED_SECONDS - 5)
    still = sa.update(workers.WORKERS).values(started_at=long_ago, last_progress_at=long_ago)
    db.write(lambda c: c.execute(still))
    db.write(workers.heartbeat, "w1", 0)
    assert is_progressing() == [False]
    db.write(workers.heartbeat, "w1", 0, has_progress=True)
    assert is_progressing() == [True]


def test_those_gone_for_a_day_are_forgotten_when_another_enters(db):
    """The table does not grow for ever."""
    for name in ("old", "recent"):
        db.write(workers.register, name, factories.MODEL_REF, "cpu")
    set_back(db, "old", workers.DELETE_AFTER_SECONDS + 1)
    set_back(db, "recent", 3600)
    db.write(workers.register, "new", factories.MODEL_REF, "cpu")
    left = db.read(lambda c: c.execute(sa.select(workers.WORKERS.c.id)).scalars().all())
    assert set(left) == {"recent", "new"}


def test_the_images_that_a_worker_holds_are_counted(db, owner):
    """Not those that wait."""
    factories.create_job(db, owner, *"abc")
    held = factories.claim_images(db, limit=2)
    assert db.read(workers.count_running) == {held[0].worker: 2}


def test_the_processes_of_one_namespace_are_listed(db, owner):
    """Not those of others, of workers that have stored none, and of those long gone, unless they hold images."""
    for id_, namespace in (("a", "here"), ("b", "here"), ("c", "elsewhere"), ("d", None), ("e", "here")):
        db.write(workers.register, id_, factories.MODEL_REF, "cpu", pid=7, pid_namespace=namespace)
    for gone in "be":
        set_back(db, gone, tables.WORKER_TTL_SECONDS + 1)
    factories.create_job(db, owner, "image")
    factories.claim_images(db, worker="e")
    rows = db.read(workers.list_namespace, "here")
    assert sorted((row.id, row.pid) for row in rows) == [("a", 7), ("e", 7)]
