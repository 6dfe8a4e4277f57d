"""Connection guard: a limit of connections, with a share for each address.

The HTTP server accepts a few more connections than the limit, and the guard closes the excess a moment later. So new
ones are always accepted, those of the probes too, however many others are open. See docs/decisions/0036.
"""

import contextlib
import logging
import os
import resource
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from core.concurrency import periodic

RESERVE = 0.25  # of the limit: connections above it that are accepted until the guard closes the excess
OTHER_FILES = 300  # files and connections of the process besides those of its clients
ADDRESS_SHARES = 2  # one address may have half of the limit
CHECK_SECONDS = 0.25
WRITE_TIMEOUT_SECONDS = 30.0  # a client that reads nothing for so long is disconnected
FILES_FOLDER = "/dev/fd"

log = logging.getLogger(__name__)
Peer = tuple[str, int]
"""The address and port of a client."""


class Connection(NamedTuple):
    """A connection: the number of its file, and its client."""

    fd: int
    peer: Peer


def raise_file_limit(max_connections: int) -> int:
    """Raise the limit of open files as far as is needed and allowed; return how many connections it allows."""
    soft_limit, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = backpressure(max_connections) + OTHER_FILES
    allowed = needed if hard_limit == resource.RLIM_INFINITY else min(needed, hard_limit)
    if soft_limit != resource.RLIM_INFINITY and soft_limit < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard_limit))
    return max(min(max_connections, int((allowed - OTHER_FILES) / (1 + RESERVE))), 1)


def backpressure(max_connections: int) -> int:
    """Return how many connections the HTTP server accepts."""
    return int(max_connections * (1 + RESERVE)) + 1


class ConnectionGuard:
    """The guard of the connections to this process: to the port on which it listens.

    Args:
        max_connections: the limit.
        is_proxy: whether an address is that of a trusted proxy, whose share is the whole limit.

    Attributes:
        busy: the clients whose request is in progress; the ASGI adapter adds and removes them.
    """

    def __init__(self, max_connections: int, is_proxy: Callable[[str], bool] = lambda _address: False) -> None:
        self._port: int | None = None
        self._max_connections = max_connections
        self._is_proxy = is_proxy
        self._max_per_address = max(max_connections // ADDRESS_SHARES, 1)
        self._first_seen: dict[Peer, float] = {}
        self.busy: set[Peer] = set()

    def start(self) -> None:
        """Check regularly, in a thread of this process."""
        periodic.start("connections", self.check, CHECK_SECONDS)

    def check(self) -> int:
        """Close what exceeds the limits; return how many connections were closed."""
        if len(_open_files()) <= self._max_per_address and self._port is not None:
            return 0
        connections = self._list_connections()
        now = time.monotonic()
        self._first_seen = {each.peer: self._first_seen.get(each.peer, now) for each in connections}
        excess = self._select_excess(connections)
        for connection in excess:
            _disconnect(connection)
        if excess:
            addresses = sorted({connection.peer[0] for connection in excess})
            log.warning("%d connections above the limit were closed, of %s", len(excess), ", ".join(addresses[:5]))
        return len(excess)

    def _list_connections(self) -> list[Connection]:
        connections = []
        for fd in _open_files():
            with contextlib.suppress(OSError), _tcp_socket(fd) as sock:  # it is disconnected or closed already
                if sock is None:
                    continue
                if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    self._port = sock.getsockname()[1]
                    _set_write_timeout(sock)  # which the connections inherit
                elif sock.getsockname()[1] == self._port:
                    connections.append(Connection(fd, sock.getpeername()[:2]))
        return connections

    def _select_excess(self, connections: Collection[Connection]) -> list[Connection]:
        """Select the connections to close: of the addresses with the most, first the idle ones, first the oldest."""
        by_address: defaultdict[str, list[Connection]] = defaultdict(list)
        for connection in connections:
            by_address[_network(connection.peer[0])].append(connection)
        proxies = [group for group in by_address.values() if self._is_proxy(group[0].peer[0])]
        others = [group for group in by_address.values() if not self._is_proxy(group[0].peer[0])]
        proxy_share = self._max_connections // max(len(proxies), 1)
        proxied = sum(min(len(group), proxy_share) for group in proxies)
        allowed = self._max_per_address
        while allowed > 1 and proxied + sum(min(len(group), allowed) for group in others) > self._max_connections:
            allowed -= max(allowed // 20, 1)
        excess = []
        for group in by_address.values():
            group.sort(key=lambda each: (each.peer in self.busy, self._first_seen[each.peer]))
            share = proxy_share if group in proxies else allowed
            excess += group[: max(len(group) - share, 0)]
        return excess


def _open_files() -> list[int]:
    return [int(name) for name in os.listdir(FILES_FOLDER)]  # noqa: PTH208 (without objects: it is often called)


@contextlib.contextmanager
def _tcp_socket(fd: int) -> Iterator[socket.socket | None]:
    """Examine an open file of this process as a TCP socket; yield None if it is not one.

    Without a duplicate: to close one of a file of SQLite would release the locks that this process has on that file,
    and another process would then truncate the memory that both share.
    """
    try:
        sock = socket.socket(fileno=fd)
    except OSError:  # it was closed, or is not a socket
        yield None
        return
    try:
        yield sock if sock.family in (socket.AF_INET, socket.AF_INET6) else None
    finally:
        sock.detach()


def _network(address: str) -> str:
    """Return an IPv4 address as it is, and the /64 network of an IPv6 address, since a client has a whole one."""
    if ":" not in address:
        return address
    packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    return (packed if packed.startswith(bytes(10) + b"\xff\xff") else packed[:8]).hex()


def _disconnect(connection: Connection) -> None:
    with _tcp_socket(connection.fd) as sock:
        if sock is None:
            return
        with contextlib.suppress(OSError):  # it is disconnected already, or the file is another one by now
            if sock.getpeername()[:2] == connection.peer:
                sock.shutdown(socket.SHUT_RDWR)


def _set_write_timeout(listener: socket.socket) -> None:
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(WRITE_TIMEOUT_SECONDS * 1000))
