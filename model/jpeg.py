"""Keeps a cheap look at a JPEG's markers: refuses what would cost seconds to decode.

A progressive JPEG may repeat scans without end, and neither Pillow nor libjpeg limits them: 94 KB of
4000 x 4000 pixels with 1,000 scans take 10 s of CPU (measured).
"""

from __future__ import annotations

import re

MAX_SCANS = 100
MAX_SEGMENTS = 10_000

# Not "\xff+": on megabytes of 0xff that takes quadratic time.
_MARKER = re.compile(rb"\xff([^\x00\xff])")
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_WITHOUT_LENGTH = {0x01, _START, *range(0xD0, 0xD8)}
_ENTROPY = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


def trouble(data: bytes) -> str:
    """A sentence for a person when `data` is a JPEG with too many scans or segments, else ''.

    Walks the segments by their lengths, as a decoder does, so that bytes inside metadata or after the
    end of the picture (the video of a "motion photo") are not taken for scans.
    """
    if not data.startswith(b"\xff\xd8"):
        return ""
    position, scans = 2, 0
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(data, position)
        if found is None or found[1][0] == _END:
            return ""
        position = found.end()
        if found[1][0] in _WITHOUT_LENGTH:
            continue
        position += max(2, int.from_bytes(data[position : position + 2], "big"))
        if found[1][0] == _SCAN:
            scans += 1
            if scans > MAX_SCANS:
                return f"The JPEG has more than {MAX_SCANS} scans; save it again as an ordinary JPEG."
            position = _end_of_entropy(data, position)
    return f"The JPEG has more than {MAX_SEGMENTS:,} segments; save it again without its metadata."


def _end_of_entropy(data: bytes, position: int) -> int:
    found = _ENTROPY.search(data, position)
    return found.start() if found else len(data)
