"""The first directory of a TIFF: what kind of file it is, and its tags without metadata. Source: TIFF 6.0, BigTIFF."""

from __future__ import annotations

import struct
from dataclasses import dataclass

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MAX_ENTRIES = 4096
MAX_VALUES = 64  # of a tag; those that are read here have a few
INTEGER_TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q"}
TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}

WIDTH, HEIGHT, STRIP_OFFSETS, TILE_OFFSETS = 256, 257, 273, 324
SUBFILE_TYPE, BITS, COMPRESSION, PHOTOMETRIC, MAKE, SAMPLES, PLANAR = 254, 258, 259, 262, 271, 277, 284
SUB_IFDS, EXTRA_SAMPLES, SAMPLE_FORMAT, DNG_VERSION = 330, 338, 339, 50706
PIXEL_TAGS = {
    *range(254, 267), 273, 274, 277, 278, 279, 280, 281, 284, 292, 293, 301, 317, 318, 319, 320,
    *range(321, 326), 330, 332, 334, 336, 338, 339, 347, *range(512, 522), 529, 530, 531, 532,
}  # fmt: skip
"""The tags that decide about pixels; all others are metadata."""
CFA_PHOTOMETRICS = {32803, 34892}  # samples of a sensor's colour filters, and linear ones of a RAW photo
RAW_KINDS = {b"NIKON": "NEF", b"SONY": "ARW", b"PENTAX": "PEF", b"RICOH": "PEF", b"SAMSUNG": "SRW", b"Canon": "CR2"}


@dataclass(frozen=True)
class Directory:
    """The first directory of a TIFF: its entries as (tag, type, count, bytes of the entry)."""

    order: str
    """`<` or `>`, as in `struct`."""
    is_big: bool
    offset: int
    entries: list[tuple[int, int, int, bytes]]
    is_whole: bool
    """Whether all entries are within the file."""

    def values(self, data: bytes, tag: int) -> tuple[int, ...]:
        """Return the integers of a tag, at most `MAX_VALUES` of them; an empty tuple if it has none."""
        for entry_tag, kind, count, entry in self.entries:
            if entry_tag == tag and kind in INTEGER_TYPES:
                raw = self.raw(data, kind, min(count, MAX_VALUES), count, entry)
                letter = INTEGER_TYPES[kind]
                return struct.unpack_from(f"{self.order}{len(raw) // TYPE_BYTES[kind]}{letter}", raw)
        return ()

    def text(self, data: bytes, tag: int) -> bytes:
        """Return the first bytes of a text; empty if there is none."""
        for entry_tag, kind, count, entry in self.entries:
            if entry_tag == tag and kind == 2:
                return self.raw(data, kind, min(count, MAX_VALUES), count, entry)
        return b""

    def raw(self, data: bytes, kind: int, length: int, count: int, entry: bytes) -> bytes:
        """Return the bytes of the first `length` of `count` values; empty if not all of them are within the file."""
        field = entry[12:] if self.is_big else entry[8:]
        if TYPE_BYTES[kind] * count > len(field):
            start = int.from_bytes(field, "little" if self.order == "<" else "big")
            is_within = start + TYPE_BYTES[kind] * count <= len(data)
            field = data[start : start + TYPE_BYTES[kind] * length] if is_within else b""
        return field[: TYPE_BYTES[kind] * length]


def read_directory(data: bytes) -> Directory | None:
    """Return the first directory, without the entries that are not within the file; None if it begins beyond it."""
    order, is_big = "<" if data[:2] == b"II" else ">", data[2:3] == b"+" or data[3:4] == b"+"
    try:
        (offset,) = struct.unpack_from(order + "Q", data, 8) if is_big else struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + ("Q" if is_big else "H"), data, min(offset, len(data)))
    except struct.error:
        return None
    start, size = offset + (8 if is_big else 2), 20 if is_big else 12
    entries = []
    for position in range(start, start + min(count, MAX_ENTRIES) * size, size):
        entry = data[position : position + size]
        if len(entry) < size:
            break
        tag, kind, value_count = struct.unpack_from(order + ("HHQ" if is_big else "HHI"), entry)
        entries.append((tag, kind, value_count, entry))
    return Directory(order, is_big, offset, entries, len(entries) == min(count, MAX_ENTRIES))


def raw_kind(data: bytes) -> str:
    """Return the kind of a RAW photo that is a TIFF, with its article; empty for other files.

    The first image of such a file is a small preview, or the samples of a sensor.
    """
    directory = read_directory(data) if data.startswith(SIGNATURES) else None
    if directory is None:
        return ""
    tags = {tag for tag, *_ in directory.entries}
    if DNG_VERSION in tags:
        return "a RAW photo (DNG)"
    is_preview = directory.values(data, SUBFILE_TYPE)[:1] == (1,) and {SUB_IFDS, MAKE} <= tags
    if is_preview or CFA_PHOTOMETRICS.intersection(directory.values(data, PHOTOMETRIC)):
        make = directory.text(data, MAKE)
        kind = next((kind for prefix, kind in RAW_KINDS.items() if make.startswith(prefix)), "")
        return f"a RAW photo ({kind})" if kind else "a RAW photo"
    return ""


def strip_metadata(data: bytes) -> bytes:
    """Return the file with only the tags that decide about pixels in its first directory, and no further directory."""
    directory = read_directory(data)
    if directory is None or not directory.is_whole:
        return data
    entries = [entry for tag, _, _, entry in directory.entries if tag in PIXEL_TAGS]
    count = struct.pack(directory.order + ("Q" if directory.is_big else "H"), len(entries))
    stripped = b"".join([count, *entries, bytes(8 if directory.is_big else 4)])
    return data[: directory.offset] + stripped + data[directory.offset + len(stripped) :]
