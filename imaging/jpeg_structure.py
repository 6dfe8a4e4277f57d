"""Walk the segments of a JPEG: its size and scans, without decoding it. Source: ITU-T T.81.

A progressive JPEG may have any number of scans, and neither Pillow nor libjpeg limits them: a file of 94 KB with
4000 x 4000 pixels and 1,000 scans takes 10 s of CPU (measured).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MAX_SCANS = 100
MAX_SEGMENTS = 10_000

# Not "\xff+", which takes quadratic time on megabytes of 0xff.
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_NEAR_BYTES, _WINDOW_BYTES = 256, 16_384
_BYTE_KINDS = bytes([0, *[1] * 254, 0xFF])
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_STANDALONE_MARKERS = {0x01, _SOI, *range(0xD0, 0xD8)}
_ENTROPY_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7}
_PROGRESSIVE = {0xC2, 0xCA}
_ARITHMETIC = {0xC9, 0xCA}
_UNSUPPORTED_FRAMES = {0xC3: "a lossless JPEG", 0xCB: "a lossless JPEG", 0xF7: "a JPEG-LS"}
_SUPPORTED_FRAMES = {0xC0, 0xC1, 0xC2, *_ARITHMETIC}


@dataclass(slots=True)
class Frame:
    """The frame header: coding, size, and (horizontal, vertical) sampling factors by component id."""

    marker: int
    precision: int
    height: int
    width: int
    sampling: dict[int, tuple[int, int]]

    @property
    def is_progressive(self) -> bool:
        """Whether the coefficients come in several scans."""
        return self.marker in _PROGRESSIVE

    @property
    def unsupported_kind(self) -> str:
        """The kind of the file, with its article, if it is not decoded; else empty."""
        if self.marker not in _SUPPORTED_FRAMES:
            return _UNSUPPORTED_FRAMES.get(self.marker, "a hierarchical JPEG")
        return "" if self.precision == 8 else f"a JPEG of {self.precision} bits a sample"

    @property
    def max_sampling(self) -> tuple[int, int]:
        """The largest (horizontal, vertical) sampling factors."""
        return max(h for h, _ in self.sampling.values()), max(v for _, v in self.sampling.values())

    @property
    def coefficient_bytes(self) -> int:
        """The memory for all coefficients, which a progressive JPEG needs."""
        (h_max, v_max), samples = self.max_sampling, sum(h * v for h, v in self.sampling.values())
        return self.width * self.height * samples * 2 // (h_max * v_max)


@dataclass(slots=True)
class Scan:
    """A scan: its components, its band of coefficients, its lowest bit, and the end of its data in the file."""

    components: tuple[int, ...]
    first: int
    last: int
    low_bit: int
    end: int


@dataclass
class Structure:
    """The frame and the scans that a walk over a JPEG finds."""

    frame: Frame | None = None
    scans: list[Scan] = field(default_factory=list)
    has_end: bool = False
    problem: str = ""
    """Why decoding it would take too long, or empty."""


def walk(data: bytes, *, is_header_enough: bool = False) -> Structure:
    """Walk the segments by their lengths, as a decoder does, up to the first end marker, or to the first scan.

    Bytes in metadata or after the end of the image (the video of a "motion photo") do not count as scans.
    """
    found, position = Structure(), 2
    for _ in range(MAX_SEGMENTS):
        position = start = _marker_end(data, position)
        if not start:
            return found
        code = data[start - 1]
        if code == _EOI:
            found.has_end = True
            return found
        if code in _STANDALONE_MARKERS:
            continue
        position += max(2, int.from_bytes(data[start : start + 2], "big"))
        if code in _FRAMES and found.frame is None:
            found.frame = _parse_frame(code, data[start + 2 : position])
        if code == _SOS:
            end = position if is_header_enough else _entropy_end(data, position)
            found.scans.extend(_parse_scan(data[start + 2 : position], end))
            if is_header_enough:
                return found
            if len(found.scans) > MAX_SCANS:
                found.problem = f"The JPEG has more than {MAX_SCANS} scans; save it as a baseline JPEG."
                return found
            position = end
    found.problem = f"The JPEG has more than {MAX_SEGMENTS:,} segments; save it without metadata."
    return found


def _marker_end(data: bytes, position: int) -> int:
    """Return the end of the next marker; 0 if there is none."""
    marker = _MARKER.search(data, position, position + _NEAR_BYTES)
    if marker:
        return marker.end()
    # A regular expression takes up to 2.5 s for 50 MB, all of 0xff, and this less than a third of it (measured).
    for start in range(position, len(data), _WINDOW_BYTES - 1):  # each window begins with the last byte of another
        found = data[start : start + _WINDOW_BYTES].translate(_BYTE_KINDS).find(b"\xff\1")
        if found >= 0:
            return start + found + 2
    return 0


def _entropy_end(data: bytes, position: int) -> int:
    marker = _ENTROPY_END.search(data, position)
    return marker.start() if marker else len(data)


def _parse_frame(marker: int, segment: bytes) -> Frame | None:
    if len(segment) < 6 or len(segment) < 6 + 3 * segment[5]:
        return None
    sampling = {
        segment[start]: (max(1, segment[start + 1] >> 4), max(1, segment[start + 1] & 15))
        for start in range(6, 6 + 3 * segment[5], 3)
    }
    height, width = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
    return Frame(marker, segment[0], height, width, sampling) if sampling else None


def _parse_scan(segment: bytes, end: int) -> list[Scan]:
    """Return the scan of a header, in a list that is empty if the header is cut."""
    if not segment or len(segment) < 4 + 2 * segment[0]:
        return []
    components = tuple(segment[1 : 1 + 2 * segment[0] : 2])
    first, last, bits = segment[1 + 2 * segment[0] :][:3]
    return [Scan(components, first, last, bits & 15, end)]
