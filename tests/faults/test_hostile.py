"""Hostile files and malformed names, through the real HTTP way: each its verdict, nobody harmed."""

import csv
import os
import time

import psutil
import pytest
import sqlalchemy as sa

from tests.faults import hostile
from tests.faults.stack import POISON, SLACK
from tests.jobs import making

KNOWN = {"empty", "too_large", "unsupported_format", "undecodable", "timed_out"}
CPU_SECONDS = 3


@pytest.fixture
def served(stack):
    """A stack with an API and a worker of two decoders; at the end both are the same processes, and no bigger."""
    stack.settings |= {"decoders": 2, "batch_size": 32}
    stack.start_api()
    (worker,) = stack.start_workers(1)
    before = memory(stack.api.pid)
    with stack.client() as client:
        stack.post(client, stack.files(1)).raise_for_status()
    yield stack
    assert worker.alive
    assert stack.api.poll() is None
    grown = memory(stack.api.pid) - before
    print(f"the API grew by {grown / 1e6:.0f} MB")
    assert grown < 100_000_000
    assert "Traceback" not in worker.said()
    assert "Traceback" not in (stack.folder / "api.log").read_text()
    stack.check_books()


def memory(pid):
    """The memory of a process and of all below it."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(process.memory_info().rss for process in family)


def slowest(stack):
    """The milliseconds that the slowest picture took to decode."""
    timings = stack.db.read(lambda c: c.execute(sa.select(making.RESULTS.c.timings)).scalars().all())
    return max(each.get("decode_ms", 0) for each in timings)


def verdicts(stack, files):
    """Hand files in, thirty at a time; name → error code, or None for a label."""
    names = list(files)
    with stack.client(timeout=60) as client:
        for start in range(0, len(names), 30):
            chunk = [(name, files[name]) for name in names[start : start + 30]]
            answer = stack.post(client, chunk)
            assert answer.status_code == 202, answer.text
    stack.until(lambda: stack.done() == len(files) + 1, 150, "all have ended")
    return {name: code for name, (_, code) in stack.results().items() if name in files}


def test_the_collection(served, shared):
    """Every file of it: what shall be taken has a label, what shall be refused a permanent code."""
    folder = shared / "data" / "hostile"
    with (folder / "index.csv").open() as file:
        policy = {row["name"]: row["policy_40mp"] for row in csv.DictReader(file)}
    found = verdicts(served, {name: (folder / name).read_bytes() for name in policy})
    assert {name: "refuse" if code else "accept" for name, code in found.items()} == policy
    assert set(found.values()) <= KNOWN | {None}
    print(f"{len(found)} files; the slowest took {slowest(served):.0f} ms to decode")


def test_files_that_are_made_to_hurt(served):
    """More than a hundred of our own, of every format: bombs, loops, lies, cuts, impostors, odd ones that are fine."""
    made = hostile.made()
    found = verdicts(served, {name: data for name, (data, _) in made.items()})
    wanted = {name: fine for name, (_, fine) in made.items() if fine is not None}
    assert {name: found[name] is None for name in wanted} == wanted
    assert set(found.values()) <= KNOWN | {None}
    assert len(made) > 100
    print(f"{len(found)} files; the slowest took {slowest(served):.0f} ms to decode")


def test_each_by_itself_as_a_raw_body(served):
    """One picture is one request: 202, or a 4xx that says why; never a 5xx, never silence."""
    made = {**{name: data for name, (data, _) in hostile.made().items()}, **hostile.bombs()}
    statuses = set()
    with served.client(timeout=30) as client:
        for name, data in made.items():
            answer = client.post(
                "/v1/jobs", params={"name": name}, content=data, headers={"Content-Type": "application/octet-stream"}
            )
            statuses.add(answer.status_code)
            assert answer.status_code in (202, 415, 422), (name, answer.text)
            if answer.status_code != 202:
                assert answer.json()["code"] in KNOWN
    assert statuses == {202, 415, 422}
    served.until(lambda: not served._count("queued", "running"), 150, "all have ended")


ODD_NAMES = [
    *(f"control {n} {chr(n)}.png" for n in (*range(32), 127, 0x85, 0x9F)),
    "../../etc/passwd",
    "C:\\windows\\x.png",
    "a" * 1024,
    " ",
    ".",
    "\u202egnp.exe",
    "e\u0301.png",
    "\ufeff.png",
    "🍣" * 200,
    "'; DROP TABLE images; --",
    "<script>alert(1)</script>",
    "%00%2e%2e%2f",
    "${jndi:ldap://x}",
    "{{7*7}}",
    "=cmd|' /C calc'!A0",
]


def test_names_of_every_kind(served):
    """They are data: stored, told, and nothing else; control characters are replaced."""
    with served.client() as client:
        for number, name in enumerate(ODD_NAMES):
            answer = client.post(
                "/v1/jobs",
                params={"name": name},
                content=hostile.saved("PNG", (20 + number, 20)),
                headers={"Content-Type": "image/png"},
            )
            assert answer.status_code == 202, (name, answer.text)
        served.until(lambda: served.done() == len(ODD_NAMES) + 1, 60, "all have ended")
        told = [one["image"] for one in client.get("/v1/results?limit=1000").json()["results"]]
    assert not any(ord(letter) < 32 or ord(letter) == 127 for name in told for letter in name)
    assert {name for name in ODD_NAMES if "control" not in name} <= set(told)
    assert {code for _, code in served.results().values()} == {None}


def test_one_poison_and_thirty_one_good_ones(make_stack, fresh):
    """The same network, a picture that kills it: 31 results by the HTTP way, and the poison failed."""
    stack = make_stack(fresh, batch_size=32)
    stack.start_api()
    with stack.client() as client:
        assert stack.post(client, stack.files(31, ("poison.png", POISON))).status_code == 202
    deadline = time.monotonic() + 90 * SLACK
    worker = stack.start_worker("segfaults")
    while stack.done() < 32:
        assert time.monotonic() < deadline
        if not worker.alive:
            worker = stack.start_worker("segfaults")
        time.sleep(0.05)
    stack.settle(failed={"poison.png": "worker_lost"})


def test_big_bodies_leave_nothing_behind(stack):
    """Forms of 25 MB, refused picture by picture, and one too big alone: each thread has had one, and keeps none."""
    stack.start_api()
    with stack.client(timeout=60) as client:
        stack.post(client, stack.files(1)).raise_for_status()
        before = memory(stack.api.pid)
        for number in range(6):
            files = [(f"{number}-{n}", os.urandom(1_000_000)) for n in range(25)]
            assert stack.post(client, files).json()["counts"]["failed"] == 25
            raw = client.post("/v1/jobs", content=os.urandom(19_000_000), headers={"Content-Type": "image/jpeg"})
            assert raw.status_code == 415
    print(memory(stack.api.pid) - before)
    assert memory(stack.api.pid) - before < 40_000_000
