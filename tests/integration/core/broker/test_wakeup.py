import base64
import json
import os
import signal
import time

import pytest
import redis

from core.broker import celery_app, wakeup
from tests.support import servers
from tests.support.waiting import wait_until


@pytest.fixture
def own_redis():
    """A Redis of this test's own, that may be hurt: its URL and its process."""
    with servers.run_redis() as (url, process):
        yield url, process


def length(client):
    """How many messages wait."""
    return client.llen(celery_app.QUEUE_NAME)


# A call that waited for Redis would take its timeout, seconds; a busy machine may pause a thread for tenths.
SLOWEST_SEND_SECONDS = 1.0


def slowest_send(sender, times=50):
    """Return the longest time that one of some calls took, in seconds."""
    slowest = 0.0
    for _ in range(times):
        started = time.perf_counter()
        sender.send()
        slowest = max(slowest, time.perf_counter() - started)
        time.sleep(0.002)
    return slowest


def test_a_wakeup_is_a_json_message_in_redis(own_redis):
    """One message in the queue's list: the task's name, nothing pickled, nothing of ours in it, gone in a while."""
    sender = wakeup.WakeupSender(own_redis[0])
    sender.send()
    with redis.Redis.from_url(own_redis[0]) as client:
        wait_until(lambda: length(client))
        message = json.loads(client.lindex(celery_app.QUEUE_NAME, 0))
    assert message["content-type"] == "application/json"
    assert message["headers"]["task"] == celery_app.TASK_NAME
    assert message["headers"]["expires"] is not None
    arguments, keywords, _ = json.loads(base64.b64decode(message["body"]))
    assert (arguments, keywords) == ([], {})
    assert sender.last_error is None


def test_close_wakeups_are_coalesced(own_redis):
    """A thousand at once are far fewer messages; the last is never lost."""
    sender = wakeup.WakeupSender(own_redis[0])
    started = time.monotonic()
    for _ in range(1000):
        sender.send()
    with redis.Redis.from_url(own_redis[0]) as client:
        wait_until(lambda: length(client))
        time.sleep(0.2)
        most = 2 + (time.monotonic() - started) / wakeup.COALESCE_SECONDS
        assert 1 <= length(client) <= min(most, 100)
        client.delete(celery_app.QUEUE_NAME)
        sender.send()
        wait_until(lambda: length(client) == 1)


def test_an_old_message_does_not_suppress_new_ones(own_redis):
    """It may have expired: a worker would throw it away, and not come."""
    sender = wakeup.WakeupSender(own_redis[0])
    with redis.Redis.from_url(own_redis[0]) as client:
        client.lpush(celery_app.QUEUE_NAME, "{}")
        sender.send()
        wait_until(lambda: length(client) == 2)


def test_no_message_is_sent_while_one_is_queued(own_redis):
    """A queued message says all that another would; once it is received, the next is sent."""
    sender = wakeup.WakeupSender(own_redis[0])
    with redis.Redis.from_url(own_redis[0]) as client:
        sender.send()
        wait_until(lambda: length(client) == 1)
        for _ in range(5):
            sender.send()
            time.sleep(4 * wakeup.COALESCE_SECONDS)
        assert length(client) == 1
        client.rpop(celery_app.QUEUE_NAME)
        sender.send()
        wait_until(lambda: length(client) == 1)


def test_creating_a_sender_opens_nothing():
    """No thread, no socket, before the first call."""
    sender = wakeup.WakeupSender(f"redis://127.0.0.1:{servers.free_port()}/0")
    assert sender._thread is None
    assert sender.last_error is None


def test_callers_do_not_wait_for_a_redis_that_is_gone(caplog):
    """Refused: every call returns at once, one warning is logged, and the reason is known."""
    sender = wakeup.WakeupSender(f"redis://127.0.0.1:{servers.free_port()}/0")
    assert slowest_send(sender) < SLOWEST_SEND_SECONDS
    wait_until(lambda: sender.last_error)
    assert slowest_send(sender) < SLOWEST_SEND_SECONDS
    assert len([record for record in caplog.records if record.name == "core.broker.wakeup"]) == 1


def test_callers_do_not_wait_for_a_frozen_redis(own_redis):
    """A Redis that accepts the connection and does not answer: sending ends within seconds, and works again later."""
    url, process = own_redis
    sender = wakeup.WakeupSender(url)
    sender.send()
    with redis.Redis.from_url(url) as client:
        wait_until(lambda: length(client) == 1)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        assert slowest_send(sender) < SLOWEST_SEND_SECONDS
        wait_until(lambda: sender.last_error)
        assert slowest_send(sender) < SLOWEST_SEND_SECONDS
    finally:
        os.kill(process.pid, signal.SIGCONT)
    with redis.Redis.from_url(url) as client:
        client.delete(celery_app.QUEUE_NAME)

        def is_delivered():
            sender.send()
            return length(client) and sender.last_error is None

        wait_until(is_delivered)


def test_wakeups_are_delivered_again_when_redis_comes_back():
    """Killed and started again on the same port: the sender is not restarted."""
    port = servers.free_port()
    with servers.run_redis(port) as (url, _):
        sender = wakeup.WakeupSender(url)
        sender.send()
        with redis.Redis.from_url(url) as client:
            wait_until(lambda: length(client) == 1)
    sender.send()
    wait_until(lambda: sender.last_error)
    with servers.run_redis(port) as (url, _), redis.Redis.from_url(url) as client:

        def is_delivered():
            sender.send()
            return length(client) and sender.last_error is None

        wait_until(is_delivered)


def test_a_full_redis_is_reported_as_unreachable(own_redis):
    """Out of memory there is no reason to fail here."""
    sender = wakeup.WakeupSender(own_redis[0])
    with redis.Redis.from_url(own_redis[0]) as client:
        client.config_set("maxmemory", 1)
        sender.send()
        wait_until(lambda: sender.last_error)
        assert slowest_send(sender) < SLOWEST_SEND_SECONDS


def test_a_sender_survives_a_fork(own_redis):
    """Servers that fork after creating the sender can send too."""
    sender = wakeup.WakeupSender(own_redis[0])
    sender.send()
    with redis.Redis.from_url(own_redis[0]) as client:
        wait_until(lambda: length(client))
        client.delete(celery_app.QUEUE_NAME)
        assert not sender._thread.is_alive() or sender._thread.daemon
        sender._thread = None  # as a child of a fork finds it: threads are not inherited
        sender.send()
        wait_until(lambda: length(client))


def test_no_message_but_json_is_accepted_and_no_results_are_kept():
    """The settings that keep pickles and result backends out."""
    app = celery_app.create_celery_app("redis://127.0.0.1/0")
    assert set(app.conf.accept_content) == {"json"}
    assert (app.conf.task_serializer, app.conf.result_backend) == ("json", None)
    assert app.conf.task_ignore_result
    assert not app.conf.worker_enable_remote_control
    assert app.conf.broker_connection_max_retries is None
    assert app.conf.broker_channel_error_retry
