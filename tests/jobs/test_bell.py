import base64
import json
import os
import signal
import time

import pytest
import redis

from jobs import bell
from tests import servers


@pytest.fixture
def own():
    """A Redis of this test's own, that may be hurt: its URL and its process."""
    with servers.redis() as (url, process):
        yield url, process


def length(client):
    """How many messages wait."""
    return client.llen(bell.QUEUE)


def wait_until(true, seconds=10.0):
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


def slowest_ring(ringer, times=50):
    """The longest that any of some rings took, in seconds."""
    slowest = 0.0
    for _ in range(times):
        started = time.perf_counter()
        ringer.ring()
        slowest = max(slowest, time.perf_counter() - started)
        time.sleep(0.002)
    return slowest


def test_a_ring_lands_in_redis_as_json(own):
    """One message in the queue's list: the task's name, nothing pickled, nothing of ours in it, gone in a while."""
    ringer = bell.Bell(own[0])
    ringer.ring()
    with redis.Redis.from_url(own[0]) as client:
        wait_until(lambda: length(client))
        message = json.loads(client.lindex(bell.QUEUE, 0))
    assert message["content-type"] == "application/json"
    assert message["headers"]["task"] == bell.TASK
    assert message["headers"]["expires"] is not None
    arguments, keywords, _ = json.loads(base64.b64decode(message["body"]))
    assert (arguments, keywords) == ([], {})
    assert ringer.error is None


def test_rings_close_together_are_few(own):
    """A thousand at once are no thousand messages; the last is never lost."""
    ringer = bell.Bell(own[0])
    started = time.monotonic()
    for _ in range(1000):
        ringer.ring()
    with redis.Redis.from_url(own[0]) as client:
        wait_until(lambda: length(client))
        time.sleep(0.2)
        most = 2 + (time.monotonic() - started) / bell.COALESCE_SECONDS
        assert 1 <= length(client) <= min(most, 100)
        client.delete(bell.QUEUE)
        ringer.ring()
        wait_until(lambda: length(client) == 1)


def test_an_old_ring_that_lies_there_keeps_nobody_from_ringing(own):
    """It may have expired: a worker would throw it away, and not come."""
    ringer = bell.Bell(own[0])
    with redis.Redis.from_url(own[0]) as client:
        client.lpush(bell.QUEUE, "{}")
        ringer.ring()
        wait_until(lambda: length(client) == 2)


def test_nobody_is_rung_for_while_a_ring_is_unheard(own):
    """One message that waits says all that another would; once it is taken up, the next is rung."""
    ringer = bell.Bell(own[0])
    with redis.Redis.from_url(own[0]) as client:
        ringer.ring()
        wait_until(lambda: length(client) == 1)
        for _ in range(5):
            ringer.ring()
            time.sleep(4 * bell.COALESCE_SECONDS)
        assert length(client) == 1
        client.rpop(bell.QUEUE)
        ringer.ring()
        wait_until(lambda: length(client) == 1)


def test_making_a_bell_opens_nothing():
    """No thread, no socket, before the first ring."""
    ringer = bell.Bell(f"redis://127.0.0.1:{servers.free_port()}/0")
    assert ringer._thread is None
    assert ringer.error is None


def test_nobody_waits_for_a_redis_that_is_gone(caplog):
    """Refused: every ring returns at once, one warning is written, and why is known."""
    ringer = bell.Bell(f"redis://127.0.0.1:{servers.free_port()}/0")
    assert slowest_ring(ringer) < 0.1
    wait_until(lambda: ringer.error, 15)
    assert slowest_ring(ringer) < 0.1
    assert len([record for record in caplog.records if record.name == "jobs.bell"]) == 1


def test_nobody_waits_for_a_redis_that_is_frozen(own):
    """A Redis that takes the call and says nothing: the ring is given up within seconds, and heard again later."""
    url, process = own
    ringer = bell.Bell(url)
    ringer.ring()
    with redis.Redis.from_url(url) as client:
        wait_until(lambda: length(client) == 1)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        assert slowest_ring(ringer) < 0.1
        wait_until(lambda: ringer.error, 15)
        assert slowest_ring(ringer) < 0.1
    finally:
        os.kill(process.pid, signal.SIGCONT)
    with redis.Redis.from_url(url) as client:
        client.delete(bell.QUEUE)

        def heard():
            ringer.ring()
            return length(client) and ringer.error is None

        wait_until(heard, 15)


def test_a_bell_is_heard_again_when_redis_comes_back():
    """Killed and started again on the same port: nobody restarts us."""
    port = servers.free_port()
    with servers.redis(port) as (url, _):
        ringer = bell.Bell(url)
        ringer.ring()
        with redis.Redis.from_url(url) as client:
            wait_until(lambda: length(client) == 1)
    ringer.ring()
    wait_until(lambda: ringer.error, 15)
    with servers.redis(port) as (url, _), redis.Redis.from_url(url) as client:

        def heard():
            ringer.ring()
            return length(client) and ringer.error is None

        wait_until(heard, 15)


def test_a_full_redis_is_a_bell_that_is_not_heard(own):
    """Out of memory there is no reason to fail here."""
    ringer = bell.Bell(own[0])
    with redis.Redis.from_url(own[0]) as client:
        client.config_set("maxmemory", 1)
        ringer.ring()
        wait_until(lambda: ringer.error, 15)
        assert slowest_ring(ringer) < 0.1


def test_a_bell_survives_a_fork(own):
    """Servers that fork after they were made ring all the same."""
    ringer = bell.Bell(own[0])
    ringer.ring()
    with redis.Redis.from_url(own[0]) as client:
        wait_until(lambda: length(client))
        client.delete(bell.QUEUE)
        assert not ringer._thread.is_alive() or ringer._thread.daemon
        ringer._thread = None  # as a child of a fork finds it: threads are not inherited
        ringer.ring()
        wait_until(lambda: length(client))


def test_no_message_but_json_is_accepted_and_no_results_are_kept():
    """The settings that keep pickles and result backends out."""
    app = bell.celery_app("redis://127.0.0.1/0")
    assert set(app.conf.accept_content) == {"json"}
    assert (app.conf.task_serializer, app.conf.result_backend) == ("json", None)
    assert app.conf.task_ignore_result
    assert not app.conf.worker_enable_remote_control
    assert app.conf.broker_connection_max_retries is None
    assert app.conf.broker_channel_error_retry
