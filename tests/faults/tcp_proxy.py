"""TCP proxy that can be made to fail: to refuse, to swallow, to cut, to be slow."""

import contextlib
import selectors
import socket
import threading
import time

CHUNK_BYTES = 65_536


class Proxy:
    """Listen on one port and relay to another; its behaviour can be changed at any time.

    Attributes:
        port: the port it listens on.
        delay_seconds: the delay of each chunk.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener: socket.socket | None = None
        self._sockets: list[socket.socket] = []
        self._blackholed = False
        self._lock = threading.Lock()
        self.delay_seconds = 0.0
        self.port = 0
        self.heal()

    def heal(self) -> None:
        """Relay again; cut the connections that were swallowed."""
        if self._blackholed:
            self.cut_connections()
        self._blackholed = False
        self.delay_seconds = 0.0
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port), reuse_port=True)
            self.port = self._listener.getsockname()[1]
            threading.Thread(target=self._accept_loop, args=(self._listener,), daemon=True).start()

    def refuse(self) -> None:
        """Cut all connections, and refuse new ones."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes up the accepting thread
            self._listener.close()
            self._listener = None
        self.cut_connections()

    def blackhole(self) -> None:
        """Accept connections and bytes, but relay nothing: the target seems to hang."""
        self._blackholed = True

    def cut_connections(self) -> None:
        """Cut all connections, even in the middle of a message."""
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def close(self) -> None:
        """Close the proxy."""
        self.refuse()

    def on_client_data(self, sock: socket.socket, data: bytes) -> None:
        """Do nothing; subclasses can observe what a client sends before it is relayed."""

    def _accept_loop(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(client, listener), daemon=True).start()

    def _relay(self, client: socket.socket, listener: socket.socket) -> None:
        try:
            upstream = socket.create_connection(("127.0.0.1", self._target_port), timeout=5)
        except OSError:
            client.close()
            return None
        with self._lock:
            self._sockets += [client, upstream]
        if self._listener is not listener:  # refused since: this connection may have been missed
            return self._close_sockets(client, upstream)
        peer_of = {client: upstream, upstream: client}
        with selectors.DefaultSelector() as selector, contextlib.suppress(OSError, ValueError):
            for sock in peer_of:
                selector.register(sock, selectors.EVENT_READ)
            while client.fileno() >= 0:  # a socket that is closed elsewhere is never ready
                if self._blackholed:
                    time.sleep(0.05)
                    continue
                for key, _ in selector.select(0.2):
                    data = key.fileobj.recv(CHUNK_BYTES)
                    time.sleep(self.delay_seconds)
                    if not data:
                        return self._close_sockets(client, upstream)
                    if key.fileobj is client:
                        self.on_client_data(client, data)
                    if not self._blackholed:
                        peer_of[key.fileobj].sendall(data)
        return self._close_sockets(client, upstream)

    def _close_sockets(self, *sockets: socket.socket) -> None:
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        with self._lock:
            self._sockets = [sock for sock in self._sockets if sock not in sockets]
