"""The real server against clients that hold connections, wait in large numbers, or do not read."""

import concurrent.futures
import contextlib
import errno
import fcntl
import http.client
import resource
import socket
import subprocess
import sys
import time

import pytest

from api.server import connection_guard, listener
from core import enums
from core.db import database
from core.db.queries import api_keys
from tests.integration.api.conftest import run_api_server
from tests.support import factories, modules, waiting

LIMIT = 200


@pytest.fixture(scope="module")
def limited_server(tmp_path_factory, redis_url, database_template):
    """A server for at most 200 connections and 20 requests that wait."""
    data_dir = tmp_path_factory.mktemp("limited")
    limits = {"MAX_CONNECTIONS": str(LIMIT), "MAX_WAITS": "20"}
    with run_api_server(data_dir, database_template, redis_url, **limits) as server:
        yield server


def connect(server, address="127.0.0.1"):
    """Open a connection from a local address."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=10, source_address=(address, 0))


def is_open(connection):
    """Return whether the server has not closed a connection."""
    connection.settimeout(0)
    try:
        received = connection.recv(1)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return received != b""


def wait_until_at_most(count, connections):
    """Wait until so few of these are still open."""
    waiting.wait_until(
        lambda: sum(map(is_open, connections)) <= count, 60, lambda: f"{sum(map(is_open, connections))} are open"
    )


def answers(server, path="/livez", address="127.0.0.1"):
    """Return whether a new connection is answered."""
    with connect(server, address) as connection:
        connection.sendall(server.request_head("GET", path))
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status == 200


@pytest.mark.parametrize("head", [b"", b"GET /livez HTTP/1.1\r\nHost:"], ids=["silent", "half a head"])
def test_connections_without_a_request_delay_no_request(server, head):
    """Row 1: 1,100 of them, more than the HTTP server's own limit was; other clients are still answered."""
    with contextlib.ExitStack() as stack:
        for _ in range(1100):
            stack.enter_context(connect(server)).sendall(head)
        assert answers(server)
        assert answers(server, "/v1/jobs")


def test_an_address_may_have_half_of_all_connections(limited_server):
    """The excess is closed, the idle first; the requests of others, and of itself, go on."""
    with contextlib.ExitStack() as stack:
        flood = [stack.enter_context(connect(limited_server, "127.0.0.2")) for _ in range(LIMIT + 40)]
        quiet = [stack.enter_context(connect(limited_server, "127.0.0.3")) for _ in range(20)]
        wait_until_at_most(LIMIT // 2, flood)
        assert sum(map(is_open, quiet)) == len(quiet)
        assert answers(limited_server)
        assert answers(limited_server, address="127.0.0.2")


def test_many_addresses_together_stay_below_the_limit(limited_server):
    """Then the addresses with the most connections lose some, and those with few none."""
    with contextlib.ExitStack() as stack:
        floods = [
            stack.enter_context(connect(limited_server, f"127.0.1.{number}"))
            for number in range(1, 6)
            for _ in range(48)
        ]
        quiet = [stack.enter_context(connect(limited_server, f"127.0.2.{number}")) for number in range(1, 10)]
        wait_until_at_most(LIMIT, [*floods, *quiet])
        assert all(map(is_open, quiet))
        assert answers(limited_server)


def test_a_check_keeps_the_locks_of_open_files(tmp_path):
    """A process loses its locks of a file, such as SQLite's, when it closes any duplicate of it."""
    script = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'w'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    with (tmp_path / "file").open("w") as file, socket.create_server(("127.0.0.1", 0)):
        fcntl.lockf(file, fcntl.LOCK_EX)
        connection_guard.ConnectionGuard(1_000_000).check()
        command = [sys.executable, "-c", script, file.name]
        other = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "BlockingIOError" in other.stderr


def test_busy_connections_are_closed_last():
    """Those with a request in progress outlive the idle ones of the same address, and new ones the old ones."""
    guard = connection_guard.ConnectionGuard(4)
    connections = [connection_guard.Connection(number, ("10.0.0.1", number)) for number in range(6)]
    guard.busy.update({connections[0].peer, connections[1].peer})
    guard._first_seen = {connection.peer: float(connection.fd) for connection in connections}
    assert [connection.fd for connection in guard._select_excess(connections)] == [2, 3, 4, 5]
    guard.busy.clear()
    assert [connection.fd for connection in guard._select_excess(connections)] == [0, 1, 2, 3]


def test_a_trusted_proxy_has_no_share():
    """Its connections are those of many clients: only the whole limit holds for it."""
    guard = connection_guard.ConnectionGuard(10, {"10.0.0.1"}.__contains__)
    proxied = [connection_guard.Connection(number, ("10.0.0.1", number)) for number in range(12)]
    direct = [connection_guard.Connection(100 + number, ("10.0.0.2", number)) for number in range(3)]
    guard._first_seen = {connection.peer: float(connection.fd) for connection in proxied + direct}
    assert guard._select_excess(proxied[:9] + direct[:1]) == []
    assert {connection.peer[0] for connection in guard._select_excess(proxied[:9] + direct)} == {"10.0.0.2"}
    assert guard._select_excess(proxied) == proxied[:2]


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("10.0.0.1", "10.0.0.2", False),
    ],
)
def test_a_share_belongs_to_an_ipv4_address_or_an_ipv6_network(one, other, is_same):
    """A client has a whole /64 network of IPv6 addresses."""
    assert (connection_guard._network(one) == connection_guard._network(other)) is is_same


@pytest.mark.parametrize(
    ("setting", "files", "expected"), [(4000, 20_000, 4000), (4000, 4096, 3036), (4000, 1024, 579), (4000, 100, 1)]
)
def test_the_limit_of_open_files_lowers_the_limit_of_connections(monkeypatch, setting, files, expected):
    """So that the server never runs out of files."""
    limits = {"getrlimit": lambda _: (256, files), "setrlimit": lambda *_: None}
    monkeypatch.setattr(connection_guard, "resource", modules.with_changes(resource, **limits))
    assert connection_guard.raise_file_limit(setting) == expected


@pytest.mark.parametrize("greeting", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"])
def test_only_http_1_is_spoken(server, greeting):
    """HTTP/2 without TLS, and TLS, end at once."""
    with connect(server) as connection:
        connection.sendall(greeting)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := connection.recv(1000):
                received += chunk
        assert received == b"" or received.startswith(b"HTTP/1.1 4")


def test_a_client_that_does_not_read_is_disconnected(monkeypatch):
    """Row 2: the kernel ends the connection when nothing could be written for a while."""
    monkeypatch.setattr(connection_guard, "WRITE_TIMEOUT_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection_guard.ConnectionGuard(1000).check()
        with socket.create_connection(listener.getsockname()) as client:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(0)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        connection.send(bytes(1_000_000))
                error = waiting.wait_until(lambda: connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 60)
            assert error == errno.ETIMEDOUT
            client.close()


def test_silence_half_a_head_and_idle_connections_end(tmp_path, redis_url, database_template):
    """Row 1: also a head of which a byte comes now and then. Here after one second, in production within 30."""
    assert listener.IDLE_TIMEOUT_MS <= 30_000
    code = "from api.server import listener as it\nit.IDLE_TIMEOUT_MS = 1000\nif __name__ == '__main__': it.serve()"
    with (
        run_api_server(tmp_path, database_template, redis_url, program=("-c", code)) as server,
        contextlib.ExitStack() as stack,
    ):
        starts = {"silent": b"", "half": b"GET / HTTP/1.1\r\nHost:", "drip": b"GET / HTTP/1.1\r\nX: "}
        starts["idle"] = server.request_head("GET", "/livez", Connection="keep-alive")
        connections = {name: stack.enter_context(connect(server)) for name in starts}
        for name, head in starts.items():
            connections[name].sendall(head)
        assert connections["idle"].recv(65536).startswith(b"HTTP/1.1 200")
        deadline = time.monotonic() + 20
        while any(map(is_open, connections.values())) and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                connections["drip"].send(b"x")
            time.sleep(0.2)
        assert [name for name, connection in connections.items() if is_open(connection)] == []


def new_key(server, data_dir, name):
    """Create another key on a running server."""
    db = database.Database(f"sqlite:///{data_dir}/sortbelt.db")
    key = api_keys.generate()
    db.write(api_keys.create, name, enums.Role.ADMIN, key)
    db.close()
    return key


def test_the_requests_of_a_key_that_wait_are_limited(limited_server):
    """Row 2: half of all; the rest gets 429 with Retry-After at once, and another key waits and works as before."""
    data_dir = limited_server.log.parent
    greedy, quiet = new_key(limited_server, data_dir, "greedy"), new_key(limited_server, data_dir, "quiet")
    job = limited_server.request("POST", "/v1/jobs", factories.make_image(), key=greedy, Content_Type="image/png")[2]
    with concurrent.futures.ThreadPoolExecutor(60) as pool:
        waits = [
            pool.submit(limited_server.request, "GET", f"/v1/jobs/{job['id']}?wait=8", key=greedy) for _ in range(60)
        ]
        rejected = [wait for wait in concurrent.futures.as_completed(waits) if wait.result()[0] == 429]
        assert 40 <= len(rejected) <= 50  # a few more may wait: as many as views run at a time
        assert {wait.result()[2]["code"] for wait in rejected} == {"too_many_waits"}
        assert all(int(wait.result()[1]["Retry-After"]) >= 1 for wait in rejected)
    assert {wait.result()[0] for wait in waits} == {200, 429}
    mine = limited_server.request("POST", "/v1/jobs", factories.make_image(2), key=quiet, Content_Type="image/png")[2]
    assert limited_server.request("GET", f"/v1/jobs/{mine['id']}?wait=0.1", key=quiet)[0] == 200


def test_a_submission_that_may_not_wait_is_accepted_at_once(tmp_path, redis_url, database_template):
    """Row 2: 202 without `Preference-Applied`; a later request that wants to wait is rejected."""
    with run_api_server(tmp_path, database_template, redis_url, MAX_WAITS="0") as server:
        image = {"body": factories.make_image(), "Content_Type": "image/png"}
        status, headers, job = server.request("POST", "/v1/jobs", Prefer="wait=20", **image)
        assert (status, headers["Preference-Applied"]) == (202, None)
        assert server.request("GET", f"/v1/jobs/{job['id']}?wait=20")[0] in (429, 503)
