"""Redis restarted, flushed, gone, frozen, full, read-only, flapping: it holds wake-ups only, so nothing is lost."""

import json
import os
import signal
import time

import psutil
import pytest
import redis

from core.broker import celery_app
from tests.support import celery_messages, servers


@pytest.fixture
def slow_poll_stack(stack):
    """Start Redis, an API and two workers that poll only every two seconds without wake-ups."""
    stack.settings |= {"idle_poll_seconds": 2}
    stack.start_redis()
    stack.start_api()
    stack.start_workers(2)
    with stack.client() as client:
        assert client.get("/livez").status_code == 200
    return stack


def are_workers_subscribed(stack):
    """Return whether both workers wait for messages from Redis."""
    with redis.Redis(port=stack.redis_port) as client:
        return sum(each["cmd"] == "brpop" for each in client.client_list()) >= 2


def pids(stack):
    """Return the process ids of the live workers."""
    return [worker.pid for worker in stack.workers if worker.is_alive]


@pytest.mark.parametrize("how", ["SIGTERM, append-only file", "SIGKILL, nothing kept"])
def test_redis_restarted_under_load(slow_poll_stack, how):
    """Rows 9 and 10: with batches in flight; clients see no error, and the workers reconnect by themselves."""
    stack, workers = slow_poll_stack, pids(slow_poll_stack)
    options = ["--appendonly", "yes"] if how.startswith("SIGTERM") else []
    stack.restart_redis(signal.SIGTERM, *options)
    with stack.submission_stream(4) as stream:
        stack.wait_until(lambda: stack.finished_count() > 20, 30, "the first images")
        stack.restart_redis(signal.SIGTERM if options else signal.SIGKILL, *options)
        back = time.monotonic()
        stack.wait_until(lambda: are_workers_subscribed(stack), 20, "both workers have reconnected")
        print(f"{how}: both workers had reconnected {time.monotonic() - back:.1f} s after Redis was back")
        stack.wait_until(lambda: len(stream.responses) > 60, 60, "more requests")
    assert stream.statuses() == {202}
    stack.wait_until_settled()
    assert pids(stack) == workers


def test_flushall_with_five_hundred_queued(slow_poll_stack):
    """Row 11: all messages are gone; the images are finished nevertheless, and the API is not affected."""
    stack = slow_poll_stack
    with stack.client() as client, redis.Redis(port=stack.redis_port) as broker:
        assert stack.post(client, stack.new_files(500)).status_code == 202
        broker.flushall()
        assert stack.post(client, stack.new_files(1)).status_code == 202
        started = time.monotonic()
        stack.wait_until_settled(30)
        print(f"501 images were done {time.monotonic() - started:.1f} s after FLUSHALL")


@pytest.mark.parametrize("how", ["refused", "frozen", "swallowed"])
def test_redis_away_under_load(slow_poll_stack, how):
    """Rows 12 and 13: connections are refused, or never answered; requests do not wait, and work goes on."""
    stack = slow_poll_stack
    inject_fault = {"refused": stack.proxy.refuse, "frozen": stack.freeze_redis, "swallowed": stack.proxy.blackhole}[
        how
    ]
    heal = stack.thaw_redis if how == "frozen" else stack.proxy.heal
    inject_fault()
    with stack.submission_stream(4) as stream:
        stack.wait_until(lambda: len(stream.responses) >= 100, 60, "a hundred requests")
    assert stream.statuses() == {202}
    print(f"{how}: the slowest of {len(stream.responses)} requests took {stream.latency_quantile(1) * 1000:.0f} ms")
    stack.wait_until_settled(30)
    heal()
    stack.wait_until(lambda: are_workers_subscribed(stack), 70, "both workers have reconnected")


def test_a_full_redis(slow_poll_stack):
    """Row 14: it refuses every write, also those of the workers; no process ends, and wake-ups work again later."""
    stack, workers = slow_poll_stack, pids(slow_poll_stack)
    with redis.Redis(port=stack.redis_port) as client:
        client.config_set("maxmemory", 1)
        with stack.submission_stream(4) as stream:
            stack.wait_until(lambda: len(stream.responses) >= 50, 60, "fifty requests")
        assert stream.statuses() == {202}
        stack.wait_until_settled(30)
        client.config_set("maxmemory", 0)
    stack.wait_until(lambda: are_wakeups_received(stack), 30, "wake-ups are received again")
    assert pids(stack) == workers


def test_redis_fails_over(slow_poll_stack):
    """Row 15: it becomes a read-only replica; later it is master again."""
    stack, workers = slow_poll_stack, pids(slow_poll_stack)
    with redis.Redis(port=stack.redis_port) as client:
        client.replicaof("127.0.0.1", servers.free_port())
        with stack.submission_stream(4) as stream:
            stack.wait_until(lambda: len(stream.responses) >= 50, 60, "fifty requests")
        assert stream.statuses() == {202}
        stack.wait_until_settled(30)
        client.replicaof("NO", "ONE")
    stack.wait_until(lambda: are_wakeups_received(stack), 30, "wake-ups are received again")
    assert pids(stack) == workers


def are_wakeups_received(stack):
    """Return whether a worker receives the wake-up of a new job."""
    with stack.client() as client, redis.Redis(port=stack.redis_port) as broker:
        stack.post(client, stack.new_files(1))
        taken = broker.info("commandstats").get("cmdstat_lpush", {}).get("calls", 0)
        time.sleep(0.3)
        return taken and broker.llen(celery_app.QUEUE_NAME) == 0 and are_workers_subscribed(stack)


def flap(stack):
    """Take Redis down and up ten times while jobs are submitted; wait until they are done and wake-ups work."""
    with stack.submission_stream(4) as stream:
        for _ in range(10):
            stack.proxy.refuse()
            time.sleep(0.4)
            stack.proxy.heal()
            time.sleep(0.4)
    assert stream.statuses() == {202}
    stack.wait_until_settled(30)
    stack.wait_until(lambda: are_wakeups_received(stack), 40, "wake-ups are received again")


def test_a_flapping_redis(slow_poll_stack):
    """Row 16: up and down repeatedly; nothing is lost, and no worker ends or grows."""
    stack, workers = slow_poll_stack, pids(slow_poll_stack)
    flap(stack)  # allocates what is needed once: for batches of every size, and for reconnecting
    threads = {pid: psutil.Process(pid).num_threads() for pid in workers}
    for _ in range(3):  # what leaks does so each time; what a larger batch needs for the first time does not
        sizes = {pid: psutil.Process(pid).memory_info().rss for pid in workers}
        flap(stack)
        grown = [psutil.Process(pid).memory_info().rss - sizes[pid] for pid in workers]
        print("ten times down and up left a worker", *(f"{size / 1e6:+.1f} MB" for size in grown))
        if max(grown) < 50_000_000:
            break
    assert max(grown) < 50_000_000
    assert pids(stack) == workers
    assert all(psutil.Process(pid).num_threads() <= threads[pid] + 3 for pid in workers)


def test_a_hundred_wakeups_for_one_job(slow_poll_stack):
    """Row 29: each is handled, and there is one result per image."""
    stack = slow_poll_stack
    with redis.Redis(port=stack.redis_port) as client:
        client.lpush(celery_app.QUEUE_NAME, *(celery_messages.encode(celery_app.TASK_NAME) for _ in range(100)))
        stack.submit(50)
        client.lpush(celery_app.QUEUE_NAME, *(celery_messages.encode(celery_app.TASK_NAME) for _ in range(100)))
        stack.wait_until_settled(30)
        stack.wait_until(lambda: client.llen(celery_app.QUEUE_NAME) == 0, 30, "all wake-ups are received")
    assert set(stack.attempts().values()) == {1}


MALFORMED_MESSAGES = {
    "no JSON": b"hello",
    "no text": os.urandom(50),
    "an empty string": b"",
    "null": b"null",
    "a number": b"17",
    "a list": b"[1, 2]",
    "an empty object": b"{}",
    "properties of another kind": b'{"body": "x", "properties": 5, "headers": []}',
    "no delivery tag": json.dumps({"body": "", "properties": {"delivery_info": {}}, "headers": {}}).encode(),
    "an unknown task": celery_messages.encode("os.system"),
    "an unknown content type": celery_messages.encode(
        celery_app.TASK_NAME, "application/x-python-serialize", b"cos\nsystem\n."
    ),
    "a body of garbage": celery_messages.encode(celery_app.TASK_NAME, body=b"\xff\xfe"),
    "arguments of another kind": celery_messages.encode(celery_app.TASK_NAME, body=b'"x"'),
    "too many arguments": celery_messages.encode(celery_app.TASK_NAME, body=b'[["x"], {}, {}]'),
    "deep": b"[" * 100_000,
}


def test_malformed_messages_end_no_worker(slow_poll_stack):
    """Messages of other programs are discarded, and the wake-up after them is received."""
    stack, workers = slow_poll_stack, pids(slow_poll_stack)
    with redis.Redis(port=stack.redis_port) as client:
        for name, message in MALFORMED_MESSAGES.items():
            client.lpush(celery_app.QUEUE_NAME, message)
            stack.wait_until(lambda: client.llen(celery_app.QUEUE_NAME) == 0, 15, f"{name} is received")
    stack.wait_until(lambda: are_wakeups_received(stack), 30, "wake-ups are received again")
    stack.wait_until_settled(30)
    assert pids(stack) == workers
