"""Tests for the proxy that the fault tests cut: no thread of it stays."""

import contextlib
import socket
import threading

from tests.faults import tcp_proxy
from tests.support import waiting


def relays():
    return [thread for thread in threading.enumerate() if "(_relay)" in thread.name]


def test_a_cut_connection_leaves_no_thread():
    """Hundreds of waking threads would take the CPU time of later tests."""
    before = len(relays())
    with contextlib.ExitStack() as sockets:
        target = sockets.enter_context(socket.create_server(("127.0.0.1", 0)))
        proxy = tcp_proxy.Proxy(target.getsockname()[1])
        clients, upstreams = [], []
        for _ in range(5):  # one after the other: the proxy connects in threads, in any order
            clients.append(sockets.enter_context(socket.create_connection(("127.0.0.1", proxy.port))))
            upstreams.append(sockets.enter_context(target.accept()[0]))
        clients[0].sendall(b"ping")
        assert upstreams[0].recv(4) == b"ping"
        waiting.wait_until(lambda: len(relays()) == before + len(clients))
        proxy.close()
        waiting.wait_until(lambda: len(relays()) <= before)
