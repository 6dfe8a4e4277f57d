"""A TCP proxy that can be told to fail: to refuse, to swallow, to cut, to be slow."""

import contextlib
import selectors
import socket
import threading
import time

PIECE = 65_536


class Proxy:
    """Listens on a port of its own and passes everything on to another; what it does may change at any time.

    Attributes:
        port: where it listens.
        delay_seconds: how long each piece is held up.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener: socket.socket | None = None
        self._lines: list[socket.socket] = []
        self._swallows = False
        self._lock = threading.Lock()
        self.delay_seconds = 0.0
        self.port = 0
        self.heal()

    def heal(self) -> None:
        """Pass everything on again; connections that were swallowed are cut."""
        if self._swallows:
            self.cut()
        self._swallows = False
        self.delay_seconds = 0.0
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port), reuse_port=True)
            self.port = self._listener.getsockname()[1]
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def refuse(self) -> None:
        """Cut what is connected, and let nobody connect."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            self._listener.close()
            self._listener = None
        self.cut()

    def swallow(self) -> None:
        """Take connections and bytes, and pass nothing on: the other side is there and never answers."""
        self._swallows = True

    def cut(self) -> None:
        """Cut what is connected, in the middle of whatever it is saying."""
        with self._lock:
            lines, self._lines = self._lines, []
        for line in lines:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()

    def close(self) -> None:
        """End it."""
        self.refuse()

    def overhear(self, line: socket.socket, piece: bytes) -> None:
        """Is called with what the near side says on a line, before it is passed on; for those who want to know."""

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(("127.0.0.1", self._target), timeout=5)
        except OSError:
            near.close()
            return None
        with self._lock:
            self._lines += [near, far]
        other = {near: far, far: near}
        with selectors.DefaultSelector() as both, contextlib.suppress(OSError, ValueError):
            for line in other:
                both.register(line, selectors.EVENT_READ)
            while True:
                if self._swallows:
                    time.sleep(0.05)
                    continue
                for key, _ in both.select(0.2):
                    piece = key.fileobj.recv(PIECE)
                    time.sleep(self.delay_seconds)
                    if not piece:
                        return self._hang_up(near, far)
                    if key.fileobj is near:
                        self.overhear(near, piece)
                    if not self._swallows:
                        other[key.fileobj].sendall(piece)
        return self._hang_up(near, far)

    def _hang_up(self, *lines: socket.socket) -> None:
        for line in lines:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()
        with self._lock:
            self._lines = [line for line in self._lines if line not in lines]
