"""The wake-up listener, on real Redis."""

import queue
import threading

import pytest
import redis

from core.broker import celery_app, wakeup, wakeup_listener
from tests.support import servers

TIMEOUT_SECONDS = 60  # for hangs only


@pytest.fixture
def stop():
    """An event that ends the listeners of a test."""
    event = threading.Event()
    yield event
    event.set()


def listen(url, stop, name=1):
    """Start a listener; return a queue that gets `name` for each wake-up."""
    received = queue.Queue()
    wakeup_listener.WakeupListener(url, lambda: received.put(name)).start(stop)
    return received


def wait_for_listener(client):
    """Wait until a listener has said that it is there."""
    while not client.exists(wakeup.LISTENER_KEY):
        pass


def test_a_listener_gets_the_wakeups_and_celery_gets_none(stop):
    with servers.run_redis() as (url, _), redis.Redis.from_url(url) as client:
        received = listen(url, stop)
        wait_for_listener(client)
        sender = wakeup.WakeupSender(url)
        for _ in range(3):
            sender.send()
            assert received.get(timeout=TIMEOUT_SECONDS)
        assert client.llen(celery_app.QUEUE_NAME) == 0


def test_a_busy_listener_is_woken_once_more(stop):
    """However many wake-ups come meanwhile: one run finds all that is queued."""
    started, release = queue.Queue(), threading.Event()

    def work():
        started.put(1)
        release.wait(TIMEOUT_SECONDS)

    with servers.run_redis() as (url, _), redis.Redis.from_url(url) as client:
        wakeup_listener.WakeupListener(url, work).start(stop)
        wait_for_listener(client)
        for _ in range(5):
            wakeup._push(client)
        started.get(timeout=TIMEOUT_SECONDS)
        for _ in range(5):
            wakeup._push(client)
        assert client.llen(wakeup.LIST_KEY) == 1
        release.set()
        started.get(timeout=TIMEOUT_SECONDS)


def test_a_listener_says_seldom_that_it_is_there(stop, monkeypatch):
    """Not before each wake-up: that would be one more round trip for each."""
    monkeypatch.setattr(wakeup_listener, "ANNOUNCE_SECONDS", 600.0)
    with servers.run_redis() as (url, _), redis.Redis.from_url(url) as client:
        received = listen(url, stop)
        wait_for_listener(client)
        for _ in range(20):
            wakeup._push(client)
            received.get(timeout=TIMEOUT_SECONDS)
        assert client.info("commandstats")["cmdstat_set"]["calls"] == 1


def test_a_listener_comes_back_with_redis(stop, monkeypatch):
    monkeypatch.setattr("core.broker.redis_clients.BACKOFF_SECONDS", 0.05)
    port = servers.free_port()
    with servers.run_redis(port) as (url, process), redis.Redis.from_url(url) as client:
        received = listen(url, stop)
        wait_for_listener(client)
        process.kill()
        process.wait()
    with servers.run_redis(port) as (url, _), redis.Redis.from_url(url) as client:
        wait_for_listener(client)
        wakeup._push(client)
        assert received.get(timeout=TIMEOUT_SECONDS)
