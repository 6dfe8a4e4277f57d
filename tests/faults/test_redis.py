"""Redis restarted, flushed, gone, frozen, full, read-only, flapping: it is only a bell, and nothing is lost with it."""

import json
import os
import signal
import time

import psutil
import pytest
import redis

from jobs import bell
from tests import servers
from tests.worker.test_app import letter


@pytest.fixture
def bells(stack):
    """A stack with Redis, an API and two workers, which look for work without a bell only now and then."""
    stack.settings |= {"idle_ring_seconds": 2}
    stack.start_redis()
    stack.start_api()
    stack.start_workers(2)
    with stack.client() as client:
        assert client.get("/livez").status_code == 200
    return stack


def listening(stack):
    """Whether both workers wait at Redis for messages."""
    with redis.Redis(port=stack.redis_port) as client:
        return sum(each["cmd"] == "brpop" for each in client.client_list()) >= 2


def pids(stack):
    """The processes of the workers."""
    return [worker.pid for worker in stack.workers if worker.alive]


@pytest.mark.parametrize("how", ["SIGTERM, append-only file", "SIGKILL, nothing kept"])
def test_redis_restarted_under_load(bells, how):
    """Rows 9 and 10: with batches in flight; nobody sees an error, the workers come back by themselves."""
    stack, workers = bells, pids(bells)
    options = ["--appendonly", "yes"] if how.startswith("SIGTERM") else []
    stack.start_redis_again(signal.SIGTERM, *options)
    with stack.stream(4) as stream:
        stack.until(lambda: stack.done() > 20, 30, "the first pictures")
        stack.start_redis_again(signal.SIGTERM if options else signal.SIGKILL, *options)
        back = time.monotonic()
        stack.until(lambda: listening(stack), 20, "both workers listen again")
        print(f"{how}: both workers listened {time.monotonic() - back:.1f} s after Redis was back")
        stack.until(lambda: len(stream.answers) > 60, 60, "more requests")
    assert stream.statuses() == {202}
    stack.settle()
    assert pids(stack) == workers


def test_flushall_with_five_hundred_queued(bells):
    """Row 11: every message and every list of Redis is gone; all is done all the same, and the API has not noticed."""
    stack = bells
    with stack.client() as client, redis.Redis(port=stack.redis_port) as broker:
        assert stack.post(client, stack.files(500)).status_code == 202
        broker.flushall()
        assert stack.post(client, stack.files(1)).status_code == 202
        started = time.monotonic()
        stack.settle(30)
        print(f"501 pictures were done {time.monotonic() - started:.1f} s after FLUSHALL")


@pytest.mark.parametrize("how", ["refused", "frozen", "swallowed"])
def test_redis_away_under_load(bells, how):
    """Rows 12 and 13: nobody answers there, or somebody answers never; requests do not wait, and work goes on."""
    stack = bells
    hurt = {"refused": stack.proxy.refuse, "frozen": stack.freeze_redis, "swallowed": stack.proxy.swallow}[how]
    heal = stack.thaw_redis if how == "frozen" else stack.proxy.heal
    hurt()
    with stack.stream(4) as stream:
        stack.until(lambda: len(stream.answers) >= 100, 60, "a hundred requests")
    assert stream.statuses() == {202}
    print(f"{how}: the slowest of {len(stream.answers)} requests took {stream.slowest(1) * 1000:.0f} ms")
    stack.settle(30)
    heal()
    stack.until(lambda: listening(stack), 70, "both workers listen again")


def test_a_full_redis(bells):
    """Row 14: it refuses every message, also what workers would note there; nobody ends, and it recovers."""
    stack, workers = bells, pids(bells)
    with redis.Redis(port=stack.redis_port) as client:
        client.config_set("maxmemory", 1)
        with stack.stream(4) as stream:
            stack.until(lambda: len(stream.answers) >= 50, 60, "fifty requests")
        assert stream.statuses() == {202}
        stack.settle(30)
        client.config_set("maxmemory", 0)
    stack.until(lambda: heard(stack), 30, "a bell is heard again")
    assert pids(stack) == workers


def test_redis_fails_over(bells):
    """Row 15: it becomes somebody's replica and refuses to be written; later it is master again."""
    stack, workers = bells, pids(bells)
    with redis.Redis(port=stack.redis_port) as client:
        client.replicaof("127.0.0.1", servers.free_port())
        with stack.stream(4) as stream:
            stack.until(lambda: len(stream.answers) >= 50, 60, "fifty requests")
        assert stream.statuses() == {202}
        stack.settle(30)
        client.replicaof("NO", "ONE")
    stack.until(lambda: heard(stack), 30, "a bell is heard again")
    assert pids(stack) == workers


def heard(stack):
    """Whether Redis holds no message: what the API rings is taken by a worker."""
    with stack.client() as client, redis.Redis(port=stack.redis_port) as broker:
        stack.post(client, stack.files(1))
        taken = broker.info("commandstats").get("cmdstat_lpush", {}).get("calls", 0)
        time.sleep(0.3)
        return taken and broker.llen(bell.QUEUE) == 0 and listening(stack)


def flap(stack):
    """Ten times down and up, while jobs come in; returns when all of them are done, and bells are heard."""
    with stack.stream(4) as stream:
        for _ in range(10):
            stack.proxy.refuse()
            time.sleep(0.4)
            stack.proxy.heal()
            time.sleep(0.4)
    assert stream.statuses() == {202}
    stack.settle(30)
    stack.until(lambda: heard(stack), 40, "a bell is heard again")


def test_a_flapping_redis(bells):
    """Row 16: up and down again and again; nothing is lost, no worker ends or grows."""
    stack, workers = bells, pids(bells)
    flap(stack)  # what is needed once is there after it: for batches of every size, for Redis coming and going
    sizes = {pid: psutil.Process(pid).memory_info().rss for pid in workers}
    threads = {pid: psutil.Process(pid).num_threads() for pid in workers}
    flap(stack)
    assert pids(stack) == workers
    for pid in workers:
        grown = psutil.Process(pid).memory_info().rss - sizes[pid]
        print(f"ten times down and up left a worker {grown / 1e6:+.1f} MB")
        assert grown < 50_000_000
        assert psutil.Process(pid).num_threads() <= threads[pid] + 3


def test_a_hundred_bells_for_one_job(bells):
    """Row 29: each is heard, and there is one result for each picture."""
    stack = bells
    with redis.Redis(port=stack.redis_port) as client:
        client.lpush(bell.QUEUE, *(letter(bell.TASK) for _ in range(100)))
        stack.submit(50)
        client.lpush(bell.QUEUE, *(letter(bell.TASK) for _ in range(100)))
        stack.settle(30)
        stack.until(lambda: client.llen(bell.QUEUE) == 0, 30, "all bells are taken")
    assert set(stack.attempts().values()) == {1}


NONSENSE = {
    "no JSON": b"hello",
    "no text": os.urandom(50),
    "an empty string": b"",
    "null": b"null",
    "a number": b"17",
    "a list": b"[1, 2]",
    "an empty object": b"{}",
    "properties of another kind": b'{"body": "x", "properties": 5, "headers": []}',
    "no delivery tag": json.dumps({"body": "", "properties": {"delivery_info": {}}, "headers": {}}).encode(),
    "an unknown task": letter("os.system"),
    "an unknown content type": letter(bell.TASK, "application/x-python-serialize", b"cos\nsystem\n."),
    "a body of garbage": letter(bell.TASK, body=b"\xff\xfe"),
    "arguments of another kind": letter(bell.TASK, body=b'"x"'),
    "too many arguments": letter(bell.TASK, body=b'[["x"], {}, {}]'),
    "deep": b"[" * 100_000,
}


def test_nonsense_in_redis_ends_no_worker(bells):
    """What anybody may have put there: it is thrown away, and the bell after it is heard."""
    stack, workers = bells, pids(bells)
    with redis.Redis(port=stack.redis_port) as client:
        for name, message in NONSENSE.items():
            client.lpush(bell.QUEUE, message)
            stack.until(lambda: client.llen(bell.QUEUE) == 0, 15, f"{name} is taken")
        time.sleep(0.5)
    assert pids(stack) == workers
    stack.until(lambda: heard(stack), 30, "a bell is heard again")
    stack.settle(30)
    assert pids(stack) == workers
