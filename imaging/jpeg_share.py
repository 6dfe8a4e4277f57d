"""Measure which share of a JPEG's coefficients came, if the file or its last scan is cut.

libjpeg fills what is missing with grey, whatever comes after it, and does not say so.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from PIL import Image, ImageChops

from imaging.jpeg_structure import Frame, Scan, Structure

END_MARKER = b"\xff\xd9"
COEFFICIENTS = 64
MIN_SHARE = 0.9
MIN_SHARE_BEFORE = 0.65  # the last of several scans, if it has no more than the rest, refines what is there
_RANDOM = random.Random(0)  # noqa: S311 - not for cryptography
_NOISE = [_RANDOM.randbytes(1024).replace(b"\xff", b"\x5a") for _ in range(9)]
FILLER = _NOISE[0] + b"".join(b"\xff" + bytes([0xD0 + number]) + noise for number, noise in enumerate(_NOISE[1:]))
"""Data to go on with: noise, and noise after each of the eight restart markers."""
MISSING_LEVELS = {127, 128}  # a missing sample is half of the range; 127 where Pillow inverts it (CMYK)

Decode = Callable[[bytes, str | None], Image.Image]
"""Decodes a JPEG, in a mode if one is given; the scale is the caller's choice."""


def is_doubtful(structure: Structure, frame: Frame, image: Image.Image) -> bool:
    """Return whether the last scan of a decoded JPEG may have been cut, so that its share should be measured."""
    if len(structure.scans) > 1 or frame.is_progressive or len(structure.scans[0].components) < len(frame.sampling):
        return coefficient_share(frame, structure.scans) < MIN_SHARE or (
            coefficient_share(frame, structure.scans[:-1]) < MIN_SHARE_BEFORE
        )
    if not structure.has_end:
        return True
    corner = image.getpixel((image.width - 1, image.height - 1))
    return MISSING_LEVELS.issuperset(corner if isinstance(corner, tuple) else [corner])


def measure(data: bytes, frame: Frame, scans: list[Scan], decode: Decode) -> float:
    """Return the share of the coefficients that came, from 0 to 1."""
    whole, before = coefficient_share(frame, scans), coefficient_share(frame, scans[:-1])
    return before + (whole - before) * _share_of_scan(data, frame, scans[-1], decode)


def coefficient_share(frame: Frame, scans: list[Scan]) -> float:
    """Return the share of the coefficients in scans, each counted by the bits that it has, if no scan is cut."""
    came = sum(
        h * v * _coefficients(frame, [scan for scan in scans if component in scan.components])
        for component, (h, v) in frame.sampling.items()
    )
    return came / (COEFFICIENTS * sum(h * v for h, v in frame.sampling.values()))


def _coefficients(frame: Frame, scans: list[Scan]) -> float:
    """Return how many coefficients of a component came; one of which one bit of three is missing counts two thirds."""
    if not frame.is_progressive:
        return float(COEFFICIENTS) if scans else 0.0
    # By the number of bits that were missing at first, and that are missing now: a bit mask of the coefficients.
    at_first: dict[int, int] = {}
    now: dict[int, int] = {}
    seen = 0
    for scan in scans:
        band = (2 << min(scan.last, COEFFICIENTS - 1)) - (1 << min(scan.first, COEFFICIENTS - 1))
        at_first[scan.low_bit] = at_first.get(scan.low_bit, 0) | (band & ~seen)
        now = {bits: mask & ~band for bits, mask in now.items()}
        now[scan.low_bit] = now.get(scan.low_bit, 0) | band
        seen |= band
    return sum(
        (first & last).bit_count() * max(0, first_bits - last_bits + 1) / (first_bits + 1)
        for first_bits, first in at_first.items()
        for last_bits, last in now.items()
    )


def _share_of_scan(data: bytes, frame: Frame, scan: Scan, decode: Decode) -> float:
    """Return the share of a scan that came: up to the first unit which further data would change."""
    is_luma = scan.components[0] == next(iter(frame.sampling)) and len(frame.sampling) == 3
    mode = "L" if is_luma else None  # without colour, which is interpolated from one unit into another
    cut = decode(data[: scan.end] + END_MARKER, mode)
    continued = decode(data[: scan.end] + FILLER + END_MARKER, mode)
    difference = ImageChops.difference(cut, continued)
    box = difference.getbbox(alpha_only=False)
    if box is None:
        return 1.0
    width, height = _unit_size(frame, scan, cut.width / frame.width)
    row = int(box[1] / height)
    band = difference.crop((0, int(row * height), cut.width, max(int((row + 1) * height), int(row * height) + 1)))
    column = int((band.getbbox(alpha_only=False) or (0,))[0] / width)
    per_row, rows = -(-cut.width // width), -(-cut.height // height)
    return (row * per_row + column) / (per_row * rows)


def _unit_size(frame: Frame, scan: Scan, scale: float) -> tuple[float, float]:
    """Return the (width, height) in pixels of the units that a scan goes through row by row."""
    h_max, v_max = frame.max_sampling
    h, v = frame.sampling.get(scan.components[0], (1, 1)) if len(scan.components) == 1 else (1, 1)
    return max(1.0, 8 * h_max / h * scale), max(1.0, 8 * v_max / v * scale)
