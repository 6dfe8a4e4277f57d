"""Metadata chunks of PNGs: drop those that are broken or too long, so that they cannot refuse an image."""

from __future__ import annotations

import struct
import zlib

from imaging import errors

PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
TRANSPARENCY = b"tRNS"
EXIF = b"eXIf"
PACKED_CHUNKS = {b"iCCP", b"zTXt", b"iTXt"}
MAX_KEPT_BYTES = 65_536
MAX_UNPACKED_BYTES = 64_000_000  # of one chunk; more is a decompression bomb
MAX_RATIO = 1032  # of zlib
MAX_CHUNKS = 1_000_000


def strip_metadata(data: bytes) -> bytes:
    """Return the PNG with its pixels, and of its metadata only transparency and EXIF, if they are intact.

    Raises:
        errors.ImageDecodeError: `undecodable`, for metadata that is a decompression bomb.
    """
    kept, position = [data[:8]], 8
    for _ in range(MAX_CHUNKS):
        head = data[position : position + 8]
        if len(head) < 8:
            break
        length, kind = struct.unpack(">I4s", head)
        end = position + 12 + length
        if _is_kept(kind, data[position:end], length):
            kept.append(data[position:end])
        elif kind in PACKED_CHUNKS:
            _check_unpacked_size(data[position + 8 : end - 4])
        position = end
    return b"".join(kept)


def _is_kept(kind: bytes, chunk: bytes, length: int) -> bool:
    if kind in PIXEL_CHUNKS:
        return True
    is_wanted = kind == TRANSPARENCY or (kind == EXIF and length <= MAX_KEPT_BYTES)
    return is_wanted and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")


def _check_unpacked_size(content: bytes) -> None:
    if len(content) * MAX_RATIO > MAX_UNPACKED_BYTES and _unpacked_bytes(content, MAX_UNPACKED_BYTES) >= (
        MAX_UNPACKED_BYTES
    ):
        raise errors.ImageDecodeError(
            "undecodable",
            f"The PNG has metadata of more than {MAX_UNPACKED_BYTES:,} bytes, packed; save it without metadata.",
        )


def _unpacked_bytes(content: bytes, limit: int) -> int:
    """Return how many bytes a chunk's zlib stream unpacks to, at most `limit`; 0 if it has none."""
    start = content.find(b"\x78")  # the first byte of a zlib stream, after the keyword and its flags
    unpacker, total, block = zlib.decompressobj(), 0, content[max(0, start) :]
    try:
        while block and total < limit:
            total += len(unpacker.decompress(block, 1_000_000))
            block = unpacker.unconsumed_tail
    except zlib.error:
        pass
    return total
