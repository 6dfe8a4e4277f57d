"""Check the header of an image file, and decode the file to an upright RGB image."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from PIL import Image

from imaging import (
    bmff,
    codecs,
    errors,
    formats,
    jpeg,
    jpeg_xl,
    limits,
    orientation,
    pixels,
    plugins,
    sizes,
    tiff_variants,
)

DECODERS: dict[formats.Format, codecs.Decoder] = {
    "JPEG": jpeg.decode,
    "HEIC": codecs.decode_heic,
    "AVIF": codecs.decode_avif,
    "JPEG XL": codecs.decode_jpeg_xl,
}
SIZE_READERS: dict[formats.Format, Callable[[bytes], tuple[int, int]]] = {
    "JPEG": jpeg.read_size,
    "PNG": sizes.png_size,
    "GIF": sizes.gif_size,
    "BMP": sizes.bmp_size,
    "WebP": sizes.webp_size,
    "TIFF": sizes.tiff_size,
    "HEIC": bmff.image_size,
    "AVIF": bmff.image_size,
    "JPEG XL": jpeg_xl.image_size,
}


def check_header(data: bytes, *, max_pixels: int = limits.MAX_PIXELS) -> None:
    """Check the format and the size of a file by its header, without decoding it, and without Pillow.

    It runs outside the sandbox: every reader takes little time and memory, whatever the bytes are.

    Raises:
        errors.ImageDecodeError: `empty`, `unsupported_format`, `undecodable` or `too_large`.
    """
    image_format = formats.identify(data)
    try:
        width, height = SIZE_READERS[image_format](data)
    except Exception as error:  # noqa: BLE001 - hostile headers raise anything
        raise _image_error(image_format, data, error) from None
    scale = limits.JPEG_SCALES[-1] if image_format == "JPEG" else 1
    limits.check_size(width, height, max_pixels, scale)


def open_image(
    data: bytes, *, max_pixels: int = limits.MAX_PIXELS, min_size: tuple[int, int] | None = None
) -> Image.Image:
    """Decode the first frame of a file to an upright RGB image, with alpha flattened on white.

    Args:
        data: the whole file.
        max_pixels: the most pixels that are decoded. An image whose header declares more is rejected before it is
            decoded; a JPEG is decoded at 1/2, 1/4 or 1/8 of its sides if that is within the limit.
        min_size: (width, height) that the caller will shrink to. A JPEG may then be decoded at a reduced size, but not
            below this size; None decodes it in full. Decision 26 measures the difference.

    Raises:
        errors.ImageDecodeError: for every error, whatever the codec raised.
    """
    image_format = formats.identify(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata; under `python -W error` it must not make the image fail
        try:
            return _decode(image_format, data, max_pixels, min_size)
        except Exception as error:  # noqa: BLE001 - decoders raise nearly every type on hostile bytes
            raise _image_error(image_format, data, error) from None


def _decode(
    image_format: formats.Format, data: bytes, max_pixels: int, min_size: tuple[int, int] | None
) -> Image.Image:
    decoder = DECODERS.get(image_format)
    if image_format != "JPEG":
        check_header(data, max_pixels=max_pixels)  # codecs decode, or need much memory, while they open a file
    if decoder is None:
        image, image_orientation = plugins.decode(image_format, data, max_pixels)
    else:
        # The orientation is not known yet, so the longer side limits both.
        image, image_orientation = decoder(data, max_pixels, max(min_size) if min_size else None)
    return orientation.turn_upright(pixels.to_rgb(image, image_format, data), image_orientation)


def _image_error(image_format: formats.Format, data: bytes, error: Exception) -> errors.ImageDecodeError:
    """Return the error to report; without the texts of libraries, which name constants and functions."""
    if isinstance(error, errors.ImageDecodeError):
        return error
    if isinstance(error, MemoryError):
        return errors.out_of_memory()
    if isinstance(error, Image.DecompressionBombError):
        return errors.ImageDecodeError("too_large", "The image has far too many pixels; send a smaller one.")
    if image_format == "TIFF" and "unknown" in str(error) and (kind := tiff_variants.read_variant(data)):
        return formats.unsupported_kind(str(kind))
    is_cut = "truncated" in str(error).lower() or isinstance(error, EOFError)
    return errors.damaged("the file ends before its last pixel" if is_cut else "")
