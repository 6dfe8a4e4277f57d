"""Decoder child process: turn untrusted bytes into pixels inside a sandbox.

It reads the descriptors that it is sent, and can neither open files nor reach anything else, nor grow without limit. If
an image crashes it, only that image fails.
"""

import contextlib
import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from multiprocessing import connection
from typing import Any

import numpy as np
import numpy.typing as npt

from core.sandbox import confinement, process_limits
from imaging import codecs, errors
from model.preprocessing import decode
from worker.decoding import protocol


def main(pipe: int, memory_descriptor: int, config: str) -> None:
    """Decode the images that the parent requests until it closes the pipe."""
    limits = json.loads(config)
    process_limits.exit_with_parent(limits["parent"])  # even while a hanging disk blocks us from seeing the closed pipe
    with os.fdopen(memory_descriptor, "r+b") as memory_file:
        memory: npt.NDArray[np.uint8] = np.memmap(memory_file, np.uint8, "r+")
    channel = socket.socket(fileno=os.dup(pipe))
    codecs.load_all()  # before the limits, which count from the memory in use
    process_limits.release_freed_memory()
    process_limits.apply_rlimits(limits["memory_bytes"])
    confinement.confine()
    with connection.Connection(pipe) as parent, contextlib.suppress(EOFError, BrokenPipeError):
        parent.send_bytes(protocol.READY)
        while True:
            request = protocol.decode_request(parent.recv_bytes())
            descriptors = protocol.receive_descriptors(channel, len(request.sha256s))
            parent.send_bytes(protocol.encode_replies(_serve(request, descriptors, memory, limits)))


def _serve(
    request: protocol.Request, descriptors: list[int], memory: npt.NDArray[np.uint8], limits: Mapping[str, Any]
) -> list[protocol.Reply]:
    """Decode the images of a request one by one while there is time, at least the first."""
    started_at, counter = time.monotonic(), protocol.done_counter(memory)
    replies: list[protocol.Reply] = []
    slots = protocol.slots(memory, request.preprocessing)
    for slot, sha256, descriptor in zip(slots, request.sha256s, descriptors, strict=False):
        is_late = request.seconds is not None and time.monotonic() - started_at > request.seconds
        if not (is_late and replies):
            process_limits.limit_cpu_time(limits["cpu_seconds"])
            replies.append(_decode(descriptor, sha256, request.preprocessing, limits["max_pixels"], slot))
            counter[0] += 1
        os.close(descriptor)
    return replies


def _decode(
    descriptor: int, sha256: str, preprocessing: decode.Preprocess, max_pixels: int, slot: npt.NDArray[np.uint8]
) -> protocol.Reply:
    started_at, cpu_started_at = time.perf_counter(), time.process_time()
    code: str | None = None
    detail = ""
    try:
        slot[:] = preprocessing.decode(_read_verified(descriptor, sha256), max_pixels=max_pixels)
    except errors.ImageDecodeError as decode_error:
        code, detail = decode_error.code, decode_error.detail
    except OSError as error:
        code, detail = protocol.UNAVAILABLE_CODE, error.strerror or ""
    except _DigestMismatch:
        code, detail = "blob_corrupt", "The image's bytes in the store differ from the bytes that were submitted."
    ms, cpu_ms = (time.perf_counter() - started_at) * 1000, (time.process_time() - cpu_started_at) * 1000
    return protocol.Reply(code, detail, ms, cpu_ms)


class _DigestMismatch(Exception):
    pass


def _read_verified(descriptor: int, sha256: str) -> bytes:
    with os.fdopen(descriptor, "rb", 0, closefd=False) as file:
        data = file.readall()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise _DigestMismatch
    return data


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
