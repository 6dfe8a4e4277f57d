"""The sizes in the headers of PNGs, GIFs, BMPs, WebPs and TIFFs, read without a library.

The API and the dispatcher read them outside the sandbox, so each reader needs little time and memory for any bytes.
The readers follow Pillow, which decodes these files: they refuse no file that it opens, except those with too many
parts before their first pixel. Sources: PNG, GIF89a, TIFF 6.0, WebP container and RFC 6386, BMP as Pillow reads it.
"""

from __future__ import annotations

import re
import struct
import zlib

from imaging import errors, formats, tiff, webp_metadata

MAX_PNG_CHUNKS = 100_000  # before the pixels
MAX_GIF_BLOCKS = 100_000  # before the first frame; XMP data makes one of some 60 bytes
MAX_TIFF_PIECES = 262_144  # strips or tiles: one for each row of the highest image in four planes

_PNG_MODES = {
    *((depth, 0) for depth in (1, 2, 4, 8, 16)),
    *((depth, 3) for depth in (1, 2, 4, 8)),
    *((depth, colour) for depth in (8, 16) for colour in (2, 4, 6)),
}  # of (bit depth, colour type)
_GIF_PART = re.compile(rb"[!,;]")
_GIF_COMMENT, _GIF_APPLICATION = 0xFE, 0xFF
_BMP_CORE_HEADER = 12
_BMP_HEADERS = {_BMP_CORE_HEADER, 40, 52, 56, 64, 108, 124}
_BMP_BITS = {1, 4, 8, 16, 24, 32}
_BMP_COMPRESSIONS = {0, 1, 2, 3}
_BMP_BIT_FIELDS = 3
_BMP_MASKS: dict[int, set[tuple[int, ...]]] = {
    32: {
        (0xFF0000, 0xFF00, 0xFF, 0),
        (0xFF000000, 0xFF0000, 0xFF00, 0),
        (0xFF000000, 0xFF00, 0xFF, 0),
        (0xFF000000, 0xFF0000, 0xFF00, 0xFF),
        (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
        (0xFF0000, 0xFF00, 0xFF, 0xFF000000),
        (0xFF000000, 0xFF00, 0xFF, 0xFF0000),
        (0, 0, 0, 0),
    },
    24: {(0xFF0000, 0xFF00, 0xFF)},
    16: {(0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)},
}
_WEBP_FIRST = {b"VP8X", b"VP8 ", b"VP8L"}


def png_size(data: bytes) -> tuple[int, int]:
    """Return the (width, height) in the last header before the pixels, whose chunks are intact.

    Raises:
        errors.ImageDecodeError: `undecodable`.
    """
    size, has_mode, position = None, False, 8
    for _ in range(MAX_PNG_CHUNKS):
        head = data[position : position + 8]
        if len(head) < 8:
            raise _cut()
        length, kind = struct.unpack(">I4s", head)
        end = position + 12 + length
        if kind in (b"IHDR", b"PLTE"):
            checked = memoryview(data)[position + 4 : end - 4]
            if end > len(data):
                raise _cut()
            if zlib.crc32(checked) != int.from_bytes(data[end - 4 : end], "big"):
                raise errors.damaged("the check sum of its header or palette is wrong")
        if kind == b"IHDR":
            if length < 13 or data[position + 19]:
                raise errors.damaged("its header is not that of a PNG")
            size = struct.unpack_from(">II", data, position + 8)
            has_mode |= (data[position + 16], data[position + 17]) in _PNG_MODES
        if kind in (b"IDAT", b"fdAT", b"IEND"):
            if size is None or not has_mode:
                raise errors.damaged("its header is not that of a PNG")
            return size
        position = end
    raise errors.ImageDecodeError(
        "undecodable",
        f"The PNG has more than {MAX_PNG_CHUNKS:,} chunks before its pixels; save it without metadata.",
    )


def gif_size(data: bytes) -> tuple[int, int]:
    """Return the (width, height) of the screen, enlarged so that the first frame is within it.

    Raises:
        Exception: `errors.ImageDecodeError`, `IndexError` or `struct.error` for a file without a first frame.
    """
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + _gif_palette_bytes(flags)
    left = MAX_GIF_BLOCKS
    while left > 0:
        part = _GIF_PART.search(data, position)
        if part is None or part[0] == b";":
            raise _cut()
        position = part.end()
        if part[0] == b",":
            x, y, frame_width, frame_height, flags = struct.unpack_from("<HHHHB", data, position)
            data[position + 9 + _gif_palette_bytes(flags)]  # raises IndexError where the frame is cut
            return max(width, x + frame_width), max(height, y + frame_height)
        position, left = _skip_gif_extension(data, position, left)
    raise errors.ImageDecodeError(
        "undecodable",
        f"The GIF has more than {MAX_GIF_BLOCKS:,} blocks before its first frame; save it without metadata.",
    )


def bmp_size(data: bytes) -> tuple[int, int]:
    """Return the (width, height); a negative height, for rows from top to bottom, as a positive one.

    Raises:
        errors.ImageDecodeError: `unsupported_format` for pixels or a header that are not decoded, `undecodable`.
        struct.error: the header is cut.
    """
    (header,) = struct.unpack_from("<I", data, 14)
    if 14 + header > len(data):
        raise _cut()
    if header not in _BMP_HEADERS:
        raise formats.unsupported_kind(f"a BMP with a header of {header} bytes, which is not decoded")
    if header == _BMP_CORE_HEADER:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = colours = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<IIHHI", data, 18)
        (colours,) = struct.unpack_from("<I", data, 46)
        height = 2**32 - height if height >= 0xFF000000 else height
    is_decoded = bits in _BMP_BITS and compression in _BMP_COMPRESSIONS
    if is_decoded and compression == _BMP_BIT_FIELDS:
        masks = struct.unpack_from("<III", data, 54)
        if bits == 32:
            masks += struct.unpack_from("<I", data, 66) if header >= 56 else (0,)
        is_decoded = masks in _BMP_MASKS.get(bits, ())
    if is_decoded and bits <= 8:
        is_decoded = colours <= 65_536
    if not is_decoded:
        raise formats.unsupported_kind(
            f"a BMP of {bits} bits a pixel and compression {compression}, with colour masks or a palette that are not "
            "decoded"
        )
    return width, height


def webp_size(data: bytes) -> tuple[int, int]:
    """Return the (width, height) of the canvas, or of the image in a file without one.

    Raises:
        errors.ImageDecodeError: `undecodable`, also without a whole first image.
        struct.error: a header is cut.
    """
    if data[12:16] not in _WEBP_FIRST:
        raise errors.damaged("its first chunk is not that of a WebP")
    canvas = None
    for kind, start, end in webp_metadata.chunks(data):
        content = data[start + 8 : min(end, start + 18)]
        if kind == b"VP8X" and canvas is None:
            canvas = _uint24(content[4:7]) + 1, _uint24(content[7:10]) + 1
        elif kind == b"ANMF" and canvas:
            return canvas
        elif kind == b"VP8 ":
            if content[3:6] != b"\x9d\x01\x2a":
                break
            width, height = struct.unpack_from("<HH", content, 6)
            return canvas or (width & 0x3FFF, height & 0x3FFF)
        elif kind == b"VP8L":
            if content[:1] != b"\x2f":
                break
            (bits,) = struct.unpack_from("<I", content, 1)
            return canvas or ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    raise errors.damaged("it has no whole image")


def tiff_size(data: bytes) -> tuple[int, int]:
    """Return the (width, height) in the first directory, as stored: not turned.

    Raises:
        errors.ImageDecodeError: `undecodable`.
    """
    directory = tiff.read_directory(data)
    if directory is None:
        raise errors.damaged("its directory is not within the file")
    width, height = directory.values(data, tiff.WIDTH)[:1], directory.values(data, tiff.HEIGHT)[:1]
    if not width or not height:
        raise errors.damaged("its directory has no size")
    pieces = [count for tag, _, count, _ in directory.entries if tag in (tiff.STRIP_OFFSETS, tiff.TILE_OFFSETS)]
    if max(pieces, default=0) > MAX_TIFF_PIECES:
        raise errors.ImageDecodeError(
            "undecodable", f"The TIFF has more than {MAX_TIFF_PIECES:,} strips or tiles; save it with larger ones."
        )
    if not pieces and (directory.values(data, tiff.COMPRESSION)[:1] or (1,)) == (1,):
        raise errors.damaged("its directory does not say where the pixels are")
    return width[0], height[0]


def _cut() -> errors.ImageDecodeError:
    return errors.damaged("the file ends before its first pixel")


def _gif_palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _skip_gif_extension(data: bytes, position: int, left: int) -> tuple[int, int]:
    """Return the position after an extension and the blocks that may still follow, as Pillow counts its blocks.

    It reads on after the end of an extension without a first block, or of a loop without its count.
    """
    label, length = data[position], data[position + 1]
    position += 1
    if label != _GIF_COMMENT:
        is_loop = label == _GIF_APPLICATION and data.startswith(b"NETSCAPE2.0", position + 1) and length >= 11
        position += 1 + length
        if is_loop:
            position += 1 + data[position]
    while left > 0:
        left -= 1
        if position >= len(data):
            raise _cut()
        length = data[position]
        position += 1 + length
        if length == 0:
            break
    return position, left


def _uint24(three_bytes: bytes) -> int:
    if len(three_bytes) < 3:
        raise _cut()
    return int.from_bytes(three_bytes, "little")
