"""`python -m api.services.thumbnail_server`: a process that forks a child for each image, with the codecs loaded.

To start Python and its codecs takes half a second, a fork some milliseconds. This process itself touches no image, so
a hostile one can harm neither it nor another image. It ends when its parent closes the socket.
"""

import gc
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass

from api.services import thumbnail_child, thumbnail_protocol
from core.sandbox import process_limits
from imaging import codecs

POLL_MS = 100.0  # how late a child that takes too long is killed, at most


@dataclass(frozen=True)
class Child:
    """A running child, and the pipe by which its exit code is reported."""

    pid: int
    pid_fd: int
    report_fd: int
    deadline: float


class ThumbnailServer:
    """Fork a child for each request, and report its exit code."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._children: dict[int, Child] = {}
        self._poll = select.poll()
        self._poll.register(channel.fileno(), select.POLLIN)

    def serve(self) -> None:
        """Serve requests until the parent closes the socket."""
        while True:
            for fd, _event in self._poll.poll(POLL_MS if self._children else None):
                if fd in self._children:
                    self._reap(self._children.pop(fd))
                elif not self._accept():
                    return
            for child in self._children.values():
                if time.monotonic() > child.deadline:
                    signal.pidfd_send_signal(child.pid_fd, signal.SIGKILL)

    def _accept(self) -> bool:
        """Fork a child for the next request; return False if the parent has closed the socket."""
        request = thumbnail_protocol.receive_request(self._channel)
        if request is None:
            return False
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            _run_child(request, parent)
        os.close(request.image_fd)
        os.close(request.output_fd)
        deadline = time.monotonic() + request.limits.seconds
        child = Child(pid, os.pidfd_open(pid), request.report_fd, deadline)
        self._children[child.pid_fd] = child
        self._poll.register(child.pid_fd, select.POLLIN)
        return True

    def _reap(self, child: Child) -> None:
        _, status = os.waitpid(child.pid, 0)
        self._poll.unregister(child.pid_fd)
        os.close(child.pid_fd)
        thumbnail_protocol.send_report(child.report_fd, os.waitstatus_to_exitcode(status))


def _run_child(request: thumbnail_protocol.Request, parent: int) -> None:
    """Make one rendition in this process, and exit."""
    code = 1
    try:
        os.dup2(request.image_fd, thumbnail_child.STDIN)
        os.dup2(request.output_fd, thumbnail_child.STDOUT)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        process_limits.exit_with_parent(parent)
        code = thumbnail_child.run(request.limits)
    finally:
        os._exit(code)


def main(channel_fd: int) -> None:
    """Load the codecs, say so, and serve."""
    process_limits.prefer_oom_kill()
    codecs.load_all()
    process_limits.release_freed_memory()
    gc.freeze()  # else the collections of each child would copy these pages
    with socket.socket(fileno=channel_fd) as channel:
        channel.send(thumbnail_protocol.READY)
        ThumbnailServer(channel).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]))
