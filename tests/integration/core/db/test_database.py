import socket
import threading
import time

import pytest
import sqlalchemy as sa

from core import errors
from core.db import database
from core.db.queries import workers
from tests.support import factories, servers, waiting

QUICK = sa.text("SELECT 1")


def select(c):
    """The smallest question."""
    return c.execute(QUICK).scalar()


def timed(action):
    """How many seconds an action takes until it says that the database is away."""
    started = time.monotonic()
    with pytest.raises(errors.DatabaseUnavailable) as caught:
        action()
    assert caught.value.detail
    assert "\n" not in caught.value.detail
    return time.monotonic() - started


def test_making_a_database_opens_nothing(tmp_path):
    """Connections open when they are needed."""
    database.Database(f"sqlite:///{tmp_path}/none.db").close()
    database.Database(f"postgresql+psycopg://x@127.0.0.1:{servers.free_port()}/x").close()
    assert list(tmp_path.iterdir()) == []


def test_a_transaction_that_fails_leaves_nothing(db, owner):
    """All of a query, or none of it."""

    def half(c):
        c.execute(sa.delete(factories.JOBS))
        raise errors.NoImages

    id_ = factories.create_job(db, owner, "a")
    with pytest.raises(errors.NoImages):
        db.write(half)
    assert factories.get_job(db, id_).total == 1


def test_sqlite_waits_for_another_writer(sqlite_database_url):
    """A short write by another process is waited for."""
    db = database.Database(sqlite_database_url)
    held = threading.Event()

    def hold(c):
        select(c)
        held.set()
        time.sleep(0.5)

    writer = threading.Thread(target=db.write, args=(hold,))
    writer.start()
    held.wait(50)
    assert db.read(select) == 1  # who reads does not wait
    db.write(select)
    writer.join()
    db.close()


def test_sqlite_that_stays_locked_is_away_within_a_bounded_time(sqlite_database_url):
    """A writer that never ends costs us the patience, and not more; when it does end, all is well."""
    db = database.Database(sqlite_database_url)
    engine = sa.create_engine(sqlite_database_url)
    with engine.connect() as other:
        other.connection.driver_connection.isolation_level = None
        other.exec_driver_sql("BEGIN EXCLUSIVE")
        assert timed(lambda: db.write(select)) < database.SQLITE_BUSY_TIMEOUT_SECONDS + 20
        other.exec_driver_sql("ROLLBACK")
    assert db.write(select) == 1
    engine.dispose()
    db.close()


@pytest.mark.parametrize("where", ["{}/no/such/folder/x.db", "{}", "{}/text.db"])
def test_sqlite_that_cannot_be_opened_is_away(tmp_path, where):
    """No such folder, a folder, a file of something else: one sentence each."""
    (tmp_path / "text.db").write_text("I am a text, not a database. " * 100)
    db = database.Database("sqlite:///" + where.format(tmp_path))
    assert timed(lambda: db.write(select)) < 50
    db.close()


def test_postgres_that_refuses_is_away_at_once():
    """No server listens there."""
    db = database.Database(f"postgresql+psycopg://x@127.0.0.1:{servers.free_port()}/x")
    assert timed(lambda: db.read(select)) < 30
    db.close()


def test_postgres_that_takes_the_call_and_says_nothing_is_away_in_seconds():
    """Frozen, or not PostgreSQL at all."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        db = database.Database(f"postgresql+psycopg://x@127.0.0.1:{silent.getsockname()[1]}/x")
        assert timed(lambda: db.read(select)) < database.CONNECT_TIMEOUT_SECONDS + 20
        db.close()


def test_errors_without_postgres_show_no_password():
    """Errors are logged."""
    db = database.Database(f"postgresql+psycopg://ann:hunter2@127.0.0.1:{servers.free_port()}/x")
    with pytest.raises(errors.DatabaseUnavailable) as caught:
        db.read(select)
    assert "hunter2" not in caught.value.detail
    db.close()


def test_postgres_that_hangs_up_on_everyone_is_found_again(postgres_db):
    """After a restart of the server the pool's old connections are replaced without an error."""
    postgres_db.read(select)
    with postgres_db.engine.connect() as one:
        kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> %s"
        pid = one.connection.driver_connection.info.backend_pid
        other = sa.create_engine(postgres_db.engine.url, isolation_level="AUTOCOMMIT")
        with other.connect() as admin:
            mine = admin.connection.driver_connection.info.backend_pid
            assert pid != mine
            admin.exec_driver_sql(kill, (mine,))
        other.dispose()
        one.invalidate()
    assert [postgres_db.read(select) for _ in range(3)] == [1, 1, 1]


def test_a_connection_that_is_cut_in_the_middle_is_said_to_be_away(postgres_db):
    """A transaction whose outcome is unknown is not retried silently."""

    def cut(c):
        c.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    assert timed(lambda: postgres_db.write(cut)) < 30
    assert postgres_db.read(select) == 1


def test_a_transaction_that_was_frozen_too_long_is_retried(postgres_db, postgres_owner):
    """PostgreSQL has rolled it back and closed the connection: it has its effect once."""
    attempts = []

    def increment(c):
        attempts.append(1)
        c.execute(sa.update(factories.JOBS).values(expired=factories.JOBS.c.expired + 1))
        if len(attempts) == 1:
            c.exec_driver_sql("SET idle_in_transaction_session_timeout = '50ms'")
            sessions = sa.text("SELECT FROM pg_stat_activity WHERE pid = :pid").bindparams(
                pid=c.scalar(sa.func.pg_backend_pid())
            )
            waiting.wait_until(lambda: not postgres_db.read(lambda other: other.execute(sessions).all()))
        return c.execute(sa.select(factories.JOBS.c.expired)).scalar_one()

    id_ = factories.create_job(postgres_db, postgres_owner, "a")

    assert postgres_db.write(increment) == 1
    assert len(attempts) == 2
    assert factories.get_job(postgres_db, id_).expired == 1


def test_a_lock_that_is_held_too_long_is_away_within_a_bounded_time(postgres_db, postgres_owner):
    """A row that stays locked does not block a request without end."""
    id_ = factories.create_job(postgres_db, postgres_owner, "a")
    lock = sa.select(factories.JOBS.c.id).where(factories.JOBS.c.id == id_).with_for_update()
    with postgres_db.engine.connect() as other, other.begin():
        other.execute(lock)
        assert timed(lambda: postgres_db.write(lambda c: c.execute(lock).all())) < database.LOCK_TIMEOUT_SECONDS + 20


def test_a_deadlock_is_tried_again(postgres_db, postgres_owner):
    """Two that wait for each other both get through, and each has its effect once."""
    ids = [factories.create_job(postgres_db, postgres_owner, "a") for _ in range(2)]
    barrier = threading.Barrier(2)
    tries = []

    def cross(c, first, second):
        tries.append(first)
        add = sa.update(factories.JOBS).values(expired=factories.JOBS.c.expired + 1, total=factories.JOBS.c.total + 1)
        c.execute(add.where(factories.JOBS.c.id == first))
        if len(tries) <= 2:
            barrier.wait(50)
        c.execute(add.where(factories.JOBS.c.id == second))

    threads = [threading.Thread(target=postgres_db.write, args=(cross, *pair)) for pair in (ids, ids[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tries) >= 3
    assert [factories.get_job(postgres_db, id_).expired for id_ in ids] == [2, 2]


def test_a_database_without_tables_is_away(tmp_path, postgres_url):
    """Without migration: a sentence, not a stack trace, on both."""
    for url in (f"sqlite:///{tmp_path}/empty.db", postgres_url):
        db = database.Database(url)
        timed(lambda db=db: db.read(workers.list_alive))
        db.close()


def test_a_pool_that_is_used_up_is_away_in_seconds(postgres_db):
    """More requests than connections wait a little, and then say so."""
    taken = [postgres_db.engine.connect() for _ in range(20)]
    assert timed(lambda: postgres_db.read(select)) < database.CONNECT_TIMEOUT_SECONDS + 20
    for connection in taken:
        connection.close()
    assert postgres_db.read(select) == 1


def test_sqlite_writes_ahead_and_minds_its_references(sqlite_database_url):
    """The settings of the connection are those that we mean."""
    db = database.Database(sqlite_database_url)
    ask = lambda c, name: c.exec_driver_sql(f"PRAGMA {name}").scalar()  # noqa: E731 (a question with a name)
    assert (db.read(ask, "journal_mode"), db.read(ask, "foreign_keys")) == ("wal", 1)
    db.close()
