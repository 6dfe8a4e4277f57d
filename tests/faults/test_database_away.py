"""The database restarted, frozen, deadlocked, locked, full: requests are told so in time, and nothing is half done."""

import signal
import threading
import time

import httpx
import psutil
import pytest
import sqlalchemy as sa

from jobs import database, tables
from jobs.store import listed
from migrations.__main__ import upgrade
from tests.faults import postgres as postgresql
from tests.faults import proxy
from tests.faults.stack import SLACK
from tests.jobs import making


@pytest.fixture
def own(make_stack):
    """A stack with a PostgreSQL server of its own, behind a proxy, that may be hurt: API and a worker run."""
    server = postgresql.Postgres()
    db = database.Database(server.database("own"))
    db.write(upgrade)
    db.close()
    stack = make_stack(server.url("own"))
    stack.server, stack.line = server, proxy.Proxy(server.port)
    stack.settings |= {"database_url": server.url("own", stack.line.port)}
    stack.start_redis()
    stack.start_api()
    stack.start_workers(1)
    yield stack
    stack.close()
    stack.line.close()
    server.close()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
def test_postgres_restarted_under_load(own, how):
    """Row 17: in the middle of claims and commits; requests get a 503 or their job, and every promise is kept."""
    stack = own
    with stack.stream(4) as stream:
        stack.until(lambda: stack.done() > 20, 30, "the first pictures")
        stack.server.stop(how)
        time.sleep(1.5)
        stack.server.start()
        back = time.monotonic()
        stack.until(lambda: stream.answers[-1][0] == 202, 15, "jobs are taken in again")
        print(f"jobs were taken in again {time.monotonic() - back:.1f} s after PostgreSQL was back")
        stack.until(lambda: stack.done() > 60, 30, "work goes on")
    assert stream.statuses() <= {202, 503}
    stack.settle(30)


@pytest.mark.parametrize("how", ["stopped", "frozen", "swallowed"])
def test_postgres_away(own, how):
    """Row 17: every request is told so, in time, with when to try again; then all goes on by itself."""
    stack = own
    with stack.client() as client:
        assert stack.post(client, stack.files(3)).status_code == 202
        stack.until(lambda: stack.done() == 3, 30, "the first pictures")
        {"stopped": stack.server.stop, "frozen": stack.server.freeze, "swallowed": stack.line.swallow}[how]()
        took = []
        for _ in range(6):
            started = time.monotonic()
            answer = stack.post(client, stack.files(2))
            took.append(time.monotonic() - started)
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["Retry-After"]) >= 1
            assert answer.json()["code"] == "database_unavailable"
        print(f"{how}: the 503 came after {', '.join(f'{seconds:.2f}' for seconds in took)} s")
        assert client.get("/livez").status_code == 200
        {"stopped": stack.server.start, "frozen": stack.server.thaw, "swallowed": stack.line.heal}[how]()
        stack.until(lambda: stack.post(client, stack.files(2)).status_code == 202, 15, "jobs are taken in again")
    stack.until(lambda: stack.done() == sum(map(len, stack.accepted.values())), 40, "work goes on")
    stack.settle()


def test_a_commit_of_which_nobody_knows(own):
    """Row 17: the line is cut again and again while jobs are handed in; a repeat under the same key is one job."""
    stack = own
    cutting = threading.Event()

    def cut():
        while not cutting.wait(0.05):
            stack.line.cut()

    thread = threading.Thread(target=cut)
    with stack.client() as client:
        thread.start()
        answers = {}
        for number in range(15):
            files = stack.files(2)
            deadline = time.monotonic() + 20 * SLACK
            while answers.get(number) != 202:
                assert time.monotonic() < deadline
                answers[number] = stack.post(client, files, key=f"key-{number}").status_code
                assert answers[number] in (202, 503)
                cutting.wait(0.02)
        cutting.set()
        thread.join()
    assert len(stack.accepted) == 15
    stack.settle(40)
    assert stack.db.read(lambda c: c.execute(sa.select(sa.func.count()).select_from(making.JOBS)).scalar_one()) == 15


def test_deadlocks_are_not_seen(stack):
    """Row 18: two that lock the same jobs in reversed order, by force, beside workers: tried again, nobody is told."""
    stack.start_workers(2)
    ids = [stack.submit(60) for _ in range(2)]
    other = database.Database(stack.database_url)
    seen = []

    def cross(c, first, second):
        seen.append(first)
        for id_ in (first, second):
            c.execute(sa.select(making.JOBS.c.id).where(making.JOBS.c.id == id_).with_for_update())
            time.sleep(0.02)

    def run(pair):
        while stack.done() < 120:
            other.write(cross, *pair)

    threads = [threading.Thread(target=run, args=(pair,)) for pair in (ids, ids[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    other.close()
    assert seen
    stack.settle(30)
    assert "Traceback" not in "".join(worker.said() for worker in stack.workers)


def test_a_serialization_failure_is_tried_again(stack):
    """Row 18: PostgreSQL asks for another try, and gets it; at most three, then it is said to be away."""
    from jobs import errors

    tries = []

    def fails(c, times):
        tries.append(1)
        if len(tries) <= times:
            c.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$")
        return "done"

    assert stack.db.write(fails, 3) == "done"
    tries.clear()
    with pytest.raises(errors.DatabaseUnavailable):
        stack.db.write(fails, 99)
    assert len(tries) == database.ATTEMPTS


@pytest.mark.parametrize("either", ["sqlite"], indirect=True)
@pytest.mark.parametrize("seconds", [2, 7])
def test_a_sqlite_that_another_program_keeps_locked(either, seconds):
    """Row 19: BEGIN EXCLUSIVE, while four processes work; who waits too long is told so, and nothing breaks."""
    stack = either
    stack.start_api()
    stack.start_workers(3)
    stack.submit(30)
    locker = sa.create_engine(stack.database_url)
    with stack.stream(1) as stream:
        stack.until(lambda: stream.answers and stack.running(), 20, "both ends are at work")
        with locker.connect() as c:
            c.connection.driver_connection.isolation_level = None
            deadline = time.monotonic() + 20 * SLACK
            while True:
                try:
                    c.exec_driver_sql("BEGIN EXCLUSIVE")
                    break
                except sa.exc.OperationalError:
                    assert time.monotonic() < deadline
            time.sleep(seconds)
            c.exec_driver_sql("ROLLBACK")
        count = len(stream.answers)
        stack.until(lambda: len(stream.answers) >= count + 5, 20, "jobs are taken in again")
    locker.dispose()
    assert stream.statuses() <= ({202} if seconds < database.SQLITE_PATIENCE_SECONDS else {202, 503})
    assert stream.slowest(1) < database.SQLITE_PATIENCE_SECONDS + 4
    stack.settle(30)
    with sa.create_engine(stack.database_url, poolclass=sa.NullPool).connect() as c:
        assert c.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


def test_columns_and_indexes_added_under_load(stack):
    """Row 34: a migration that only adds, while old workers and an old API run: nobody notices."""
    stack.start_api()
    stack.start_workers(1)
    changes = (
        "ALTER TABLE images ADD COLUMN note text",
        "ALTER TABLE jobs ADD COLUMN note text NOT NULL DEFAULT 'x'",
        "CREATE INDEX CONCURRENTLY ON images (sha256)",
        "UPDATE alembic_version SET version_num = '0999'",
    )
    with stack.stream(2) as stream:
        stack.until(lambda: stack.done() > 10, 30, "the first pictures")
        engine = sa.create_engine(stack.database_url, isolation_level="AUTOCOMMIT")
        with engine.connect() as c:
            c.exec_driver_sql("SET lock_timeout = '3s'")
            for change in changes:
                c.exec_driver_sql(change)
        engine.dispose()
        count = stack.done()
        stack.until(lambda: stack.done() > count + 10, 30, "work goes on")
    assert stream.statuses() == {202}
    stack.settle(30)
    assert all(worker.alive for worker in stack.workers)


def test_tables_of_a_later_generation(either):
    """Row 34: a migration that an old worker cannot live with: it claims nothing more, says so, and does not end."""
    stack = either
    (worker,) = stack.start_workers(1)
    stack.submit(5)
    stack.settle(30)
    stack.db.write(lambda c: c.execute(sa.text("UPDATE alembic_version SET version_num = '1001'")))
    time.sleep(2)  # a run under way may still claim
    stack.submit(5)
    stack.until(lambda: "1001" in worker.said(), 15, "it says why it does not work")
    time.sleep(1)
    assert worker.alive
    assert stack.done() == 5
    back = sa.text("UPDATE alembic_version SET version_num = :ours")
    stack.db.write(lambda c: c.execute(back, {"ours": tables.REVISION}))
    stack.settle(30)
    assert set(stack.attempts().values()) == {1}


def test_a_worker_that_finds_tables_of_a_later_generation(stack):
    """Row 34: it waits, in case somebody is just migrating them, and ends."""
    stack.db.write(lambda c: c.execute(sa.text("UPDATE alembic_version SET version_num = '1001'")))
    assert stack.start_worker().ended(60) not in (0, None)


def test_a_pool_that_is_used_up_and_slow_clients(stack):
    """Row 36: two hundred that send a byte and wait, and every connection of the pool taken: others are served."""
    import socket

    stack.start_api()
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {stack.key}\r\n"
        "Content-Type: image/png\r\nContent-Length: 100000\r\n\r\nx"
    )
    lines = [socket.create_connection(("127.0.0.1", stack.port), timeout=10) for _ in range(200)]
    try:
        for line in lines:
            line.sendall(head.encode())
        with stack.client() as client:
            for _ in range(10):
                assert stack.post(client, stack.files(2)).status_code == 202
    finally:
        for line in lines:
            line.close()
    with stack.stream(1) as one, stack.stream(1) as two, stack.stream(1) as three:
        streams = (one, two, three)
        stack.until(lambda: all(len(stream.answers) >= 20 for stream in streams), 60, "many at once")
    assert set().union(*(stream.statuses() for stream in streams)) == {202}
    assert psutil.Process(stack.api.pid).is_running()
    stack.start_workers(1)
    stack.settle(60)


def test_a_client_that_hangs_up(stack):
    """Row 36: in the middle of its body, again and again; no job, no thread and no memory is left of it."""
    import socket

    stack.start_api()
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", stack.port), timeout=10) as line:
            line.sendall(
                f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {stack.key}\r\n"
                "Content-Type: image/png\r\nContent-Length: 100000\r\n\r\nabc".encode()
            )
    with stack.client() as client, httpx.Client() as plain:
        assert plain.get(f"http://127.0.0.1:{stack.port}/livez").status_code == 200
        assert client.get("/v1/jobs").json()["jobs"] == []
    assert stack.db.read(listed.page, listed.Filter(), limit=5) == []
