"""Messages between the API and its thumbnail server: limits as JSON, files as descriptors, exit codes by a pipe."""

import contextlib
import dataclasses
import json
import os
import socket
import struct
from dataclasses import dataclass

from api.services import thumbnail_child

READY = b"ready"
MAX_MESSAGE_BYTES = 4096
DESCRIPTORS = 3
REPORT = struct.Struct("=i")


@dataclass(frozen=True)
class Request:
    """One rendition to make."""

    limits: thumbnail_child.Limits
    image_fd: int
    output_fd: int
    report_fd: int
    """The end of a pipe for the exit code."""


def send_request(channel: socket.socket, request: Request) -> None:
    """Send a request; the descriptors stay open here.

    Raises:
        OSError: the thumbnail server has ended.
    """
    message = json.dumps(dataclasses.asdict(request.limits)).encode()
    socket.send_fds(channel, [message], [request.image_fd, request.output_fd, request.report_fd])


def receive_request(channel: socket.socket) -> Request | None:
    """Wait for a request; return None when the other end is closed."""
    message, descriptors, _flags, _address = socket.recv_fds(channel, MAX_MESSAGE_BYTES, DESCRIPTORS)
    if not message:
        return None
    values = json.loads(message)
    limits = thumbnail_child.Limits(**values | {"size": thumbnail_child.Size(**values["size"])})
    return Request(limits, *descriptors)


def send_report(report_fd: int, exit_code: int) -> None:
    """Send an exit code, negative for a signal, and close the pipe; the parent may have stopped waiting."""
    with contextlib.suppress(BrokenPipeError):
        os.write(report_fd, REPORT.pack(exit_code))
    os.close(report_fd)


def receive_report(report_fd: int) -> int | None:
    """Read an exit code; return None if the thumbnail server has ended before."""
    data = os.read(report_fd, REPORT.size)
    return REPORT.unpack(data)[0] if len(data) == REPORT.size else None
