"""Start the thumbnail server when the first image is to be shown, and again when it has died."""

import contextlib
import os
import select
import socket
import subprocess
import threading
import weakref
from dataclasses import dataclass

from api.services import thumbnail_child, thumbnail_protocol
from core import errors
from core.sandbox import child_command

START_SECONDS = 60.0
GRACE_SECONDS = 5.0  # beyond the time limit of an image, in which its child is killed


@dataclass(frozen=True)
class Server:
    """A running thumbnail server."""

    process: subprocess.Popen[bytes]
    channel: socket.socket

    def stop(self) -> None:
        """Close the socket, at which it ends; kill it if it does not."""
        self.channel.close()
        child_command.end(self.process)


class ThumbnailProcess:
    """The thumbnail server of this process; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: Server | None = None

    def render(self, image_fd: int, output_fd: int, limits: thumbnail_child.Limits) -> int:
        """Have a child write a rendition into a file; return its exit code, negative for a signal.

        Raises:
            errors.ServiceUnavailable: the thumbnail server does not start, or has died; the next call starts another.
        """
        server = self._running_server()
        report_fd, write_fd = os.pipe()
        try:
            try:
                request = thumbnail_protocol.Request(limits, image_fd, output_fd, write_fd)
                thumbnail_protocol.send_request(server.channel, request)
            finally:
                os.close(write_fd)
            poll = select.poll()
            poll.register(report_fd, select.POLLIN)
            code = None
            if poll.poll((limits.seconds + GRACE_SECONDS) * 1000):
                code = thumbnail_protocol.receive_report(report_fd)
        except OSError:
            code = None
        finally:
            os.close(report_fd)
        if code is None:
            self._discard(server)
            raise errors.ServiceUnavailable("The thumbnail process has ended; retry the request.")
        return code

    def _running_server(self) -> Server:
        with self._lock:
            if self._server is None:
                self._server = _start()
                weakref.finalize(self, self._server.stop)
            return self._server

    def _discard(self, server: Server) -> None:
        with self._lock:
            if self._server is server:
                self._server = None
        server.stop()


def _start() -> Server:
    """Start a server, and wait until it is ready.

    Raises:
        errors.ServiceUnavailable: it does not start.
    """
    channel, remote = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with remote:
        descriptor = remote.fileno()
        process = child_command.start("api.services.thumbnail_server", str(descriptor), descriptors=[descriptor])
    server = Server(process, channel)
    ready = b""
    channel.settimeout(START_SECONDS)
    with contextlib.suppress(OSError):
        ready = channel.recv(len(thumbnail_protocol.READY))
    channel.settimeout(None)
    if ready != thumbnail_protocol.READY:
        server.stop()
        raise errors.ServiceUnavailable("The thumbnail process does not start; see its own error output above.")
    return server
