"""Start and stop a decoder child process, with its pipe and the memory that it shares with its parent."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Mapping
from multiprocessing import connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core import errors
from core.sandbox import child_command
from model.preprocessing import decode
from worker.decoding import protocol

START_SECONDS = 60.0
EXIT_SECONDS = 0.2  # a dying child may still report its exit code


class ChildProcess:
    """A running decoder child: process, pipe and shared memory."""

    def __init__(self, memory_bytes: int, config: Mapping[str, object], stall_seconds: float) -> None:
        """Start the child; one that stops in the middle of a message raises BlockingIOError after `stall_seconds`."""
        self._is_ready = False
        parent_socket, child_socket = socket.socketpair()
        child_command.limit_stalls(parent_socket, stall_seconds)
        memory_descriptor = os.memfd_create("pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.truncate(memory_descriptor, memory_bytes)
        # A child that shrinks it would end this process at the next access.
        fcntl.fcntl(memory_descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        descriptors = [child_socket.fileno(), memory_descriptor]
        with child_socket, os.fdopen(memory_descriptor, "r+b") as memory_file:
            arguments = [*map(str, descriptors), json.dumps(config)]
            self.process = child_command.start(
                "worker.decoding.decoder_child", *arguments, descriptors=descriptors, OPENBLAS_NUM_THREADS="1"
            )
            self.memory: npt.NDArray[np.uint8] = np.memmap(memory_file, np.uint8, "r+")
        self.pipe: Any = connection.Connection(os.dup(parent_socket.fileno()))
        self.channel = parent_socket
        """The same socket as the pipe, for descriptors."""

    def await_ready(self) -> None:
        """Wait until the child has started; the time is not counted against any image.

        Raises:
            errors.ServiceUnavailable: it does not start.
        """
        if self._is_ready:
            return
        try:
            self._is_ready = self.pipe.poll(START_SECONDS) and self.pipe.recv_bytes(16) == protocol.READY
        except (EOFError, OSError):
            self._is_ready = False
        if not self._is_ready:
            raise errors.ServiceUnavailable("A decoder process does not start; see its own error output above.")

    def fits(self, preprocessing: decode.Preprocess) -> bool:
        """Return whether the shared memory holds a request's images of this size."""
        return len(self.memory) >= protocol.memory_bytes(preprocessing)

    def done_count(self) -> int:
        """Return how many images of the current request are done."""
        return int(protocol.done_counter(self.memory)[0])

    def reset_done_count(self) -> None:
        """Begin a new request."""
        protocol.done_counter(self.memory)[0] = 0

    def is_runnable(self) -> bool:
        """Return whether the child is computing, or would if the machine gave it a CPU: it does not wait for a disk."""
        try:
            status = Path(f"/proc/{self.process.pid}/stat").read_text("ascii", "replace")
        except OSError:
            return False
        return status.rpartition(")")[2].split()[0] == "R"

    def stop(self, wait_seconds: float = EXIT_SECONDS) -> int:
        """End the child, by force if it does not end in time; return its exit code."""
        self.pipe.close()
        self.channel.close()
        deadline = time.monotonic() + wait_seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        self.process.kill()
        return self.process.wait()
