"""A model version in a process of its own, with a memory limit: to test it, or to run it as a shadow."""

import json
import os
import socket
import threading
from multiprocessing import connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core.sandbox import child_command
from model.inference import classifier
from model.packaging import manifest

START_SECONDS = 240.0  # by the wall clock, on a busy machine too
REPLY_SECONDS = 120.0


class ModelProcess:
    """A child process with a loaded and tested bundle; thread-safe."""

    is_on_cpu = False  # of this process

    def __init__(self, folder: Path, memory_bytes: int, niceness: int = 0) -> None:
        """Load the bundle and run its self-test.

        Raises:
            manifest.InvalidBundle: it cannot be used, or needs too much memory or time.
        """
        bundle_manifest = manifest.read(folder)
        self._name = f"{bundle_manifest.name}@{bundle_manifest.version}"
        self.labels, self.preprocess = bundle_manifest.labels, bundle_manifest.preprocess
        self._output_count = len(self.labels) + bool(bundle_manifest.familiarity_digest)
        self._lock = threading.Lock()
        parent_socket, child_socket = socket.socketpair()
        child_command.limit_stalls(parent_socket, REPLY_SECONDS)
        options = {"folder": str(folder), "memory_bytes": memory_bytes, "niceness": niceness}
        config = json.dumps({"parent": os.getpid(), **options})
        with child_socket:
            descriptor = child_socket.fileno()
            self._process = child_command.start(
                "worker.models.model_child", str(descriptor), config, descriptors=[descriptor], OMP_NUM_THREADS="1"
            )
        self._pipe: Any = connection.Connection(parent_socket.detach())
        try:
            error = json.loads(self._receive(START_SECONDS, "loading the bundle"))["error"]
        except BaseException:
            self.close()
            raise
        if error is not None:
            self.close()
            raise manifest.InvalidBundle(error)

    def score(self, pixels: npt.NDArray[np.uint8]) -> classifier.Scores:
        """Return probabilities and familiarity for uint8 RGB pixels [N, height, width, 3].

        Raises:
            manifest.InvalidBundle: the process has died or does not answer; it cannot be used any more.
        """
        with self._lock:
            try:
                self._pipe.send_bytes(pixels.tobytes())
            except OSError:
                raise self._death_error("waiting for a batch") from None
            reply = self._receive(REPLY_SECONDS, "classifying a batch")
        outputs = np.frombuffer(reply, np.float32).reshape(len(pixels), self._output_count).copy()
        return self._to_scores(outputs)

    def unknown(self, count: int) -> classifier.Scores:
        """Return scores of NaN for `count` images."""
        return self._to_scores(np.full((count, self._output_count), np.nan, np.float32))

    def _to_scores(self, outputs: npt.NDArray[np.float32]) -> classifier.Scores:
        count = len(self.labels)
        return classifier.Scores(outputs[:, :count], outputs[:, count] if self._output_count > count else None)

    def close(self) -> None:
        """End the child."""
        self._pipe.close()
        child_command.end(self._process)

    def _receive(self, seconds: float, activity: str) -> bytes:
        try:
            if self._pipe.poll(seconds):
                reply: bytes = self._pipe.recv_bytes()
                return reply
        except (EOFError, OSError):
            raise self._death_error(activity) from None
        raise manifest.InvalidBundle(
            f"The model process of {self._name} was not done {activity} after {seconds:g} s; use a smaller network."
        )

    def _death_error(self, activity: str) -> manifest.InvalidBundle:
        return manifest.InvalidBundle(
            f"The model process of {self._name} died or stopped while {activity}; "
            "it may need more than SORTBELT_MODEL_MEMORY_BYTES, or crash: use a smaller network."
        )
