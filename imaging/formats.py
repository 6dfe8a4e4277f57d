"""Recognise the format of an image file by its first bytes."""

from __future__ import annotations

from typing import Literal, get_args

from imaging import bmff, errors, tiff, tiff_variants, unsupported

Format = Literal["JPEG", "PNG", "GIF", "BMP", "WebP", "TIFF", "HEIC", "AVIF", "JPEG XL"]
FORMATS: tuple[Format, ...] = get_args(Format)
"""The formats that are decoded."""
FORMAT_LIST = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"

SIGNATURES: dict[bytes, Format] = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
}


def identify(data: bytes) -> Format:
    """Return the format of a file.

    Raises:
        errors.ImageDecodeError: `empty`, or `unsupported_format`, which names what the file is where that is known.
    """
    if not data:
        raise errors.ImageDecodeError("empty", "The file is empty; send the image.")
    image_format = _by_signature(data)
    kind = unsupported.describe(data) if image_format in (None, "TIFF", "PNG") else ""
    if image_format == "TIFF" and not kind:
        variant = tiff_variants.read_variant(data)
        kind = "" if variant is None or variant.is_decoded else str(variant)
    if kind:
        raise unsupported_kind(kind)
    if image_format is None:
        raise errors.ImageDecodeError("unsupported_format", f"The file is not an image; send {FORMAT_LIST}.")
    return image_format


def unsupported_kind(kind: str) -> errors.ImageDecodeError:
    """Return the error of a file of a known kind that is not decoded: `a PDF`."""
    return errors.ImageDecodeError("unsupported_format", f"The file is {kind}; send {FORMAT_LIST}.")


def _by_signature(data: bytes) -> Format | None:
    for signature, image_format in SIGNATURES.items():
        if data.startswith(signature):
            return image_format
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    if data.startswith(tiff.SIGNATURES):
        return "TIFF"
    return bmff.image_format(data)
