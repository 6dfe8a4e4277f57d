"""Real servers for the tests: free ports, HTTP servers in a thread, certificates, Redis, and S3 buckets."""

import contextlib
import datetime as dt
import http.server
import ipaddress
import itertools
import os
import random
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from sortbelt.local import redis_server

# Below 32768, where the kernel takes ports of outgoing connections from: it could take the port before a server does.
FIRST_PORT, PORTS_PER_PROCESS = 20_000, 700
_port_offsets = itertools.count(random.randrange(PORTS_PER_PROCESS))  # noqa: S311 (not a secret)


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens.

    Each test process takes its ports in turn from its own range, so that no two processes get the same one.
    """
    process_number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 16
    for _ in range(PORTS_PER_PROCESS):
        port = FIRST_PORT + process_number * PORTS_PER_PROCESS + next(_port_offsets) % PORTS_PER_PROCESS
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port in the range of this test process")


class QuietHandler(http.server.BaseHTTPRequestHandler):
    """A handler that logs nothing, and ignores clients that close the connection."""

    def log_message(self, *_):
        """Do not log."""

    def handle(self):
        """Handle requests until the connection is closed."""
        with contextlib.suppress(ConnectionError):
            super().handle()

    def answer(self, status, body=b"", headers=None):
        """Send a complete response."""
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def serving(server):
    """Serve requests in a thread during the block; yield the server."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def make_certificate(folder: Path, *names: str | ipaddress.IPv4Address) -> tuple[Path, Path]:
    """Write a self-signed certificate of these names and addresses, and its key; return their paths."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, str(names[0]))])
    alternatives = [x509.DNSName(name) if isinstance(name, str) else x509.IPAddress(name) for name in names]
    now, day = dt.datetime.now(dt.UTC), dt.timedelta(days=1)
    builder = x509.CertificateBuilder(
        subject, subject, key.public_key(), x509.random_serial_number(), now - day, now + day
    )
    builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "cert.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem))
    (folder / "key.pem").write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    return folder / "cert.pem", folder / "key.pem"


@contextlib.contextmanager
def run_redis(port: int | None = None, *options: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run Redis without persistence during the block; yield its URL and process."""
    port = port or free_port()
    with tempfile.TemporaryDirectory() as data_dir:
        command = [
            redis_server.find_server(),
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            data_dir,
            *options,
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            wait_for_port(port, process=process)
            yield f"redis://127.0.0.1:{port}/0", process
        finally:
            process.kill()
            process.wait()


def wait_for_port(port: int, seconds: float = 300, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until something listens on a port; fail at once if `process` has ended."""
    deadline = time.monotonic() + seconds
    while True:
        assert process is None or process.poll() is None, f"{process.args} ended with exit code {process.returncode}"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def unmeasured(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a child process whose coverage is not measured, which takes CPU time."""
    return {name: value for name, value in environ.items() if name != "COVERAGE_PROCESS_CONFIG"}


def s3_environment(endpoint):
    """Return the variables for S3 access: the product reads AWS_REGION, boto3 AWS_DEFAULT_REGION."""
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_ENDPOINT_URL": endpoint}
    return keys | dict.fromkeys(("AWS_REGION", "AWS_DEFAULT_REGION"), "us-east-1")


def set_s3_environment(monkeypatch, endpoint):
    """Set the variables for S3 access in this process."""
    for name, value in s3_environment(endpoint).items():
        monkeypatch.setenv(name, value)


def create_bucket(endpoint, name, objects):
    """Create a bucket with these objects: {key: bytes}."""
    import boto3

    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=endpoint, **keys)
    client.create_bucket(Bucket=name)
    for key, data in objects.items():
        client.put_object(Bucket=name, Key=key, Body=data)
    client.close()
