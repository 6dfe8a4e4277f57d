"""The database restarted, frozen, deadlocked, locked: requests fail in time, and nothing is half done."""

import contextlib
import signal
import threading
import time

import httpx
import psutil
import pytest
import sqlalchemy as sa

from core import errors
from core.db import database, tables
from core.db.queries import job_lists
from migrations.__main__ import upgrade
from tests.faults import postgres_server as postgresql
from tests.faults import tcp_proxy
from tests.faults.stack import TIMEOUT_FACTOR
from tests.support import factories


@pytest.fixture
def proxied_postgres_stack(make_stack):
    """Start an API and a worker on a PostgreSQL server of their own, behind a proxy."""
    server = postgresql.Postgres()
    db = database.Database(server.database("own"))
    db.write(upgrade)
    db.close()
    stack = make_stack(server.url("own"))
    stack.server, stack.database_proxy = server, tcp_proxy.Proxy(server.port)
    # An attempt ends with its connection, and connections are cut often.
    stack.settings |= {"database_url": server.url("own", stack.database_proxy.port), "max_attempts": 10}
    stack.start_redis()
    stack.start_api()
    stack.start_workers(1)
    yield stack
    stack.close()
    stack.database_proxy.close()
    server.close()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
def test_postgres_restarted_under_load(proxied_postgres_stack, how):
    """Row 17: in the middle of claims and commits; requests get a 503 or a job, and no accepted image is lost."""
    stack = proxied_postgres_stack
    with stack.submission_stream(4) as stream:
        stack.wait_until(lambda: stack.finished_count() > 20, 30, "the first images")
        stack.server.stop(how)
        time.sleep(1.5)
        stack.server.start()
        back = time.monotonic()
        stack.wait_until(lambda: stream.responses[-1][0] == 202, 15, "jobs are accepted again")
        print(f"jobs were accepted again {time.monotonic() - back:.1f} s after PostgreSQL was back")
        stack.wait_until(lambda: stack.finished_count() > 60, 30, "work goes on")
    assert stream.statuses() <= {202, 503}
    stack.wait_until_settled(30)


@pytest.mark.parametrize("how", ["stopped", "frozen", "swallowed"])
def test_postgres_away(proxied_postgres_stack, how):
    """Row 17: every request gets a 503 with Retry-After in time; afterwards work goes on by itself."""
    stack = proxied_postgres_stack
    with stack.client() as client:
        assert stack.post(client, stack.new_files(3)).status_code == 202
        stack.wait_until(lambda: stack.finished_count() == 3, 30, "the first images")
        {"stopped": stack.server.stop, "frozen": stack.server.freeze, "swallowed": stack.database_proxy.blackhole}[
            how
        ]()
        latencies = []
        for _ in range(6):
            started = time.monotonic()
            response = stack.post(client, stack.new_files(2))
            latencies.append(time.monotonic() - started)
            assert response.status_code == 503, response.text
            assert int(response.headers["Retry-After"]) >= 1
            assert response.json()["code"] == "database_unavailable"
        print(f"{how}: the 503 came after {', '.join(f'{seconds:.2f}' for seconds in latencies)} s")
        assert client.get("/livez").status_code == 200
        {"stopped": stack.server.start, "frozen": stack.server.thaw, "swallowed": stack.database_proxy.heal}[how]()
        stack.wait_until(
            lambda: stack.post(client, stack.new_files(2)).status_code == 202, 15, "jobs are accepted again"
        )
    stack.wait_until(lambda: stack.finished_count() == sum(map(len, stack.accepted_jobs.values())), 40, "work goes on")
    stack.wait_until_settled()


def test_a_commit_whose_confirmation_is_lost(proxied_postgres_stack):
    """Row 17: connections are cut repeatedly while jobs are submitted; a retry under the same key gives one job.

    Each failure makes the pause between two cuts longer: on a slow machine, no transaction would else be short enough.
    """
    stack = proxied_postgres_stack
    cutting, pauses, jobs = threading.Event(), [0.05], 8

    def cut():
        while not cutting.wait(pauses[-1]):
            stack.database_proxy.cut_connections()

    thread = threading.Thread(target=cut)
    with stack.client() as client:
        thread.start()
        for number in range(jobs):
            files = stack.new_files(2)
            pauses.append(0.05)
            while (status := stack.post(client, files, key=f"key-{number}").status_code) != 202:
                assert status == 503
                pauses.append(1.2 * pauses[-1])
                assert pauses[-1] < 10
        cutting.set()
        thread.join()
    assert len(pauses) > 1 + jobs, "no submission met a cut connection"
    assert len(stack.accepted_jobs) == jobs
    stack.wait_until_settled(40)
    count = sa.select(sa.func.count()).select_from(factories.JOBS)
    assert stack.db.read(lambda conn: conn.execute(count).scalar_one()) == jobs


def test_deadlocks_are_not_visible(stack):
    """Row 18: two writers lock the same jobs in opposite order, beside workers: the transactions are retried."""
    stack.start_workers(2)
    ids = [stack.submit(60) for _ in range(2)]
    other = database.Database(stack.database_url)
    seen = []

    def cross(c, first, second):
        seen.append(first)
        for job_id in (first, second):
            c.execute(sa.select(factories.JOBS.c.id).where(factories.JOBS.c.id == job_id).with_for_update())
            time.sleep(0.02)

    def run(pair):
        while stack.finished_count() < 120:
            with contextlib.suppress(errors.DatabaseUnavailable):  # this writer provokes more deadlocks than retries
                other.write(cross, *pair)

    threads = [threading.Thread(target=run, args=(pair,)) for pair in (ids, ids[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    other.close()
    assert seen
    stack.wait_until_settled(30)
    assert "Traceback" not in "".join(worker.read_log() for worker in stack.workers)


def test_a_serialization_failure_is_retried(stack):
    """Row 18: three retries at most; after that the database counts as unavailable."""
    attempts = []

    def fails(c, times):
        attempts.append(1)
        if len(attempts) <= times:
            c.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$")
        return "done"

    assert stack.db.write(fails, 3) == "done"
    attempts.clear()
    with pytest.raises(errors.DatabaseUnavailable):
        stack.db.write(fails, 99)
    assert len(attempts) == database.MAX_TRANSACTION_ATTEMPTS


@pytest.mark.parametrize("stack_per_database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("seconds", [2, 7])
def test_a_sqlite_database_locked_by_another_program(stack_per_database, seconds):
    """Row 19: BEGIN EXCLUSIVE while four processes work; requests that wait too long get a 503, and nothing breaks."""
    stack = stack_per_database
    stack.start_api()
    stack.start_workers(3)
    stack.submit(30)
    locker = sa.create_engine(stack.database_url)
    with stack.submission_stream(1) as stream:
        stack.wait_until(lambda: stream.responses and stack.running_count(), 20, "the API and a worker are busy")
        with locker.connect() as c:
            c.connection.driver_connection.isolation_level = None
            deadline = time.monotonic() + 20 * TIMEOUT_FACTOR
            while True:
                try:
                    c.exec_driver_sql("BEGIN EXCLUSIVE")
                    break
                except sa.exc.OperationalError:
                    assert time.monotonic() < deadline
            time.sleep(seconds)
            c.exec_driver_sql("ROLLBACK")
        count = len(stream.responses)
        stack.wait_until(lambda: len(stream.responses) >= count + 5, 20, "jobs are accepted again")
    locker.dispose()
    assert stream.statuses() <= ({202} if seconds < database.SQLITE_BUSY_TIMEOUT_SECONDS else {202, 503})
    assert stream.latency_quantile(1) < database.SQLITE_BUSY_TIMEOUT_SECONDS + 4
    stack.wait_until_settled(30)
    with sa.create_engine(stack.database_url, poolclass=sa.NullPool).connect() as c:
        assert c.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


def test_columns_and_indexes_added_under_load(stack):
    """Row 34: a migration that only adds, while old workers and an old API run, has no effect on them."""
    stack.start_api()
    stack.start_workers(1)
    changes = (
        "ALTER TABLE images ADD COLUMN note text",
        "ALTER TABLE jobs ADD COLUMN note text NOT NULL DEFAULT 'x'",
        "CREATE INDEX CONCURRENTLY ON images (sha256)",
        "UPDATE alembic_version SET version_num = '1999'",
    )
    with stack.submission_stream(2) as stream:
        stack.wait_until(lambda: stack.finished_count() > 10, 30, "the first images")
        engine = sa.create_engine(stack.database_url, isolation_level="AUTOCOMMIT")
        with engine.connect() as c:
            c.exec_driver_sql("SET lock_timeout = '3s'")
            for change in changes:
                c.exec_driver_sql(change)
        engine.dispose()
        count = stack.finished_count()
        stack.wait_until(lambda: stack.finished_count() > count + 10, 30, "work goes on")
    assert stream.statuses() == {202}
    stack.wait_until_settled(30)
    assert all(worker.is_alive for worker in stack.workers)


def test_tables_of_a_newer_generation(stack_per_database):
    """Row 34: after an incompatible migration an old worker claims nothing, logs the reason, and does not end."""
    stack = stack_per_database
    (worker,) = stack.start_workers(1)
    stack.submit(5)
    stack.wait_until_settled(30)
    stack.db.write(lambda conn: conn.execute(sa.text("UPDATE alembic_version SET version_num = '2001'")))
    stack.wait_until(lambda: "2001" in worker.read_log(), 15, "it logs the reason")
    time.sleep(1)  # until the last check of the pipeline is out of date, if it was the heartbeat that has seen it
    stack.submit(5)
    time.sleep(1)
    assert worker.is_alive
    assert stack.finished_count() == 5
    back = sa.text("UPDATE alembic_version SET version_num = :ours")
    stack.db.write(lambda conn: conn.execute(back, {"ours": tables.REVISION}))
    stack.wait_until_settled(30)
    assert set(stack.attempts().values()) == {1}


def test_a_worker_started_on_tables_of_a_newer_generation(stack):
    """Row 34: it waits, in case a migration is running, and ends."""
    stack.db.write(lambda conn: conn.execute(sa.text("UPDATE alembic_version SET version_num = '2001'")))
    assert stack.start_worker().wait_for_exit(60) not in (0, None)


def test_slow_clients_and_an_exhausted_connection_pool(stack):
    """Row 36: two hundred clients that send a byte and wait; others are served."""
    import socket

    stack.start_api()
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {stack.key}\r\n"
        "Content-Type: image/png\r\nContent-Length: 100000\r\n\r\nx"
    )
    clients = [socket.create_connection(("127.0.0.1", stack.port), timeout=10) for _ in range(200)]
    try:
        for client_socket in clients:
            client_socket.sendall(head.encode())
        with stack.client() as client:
            for _ in range(10):
                assert stack.post(client, stack.new_files(2)).status_code == 202
    finally:
        for client_socket in clients:
            client_socket.close()
    with stack.submission_stream(1) as one, stack.submission_stream(1) as two, stack.submission_stream(1) as three:
        streams = (one, two, three)
        stack.wait_until(lambda: all(len(stream.responses) >= 20 for stream in streams), 60, "many concurrent requests")
    assert set().union(*(stream.statuses() for stream in streams)) == {202}
    assert psutil.Process(stack.api.pid).is_running()
    stack.start_workers(1)
    stack.wait_until_settled(60)


def test_a_client_that_disconnects(stack):
    """Row 36: in the middle of its body, repeatedly; no job is created."""
    import socket

    stack.start_api()
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", stack.port), timeout=10) as client_socket:
            client_socket.sendall(
                f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {stack.key}\r\n"
                "Content-Type: image/png\r\nContent-Length: 100000\r\n\r\nabc".encode()
            )
    with stack.client() as client, httpx.Client() as plain:
        assert plain.get(f"http://127.0.0.1:{stack.port}/livez").status_code == 200
        assert client.get("/v1/jobs").json()["jobs"] == []
    assert stack.db.read(job_lists.list_page, job_lists.JobFilter(), limit=5) == []
