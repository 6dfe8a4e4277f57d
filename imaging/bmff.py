"""Boxes of ISO base media files (HEIC, AVIF, videos): what a file is, and the size of its primary image.

Source: ISO/IEC 14496-12 (boxes) and 23008-12 (items, `ispe`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from typing import Literal

HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
AVIF_BRANDS = {b"avif", b"avis"}
IMAGE_BRANDS = {b"mif1", b"mif2", b"msf1", b"miaf"}  # of images in any coding
RAW_BRANDS = {b"crx ": "a RAW photo (CR3)"}
MAX_BOXES = 10_000
MAX_ASSOCIATION_BOXES = 16  # the standard has at most one for each version and flags


def image_format(data: bytes) -> Literal["HEIC", "AVIF"] | None:
    """Return whether a file is a HEIC or an AVIF, by its brands; None if it is neither."""
    major, *compatible = _brands(data) or [b""]
    for brands in ([major], compatible if major in IMAGE_BRANDS else []):
        if AVIF_BRANDS.intersection(brands):
            return "AVIF"
        if HEIC_BRANDS.intersection(brands):
            return "HEIC"
    return "HEIC" if major in IMAGE_BRANDS else None


def unsupported_kind(data: bytes) -> str:
    """Return what a file with brands of no image is, with its article; empty if it has no brands."""
    brands = _brands(data)
    if not brands or image_format(data):
        return ""
    return RAW_BRANDS.get(brands[0], "a video (QuickTime)" if brands[0] == b"qt  " else "a video (MP4)")


def image_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) of the primary image, as stored: not cropped and not turned.

    Raises:
        ValueError: the file has no such image, or its boxes are damaged.
    """
    meta = _child(data, b"meta", 0, len(data))
    properties = _child(data, b"iprp", meta[0] + 4, meta[1])
    sizes = _sizes_by_property(data, *_child(data, b"ipco", *properties))
    item = _primary_item(data, *_child(data, b"pitm", meta[0] + 4, meta[1]))
    boxes = ((start, end) for kind, start, end in _boxes(data, *properties) if kind == b"ipma")
    for start, end in islice(boxes, MAX_ASSOCIATION_BOXES):
        for index in _associations(data, start, end, item):
            if index in sizes:
                return sizes[index]
    raise ValueError("no size of the primary image")


def _brands(data: bytes) -> list[bytes]:
    """Return the major brand and then the compatible ones; an empty list if there is no `ftyp` box."""
    if data[4:8] != b"ftyp":
        return []
    end = min(int.from_bytes(data[:4], "big"), 4096)
    return [data[8:12], *(data[start : start + 4] for start in range(16, end, 4))]


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, start, end) of the content of each box."""
    for _ in range(MAX_BOXES):
        if start + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1:
            head, size = 16, int.from_bytes(data[start + 8 : start + 16], "big")
        box_end = end if size == 0 else start + size
        if not start + head <= box_end <= end:
            raise ValueError(f"the box {kind!r} ends beyond the file")
        yield kind, start + head, box_end
        start = box_end


def _child(data: bytes, kind: bytes, start: int, end: int) -> tuple[int, int]:
    """Return the bounds of the first box of a type."""
    for box_kind, box_start, box_end in _boxes(data, start, end):
        if box_kind == kind:
            return box_start, box_end
    raise ValueError(f"no box {kind!r}")


def _sizes_by_property(data: bytes, start: int, end: int) -> dict[int, tuple[int, int]]:
    """Return the (width, height) in the `ispe` boxes, by their one-based index among the properties."""
    return {
        index: struct.unpack_from(">II", data, box_start + 4)
        for index, (kind, box_start, box_end) in enumerate(_boxes(data, start, end), start=1)
        if kind == b"ispe" and box_end - box_start >= 12
    }


def _primary_item(data: bytes, start: int, end: int) -> int:
    return int.from_bytes(data[start + 4 : end][: 2 if data[start] == 0 else 4], "big")


def _associations(data: bytes, start: int, end: int, item: int) -> list[int]:
    """Return the property indexes of an item in an `ipma` box; an empty list if it has none."""
    version, is_wide = data[start], data[start + 3] & 1
    id_bytes, index_bytes = 2 if version == 0 else 4, 2 if is_wide else 1
    (count,) = struct.unpack_from(">I", data, start + 4)
    position = start + 8
    for _ in range(min(count, MAX_BOXES)):
        if position + id_bytes >= end:
            break
        item_id, length = int.from_bytes(data[position : position + id_bytes], "big"), data[position + id_bytes]
        position += id_bytes + 1
        if item_id == item:
            mask = 0x7FFF if is_wide else 0x7F
            ends = range(position, min(position + length * index_bytes, end), index_bytes)
            return [int.from_bytes(data[at : at + index_bytes], "big") & mask for at in ends]
        position += length * index_bytes
    return []
