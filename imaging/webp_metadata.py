"""Metadata chunks of WebPs: drop them, so that they cannot refuse an image. Source: WebP container specification."""

from __future__ import annotations

import struct
from collections.abc import Iterator

METADATA_CHUNKS = {b"ICCP", b"EXIF", b"XMP "}
METADATA_FLAGS = 0x20 | 0x08 | 0x04  # of the VP8X chunk
MAX_CHUNKS = 100_000


def strip_metadata(data: bytes) -> bytes:
    """Return the WebP without metadata, and without a last chunk that is cut."""
    kept = []
    for kind, start, end in chunks(data):
        if kind == b"VP8X":
            head = data[start : start + 8] + bytes([data[start + 8] & ~METADATA_FLAGS])
            kept.append(head + data[start + 9 : end])
        elif kind not in METADATA_CHUNKS:
            kept.append(data[start:end])
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def exif(data: bytes) -> bytes:
    """Return the EXIF data; empty if there is none."""
    for kind, start, end in chunks(data):
        if kind == b"EXIF":
            return data[start + 8 : end]
    return b""


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the (type, start, end) of each whole chunk."""
    position = 12
    for _ in range(MAX_CHUNKS):
        if position + 9 > len(data):
            break
        kind, size = struct.unpack_from("<4sI", data, position)
        end = position + 8 + size + size % 2
        if end > len(data) + size % 2:  # the byte that pads the last one may be missing
            break
        yield kind, position, end
        position = end
