"""Make one rendition of an untrusted image, in a process of its own that then exits.

The image comes by standard input, and standard output is a file in memory: for the JPEG, or, with the exit code
`EXIT_NO_THUMBNAIL`, for a sentence with the reason why there is none.
"""

import io
import os
from dataclasses import dataclass

from PIL import Image

from core.sandbox import confinement, process_limits
from imaging import decode, errors

CPU_SECONDS = 3
EXIT_NO_THUMBNAIL = 3
JPEG_QUALITY = 80
STDIN, STDOUT = 0, 1


@dataclass(frozen=True)
class Size:
    """A size in which images are shown."""

    name: str
    max_side: int
    """In pixels."""
    max_bytes: int
    """Of the JPEG; more than one of pure noise has."""


THUMBNAIL = Size("thumbnail", 256, 262_144)
PREVIEW = Size("preview", 1600, 4_000_000)


@dataclass(frozen=True)
class Limits:
    """The limits of one rendition."""

    size: Size
    max_pixels: int
    memory_bytes: int
    """How far the process may grow."""
    seconds: float
    """By the wall clock; the parent enforces it."""


def run(limits: Limits) -> int:
    """Confine this process, and write the rendition; return 0, or `EXIT_NO_THUMBNAIL`."""
    process_limits.apply_rlimits(limits.memory_bytes, limits.size.max_bytes)
    confinement.confine(keep_streams=(STDIN, STDOUT))
    process_limits.limit_cpu_time(CPU_SECONDS)
    output, code = _try_render(limits)
    os.write(STDOUT, output)
    return code


def _try_render(limits: Limits) -> tuple[bytes, int]:
    try:
        with os.fdopen(STDIN, "rb", closefd=False) as file:
            return render(file.read(), limits.size, max_pixels=limits.max_pixels), 0
    except errors.ImageDecodeError as error:
        return f"This image has no thumbnail: {error.detail}".encode(), EXIT_NO_THUMBNAIL
    except MemoryError:
        return b"This image has no thumbnail: making it needs too much memory.", EXIT_NO_THUMBNAIL


def render(data: bytes, size: Size, *, max_pixels: int) -> bytes:
    """Return a JPEG within a size, upright, without the metadata of the image, and not larger than the image.

    Raises:
        errors.ImageDecodeError: the image cannot be decoded, as in a worker.
    """
    box = (size.max_side, size.max_side)
    rgb = decode.open_image(data, max_pixels=max_pixels, min_size=box)
    rgb.thumbnail(box, reducing_gap=2.0)
    # Pasted into a new image: a copy would keep the metadata, and `save` would write it.
    clean = Image.new("RGB", rgb.size)
    clean.paste(rgb)
    buffer = io.BytesIO()
    clean.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
