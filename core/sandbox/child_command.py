"""Command, environment, input, start and end of the Python child processes that work on untrusted input."""

import io
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PYTHON_PATH = [str(Path(__file__).parent.parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]

EXIT_SECONDS = 1.0


def command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module; the current folder is not among those that it imports from."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment(**variables: str) -> dict[str, str]:
    """Return these variables and the path of Python's modules, nothing else: the parent's environment has passwords."""
    return {**variables, "PYTHONPATH": os.pathsep.join(PYTHON_PATH)}


def start(module: str, *arguments: str, descriptors: Sequence[int], **variables: str) -> subprocess.Popen[bytes]:
    """Start a child that runs a module, with these descriptors and variables; its stdout is dropped."""
    return subprocess.Popen(
        command(module, *arguments),
        pass_fds=descriptors,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=environment(**variables),
        start_new_session=True,  # ctrl-C in a terminal is for the parent only
    )


def memory_file(data: bytes) -> io.FileIO:
    """Return a file in memory from which a child can read these bytes."""
    file = io.FileIO(os.memfd_create("image"), "r+")
    remaining = memoryview(data)
    while remaining:
        remaining = remaining[file.write(remaining) :]
    file.seek(0)
    return file


def limit_stalls(parent_socket: socket.socket, seconds: float) -> None:
    """Let messages to and from a child that stops in the middle of one for so long raise BlockingIOError."""
    whole, part = divmod(max(1, round(seconds * 1_000_000)), 1_000_000)  # zero would be no limit
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        parent_socket.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", whole, part))


def end(process: subprocess.Popen[bytes]) -> None:
    """Wait until a child has ended, whose connection was closed; kill it after `EXIT_SECONDS`."""
    try:
        process.wait(EXIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
