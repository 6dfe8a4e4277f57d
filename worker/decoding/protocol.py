"""Wire protocol between a decoder process and its parent: a socket for messages, shared memory for pixels.

    child  -> parent   READY
    parent -> child    request: how to preprocess, for how long, and the digest of each image
    parent -> child    a descriptor for each image, in request order: the child needs no path, and may open no file
    child  -> parent   one `Reply` for each image that it has started, in request order

The first bytes of the shared memory count the images done so far, so that the parent knows which image a dead child
was working on. Imports numpy and Pillow only: a child must start fast.
"""

import json
import math
import socket
from collections.abc import Iterable, Sequence
from typing import NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from imaging import errors
from model.preprocessing import decode

READY = b"ready"
DESCRIPTORS = b"d"  # the message that carries them
UNAVAILABLE_CODE = "unavailable"  # the storage failed, not the image
HEADER_BYTES = 64  # a cache line before the pixels
MIN_CHUNK = 8  # images per request while all children are busy
MAX_CHUNK = 32
ARENA_BYTES = 8_000_000  # of pixels per request: larger images go in smaller requests
MAX_REPLY_BYTES = 262_144
MAX_DETAIL = 1000  # characters, as in the column
CODES = {UNAVAILABLE_CODE, "blob_corrupt", *get_args(errors.ErrorCode)}


class Request(NamedTuple):
    """Images to decode."""

    preprocessing: decode.Preprocess
    seconds: float | None
    """After so long no further image is started; None for no limit."""
    sha256s: Sequence[str]


class Reply(NamedTuple):
    """The outcome of decoding one image: an error code or None, its detail, the milliseconds it took, and of CPU."""

    code: str | None
    detail: str
    ms: float
    cpu_ms: float = 0.0


def encode_request(request: Request) -> bytes:
    """Return a request message."""
    return json.dumps([request.preprocessing.to_json(), request.seconds, list(request.sha256s)]).encode()


def decode_request(message: bytes) -> Request:
    """Return the request in a message."""
    preprocessing, seconds, sha256s = json.loads(message)
    return Request(decode.Preprocess.from_json(preprocessing), seconds, sha256s)


def send_descriptors(channel: socket.socket, descriptors: Sequence[int]) -> None:
    """Send copies of open descriptors to the process at the other end of a Unix socket."""
    socket.send_fds(channel, [DESCRIPTORS], descriptors)


def receive_descriptors(channel: socket.socket, count: int) -> list[int]:
    """Receive as many descriptors; the caller closes them.

    Raises:
        EOFError: the other end was closed.
    """
    _, descriptors, _, _ = socket.recv_fds(channel, len(DESCRIPTORS), count)
    if len(descriptors) != count:
        raise EOFError(f"{len(descriptors)} of {count} descriptors were received")
    return descriptors


def encode_replies(replies: Iterable[Reply]) -> bytes:
    """Return a reply message."""
    return json.dumps(list(replies)).encode()


def decode_replies(message: bytes) -> list[Reply]:
    """Return the replies in a reply message.

    Raises:
        ValueError: they are not what a decoder sends, as if an image had taken control of it.
    """
    replies = json.loads(message)
    if not isinstance(replies, list) or not all(map(_is_reply, replies)):
        raise ValueError("a decoder sent a malformed reply")
    return [Reply(*reply) for reply in replies]


def _is_reply(values: object) -> bool:
    if not (isinstance(values, list) and len(values) == len(Reply._fields)):
        return False
    code, detail, *times = values
    return (
        (code is None or (isinstance(code, str) and code in CODES))
        and isinstance(detail, str)
        and len(detail) <= MAX_DETAIL
        and "\0" not in detail
        and all(isinstance(ms, int | float) and 0 <= ms < math.inf for ms in times)
    )


def max_chunk(preprocessing: decode.Preprocess) -> int:
    """Return the largest number of images per request."""
    return max(MIN_CHUNK, min(MAX_CHUNK, ARENA_BYTES // slot_bytes(preprocessing)))


def slot_bytes(preprocessing: decode.Preprocess) -> int:
    """Return the size of one decoded image in bytes."""
    return preprocessing.height * preprocessing.width * 3


def memory_bytes(preprocessing: decode.Preprocess) -> int:
    """Return the size of the shared memory in bytes: the header, and a slot for each image of a request."""
    return HEADER_BYTES + max_chunk(preprocessing) * slot_bytes(preprocessing)


def slots(memory: npt.NDArray[np.uint8], preprocessing: decode.Preprocess) -> npt.NDArray[np.uint8]:
    """View the shared memory as images, uint8 [as many as fit, height, width, 3]."""
    pixels = memory[HEADER_BYTES:]
    count = len(pixels) // slot_bytes(preprocessing)
    return pixels[: count * slot_bytes(preprocessing)].reshape(count, preprocessing.height, preprocessing.width, 3)


def done_counter(memory: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """View the number of images done in the current request, uint32 [1]; the parent resets it to zero."""
    return memory[:4].view(np.uint32)
