"""Hostile files and malformed names over HTTP: each gets its outcome, and does no harm."""

import csv
import os
import time

import psutil
import pytest
import sqlalchemy as sa

from tests.faults import hostile_images
from tests.faults.stack import POISON_IMAGE, TIMEOUT_FACTOR
from tests.support import factories

KNOWN_CODES = {
    "empty",
    "too_large",
    "unsupported_format",
    "truncated",
    "undecodable",
    "timed_out",
    "cpu_time_exceeded",
}


@pytest.fixture
def running_stack(stack):
    """Start an API and a worker with two decoders; at the end both are the same processes, and have not grown."""
    stack.settings |= {"decoder_processes": 2, "batch_size": 32}
    stack.start_api()
    (worker,) = stack.start_workers(1)
    before = memory(stack.api.pid)
    with stack.client() as client:
        stack.post(client, stack.new_files(1)).raise_for_status()
    yield stack
    assert worker.is_alive
    assert stack.api.poll() is None
    grown = memory(stack.api.pid) - before
    print(f"the API grew by {grown / 1e6:.0f} MB")
    assert grown < 100_000_000
    assert "Traceback" not in worker.read_log()
    assert "Traceback" not in (stack.folder / "api.log").read_text()
    stack.check_invariants()


def memory(pid):
    """Return the resident memory of a process and its descendants, in bytes."""
    process_tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(process.memory_info().rss for process in process_tree)


def max_decode_ms(stack):
    """Return the milliseconds of the slowest decode."""
    timings = stack.db.read(lambda c: c.execute(sa.select(factories.RESULTS.c.timings)).scalars().all())
    return max(each.get("decode_ms", 0) for each in timings)


def classify(stack, files):
    """Submit files, thirty at a time; return {name: error code, or None for a label}."""
    names = list(files)
    with stack.client(timeout=60) as client:
        for start in range(0, len(names), 30):
            chunk = [(name, files[name]) for name in names[start : start + 30]]
            response = stack.post(client, chunk)
            assert response.status_code == 202, response.text
    stack.wait_until(lambda: stack.finished_count() == len(files) + 1, 150, "all have ended")
    return {name: code for name, (_, code) in stack.results_by_name().items() if name in files}


def test_the_hostile_collection(running_stack, shared_dir):
    """Files to be accepted get a label, those to be refused a permanent error code."""
    folder = shared_dir / "data" / "hostile"
    with (folder / "index.csv").open() as file:
        policy = {row["name"]: row["policy_40mp"] for row in csv.DictReader(file)}
    codes = classify(running_stack, {name: (folder / name).read_bytes() for name in policy})
    policy["made-trunc99.jpg"] = "accept"  # 99 % of it came: decision 34
    assert {name: "refuse" if code else "accept" for name, code in codes.items()} == policy
    assert set(codes.values()) <= KNOWN_CODES | {None}
    print(f"{len(codes)} files; the slowest took {max_decode_ms(running_stack):.0f} ms to decode")


def test_generated_hostile_files(running_stack):
    """More than a hundred of every format: bombs, loops, wrong headers, truncations, other formats, odd valid ones."""
    made = hostile_images.hostile_files()
    codes = classify(running_stack, {name: data for name, (data, _) in made.items()})
    expected = {name: fine for name, (_, fine) in made.items() if fine is not None}
    assert {name: codes[name] is None for name in expected} == expected
    assert set(codes.values()) <= KNOWN_CODES | {None}
    assert len(made) > 100
    print(f"{len(codes)} files; the slowest took {max_decode_ms(running_stack):.0f} ms to decode")


def test_each_hostile_file_as_a_raw_body(running_stack):
    """One image per request gives 202, or a 4xx with a reason; never a 5xx or a timeout."""
    made = {
        **{name: data for name, (data, _) in hostile_images.hostile_files().items()},
        **hostile_images.decompression_bombs(),
    }
    statuses = set()
    with running_stack.client(timeout=30) as client:
        for name, data in made.items():
            response = client.post(
                "/v1/jobs", params={"name": name}, content=data, headers={"Content-Type": "application/octet-stream"}
            )
            statuses.add(response.status_code)
            assert response.status_code in (202, 415, 422), (name, response.text)
            if response.status_code != 202:
                assert response.json()["code"] in KNOWN_CODES
    assert statuses == {202, 415, 422}
    running_stack.wait_until(lambda: not running_stack._count_images("queued", "running"), 150, "all have ended")


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


def test_names_of_every_kind(running_stack):
    """They are stored and returned as data; control characters are replaced."""
    with running_stack.client() as client:
        for number, name in enumerate(ODD_NAMES):
            response = client.post(
                "/v1/jobs",
                params={"name": name},
                content=hostile_images.encode_image("PNG", (20 + number, 20)),
                headers={"Content-Type": "image/png"},
            )
            assert response.status_code == 202, (name, response.text)
        running_stack.wait_until(lambda: running_stack.finished_count() == len(ODD_NAMES) + 1, 60, "all have ended")
        names = [result["image"] for result in client.get("/v1/results?limit=1000").json()["results"]]
    assert not any(ord(character) < 32 or ord(character) == 127 for name in names for character in name)
    assert {name for name in ODD_NAMES if "control" not in name} <= set(names)
    assert {code for _, code in running_stack.results_by_name().values()} == {None}


def test_a_poison_image_and_thirty_one_good_ones(make_stack, fresh_postgres_url):
    """Over HTTP: 31 results, and the image that crashes the network fails."""
    stack = make_stack(fresh_postgres_url, batch_size=32)
    stack.start_api()
    with stack.client() as client:
        assert stack.post(client, stack.new_files(31, ("poison.png", POISON_IMAGE))).status_code == 202
    deadline = time.monotonic() + 90 * TIMEOUT_FACTOR
    worker = stack.start_worker("segfaults")
    while stack.finished_count() < 32:
        assert time.monotonic() < deadline
        if not worker.is_alive:
            worker = stack.start_worker("segfaults")
        time.sleep(0.05)
    stack.wait_until_settled(expected_errors={"poison.png": "worker_lost"})


def test_big_bodies_leave_nothing_behind(stack):
    """Forms of 25 MB whose images are all rejected, and a raw body that is too large: no thread keeps the memory."""
    stack.start_api()
    with stack.client(timeout=60) as client:
        stack.post(client, stack.new_files(1)).raise_for_status()
        before = memory(stack.api.pid)
        for number in range(6):
            files = [(f"{number}-{n}", os.urandom(1_000_000)) for n in range(25)]
            assert stack.post(client, files).json()["counts"]["failed"] == 25
            raw = client.post("/v1/jobs", content=os.urandom(19_000_000), headers={"Content-Type": "image/jpeg"})
            assert raw.status_code == 415
    print(memory(stack.api.pid) - before)
    assert memory(stack.api.pid) - before < 40_000_000
