"""Decode JPEGs, at a reduced size where the caller needs no more."""

from __future__ import annotations

import io
import struct

from PIL import Image, JpegImagePlugin

from imaging import errors, formats, jpeg_share, jpeg_structure, limits, orientation

_METADATA = {*range(0xE1, 0xEE), 0xEF, 0xFE}  # APP1 to APP13, APP15 and comments; APP0 and APP14 define the colours
_EXIF, _ADOBE = 0xE1, 0xEE


def read_size(data: bytes) -> tuple[int, int]:
    """Return the (width, height) in the frame header.

    Raises:
        errors.ImageDecodeError: `unsupported_format` for its coding, `undecodable` without a frame and a scan.
    """
    frame = _checked_frame(jpeg_structure.walk(data, is_header_enough=True))
    return frame.width, frame.height


def decode(data: bytes, max_pixels: int, min_side: int | None) -> tuple[Image.Image, int]:
    """Return the pixels in the JPEG's own colours, and the EXIF orientation.

    Args:
        data: the whole file.
        max_pixels: the most pixels that may be decoded; a larger image is decoded at a reduced size.
        min_side: decode no more than so many pixels on the shorter side need; None decodes in full, if it may.

    Raises:
        errors.ImageDecodeError: `truncated` if less than 90 % of the coefficients came, and others.
        Exception: anything that Pillow raises.
    """
    structure = jpeg_structure.walk(data)
    if structure.problem:
        raise errors.ImageDecodeError("undecodable", structure.problem)
    frame = _checked_frame(structure)
    if len(frame.sampling) == 4 and not _has_adobe_marker(data):
        raise formats.unsupported_kind("a CMYK JPEG without Adobe's marker, so that its inks may be inverted")
    scale = limits.jpeg_scale(frame.width, frame.height, max_pixels, min_side)
    limits.check_size(frame.width, frame.height, max_pixels, scale)
    if frame.is_progressive:
        bytearray(frame.coefficient_bytes)  # raises MemoryError; where libjpeg runs out, the image seems damaged
    end = structure.scans[-1].end
    if not structure.has_end or data[end - 1] == 0xFF:  # a last 0xff is the half of a marker or of a data byte
        data = data[:end].rstrip(b"\xff") + jpeg_share.END_MARKER
    source, image = data, None
    try:
        image = _load(data, frame, scale)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - Pillow raises nearly every type on hostile metadata
        source = strip_metadata(data)
    image = image or _load(source, frame, scale)
    if jpeg_share.is_doubtful(structure, frame, image):
        _check_share(source, max_pixels)
    return image, orientation.read(image) if source is data else _exif_orientation(data)


def strip_metadata(data: bytes) -> bytes:
    """Return the JPEG without metadata before its first scan."""
    kept = [data[:2]]
    for code, start, end in _header_segments(data):
        if code not in _METADATA:
            kept.append(data[start:end])
        position = end
    return b"".join([*kept, data[position:]]) if len(kept) > 1 else data


def _checked_frame(structure: jpeg_structure.Structure) -> jpeg_structure.Frame:
    frame = structure.frame
    if frame is not None and frame.unsupported_kind:
        raise formats.unsupported_kind(frame.unsupported_kind)
    if frame is None or not structure.scans:
        raise errors.ImageDecodeError("undecodable", "The JPEG ends before its first pixel; send the whole file.")
    return frame


def _load(data: bytes, frame: jpeg_structure.Frame, scale: int, mode: str | None = None) -> Image.Image:
    # Not Image.open, which has a pixel limit of its own, and looks for further images in a JPEG.
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    image.draft(mode, (max(1, frame.width // scale), max(1, frame.height // scale)))
    image.decodermaxblock = len(data)  # in one piece, since libjpeg cannot wait for more in arithmetic coding
    image.load()
    return image


def _check_share(data: bytes, max_pixels: int) -> None:
    # Again, since the segments of this data may have been stripped.
    structure = jpeg_structure.walk(data)
    frame = _checked_frame(structure)
    # A sequential scan has the mean of every block, which the smallest scale shows; others only refine it.
    is_whole = len(structure.scans) > 1
    scale = limits.jpeg_scale(frame.width, frame.height, max_pixels, None if is_whole else 1)
    share = jpeg_share.measure(data, frame, structure.scans, lambda part, mode: _load(part, frame, scale, mode))
    if share < jpeg_share.MIN_SHARE:
        raise errors.ImageDecodeError(
            "truncated", f"The file has only {int(share * 100)} % of the image data; send the complete file."
        )


def _has_adobe_marker(data: bytes) -> bool:
    return any(code == _ADOBE and data[start + 4 : start + 9] == b"Adobe" for code, start, _ in _header_segments(data))


def _exif_orientation(data: bytes) -> int:
    for code, start, end in _header_segments(data):
        if code == _EXIF and data[start + 4 : start + 10] == b"Exif\0\0":
            return orientation.from_exif(data[start + 10 : end])
    return 1


def _header_segments(data: bytes) -> list[tuple[int, int, int]]:
    """Return the (marker, start, end) of each segment before the first scan, as far as they are intact."""
    segments: list[tuple[int, int, int]] = []
    position = 2
    while data[position : position + 1] == b"\xff" and len(segments) < jpeg_structure.MAX_SEGMENTS:
        while data[position + 1 : position + 2] == b"\xff":
            position += 1
        head = data[position + 1 : position + 4]
        if len(head) < 3 or head[0] == 0xDA:
            break
        end = position + 2 + struct.unpack(">H", head[1:])[0]
        segments.append((head[0], position, end))
        position = end
    return segments
