"""The size in the header of a JPEG XL. Source: ISO/IEC 18181-1 (SizeHeader) and 18181-2 (boxes)."""

from __future__ import annotations

import struct

CODESTREAM = b"\xff\x0a"
MAX_BOXES = 1000
RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
SIDE_BITS = (9, 13, 18, 30)


def image_size(data: bytes) -> tuple[int, int]:
    """Return (width, height).

    Raises:
        ValueError: the header is not within the file.
    """
    codestream = data if data.startswith(CODESTREAM) else _first_codestream(data)
    bits = _Bits(codestream[2:18])
    is_small = bool(bits.read(1))
    height = _read_side(bits, is_small=is_small)
    if ratio := bits.read(3):
        numerator, denominator = RATIOS[ratio - 1]
        return height * numerator // denominator, height
    return _read_side(bits, is_small=is_small), height


def _read_side(bits: _Bits, *, is_small: bool) -> int:
    return (bits.read(5) + 1) * 8 if is_small else bits.read(SIDE_BITS[bits.read(2)]) + 1


def _first_codestream(data: bytes) -> bytes:
    """Return the first bytes of the codestream in a container: in a `jxlc` box, or in the first `jxlp` box."""
    position = 0
    for _ in range(MAX_BOXES):
        if position + 8 > len(data):
            break
        size, kind = struct.unpack_from(">I4s", data, position)
        head = 8
        if size == 1:
            head, size = 16, int.from_bytes(data[position + 8 : position + 16], "big")
        start = position + head + (4 if kind == b"jxlp" else 0)
        if kind in (b"jxlc", b"jxlp") and data.startswith(CODESTREAM, start):
            return data[start : start + 32]
        if size < head:
            break
        position += size
    raise ValueError("no codestream")


class _Bits:
    """Read numbers from bytes, lowest bits first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def read(self, count: int) -> int:
        """Return the next `count` bits; raise ValueError beyond the end."""
        if count > self._left:
            raise ValueError("the header is cut")
        value, self._value = self._value & ((1 << count) - 1), self._value >> count
        self._left -= count
        return value
