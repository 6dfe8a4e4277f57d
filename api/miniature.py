"""The miniature: a child process that makes one small JPEG of a stranger's picture, and ends.

It reads the picture from its standard input and writes to its standard output, which is a file in memory: the JPEG, or,
when it ends with NONE, a sentence that says why there is none.
"""

import contextlib
import io
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from jobs import confined, parents, pictures

SIDE = 256
MOST_BYTES = 262_144  # of the JPEG; such a one of noise alone has 100,000
CPU_SECONDS = 3
NONE = 3  # the exit code for: it cannot be decoded, and the output says why
QUALITY = 80
WHITE = (255, 255, 255)
ORIENTATION_TAG = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def main(config: str) -> int:
    """Make it; 0, or NONE."""
    limits = json.loads(config)
    parents.die_with(limits["parent"])
    with contextlib.suppress(OSError):  # where memory is short, we are to go, not the server
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    confined.confine(limits["memory_bytes"], MOST_BYTES)
    confined.allow_cpu(CPU_SECONDS)
    made, code = _attempt(limits["max_pixels"])
    os.write(sys.stdout.fileno(), made)
    return code


def _attempt(max_pixels: int) -> tuple[bytes, int]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return small(sys.stdin.buffer.read(), max_pixels=max_pixels), 0
    except UnidentifiedImageError:
        reason = "it is no picture of a known format"
    except MemoryError:
        reason = "decoding it needs too much memory"
    except Exception as error:  # noqa: BLE001 (decoders raise nearly everything on hostile bytes)
        reason = str(error)[:200] or type(error).__name__
    return f"There is no thumbnail of this picture: {reason}.".encode(), NONE


def small(data: bytes, *, max_pixels: int) -> bytes:
    """A JPEG of at most SIDE pixels a side, upright, without any of the picture's metadata.

    Raises:
        Exception: whatever Pillow raises.
    """
    with Image.open(io.BytesIO(data), formats=pictures.FORMATS) as picture:
        if picture.width * picture.height > max_pixels or max(picture.size) > pictures.MAX_SIDE:
            raise ValueError("it is too large")
        picture.draft("RGB", (2 * SIDE, 2 * SIDE))
        picture.load()
        plain = _plain(picture)
        plain.thumbnail((SIDE, SIDE), reducing_gap=2.0)
        turn = _turn(picture)
    upright = plain if turn is None else plain.transpose(turn)
    # Pasted: a copy would have the comment and the rest with it, and they would be written.
    clean = Image.new("RGB", upright.size)
    clean.paste(upright)
    file = io.BytesIO()
    clean.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def _plain(picture: Image.Image) -> Image.Image:
    """As RGB: alpha flattened on white, grey levels beyond eight bits stretched from their own range."""
    if picture.mode.startswith("I") or picture.mode == "F":
        levels = picture.convert("F")  # first: of big-endian ones Pillow knows no extrema
        low, high = map(float, levels.getextrema())  # type: ignore[arg-type]  # one band
        scale = 255 / (high - low) if high > low else 0.0
        return levels.point(lambda level: level * scale - low * scale).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        alpha: Any = picture.convert("RGBA")
        flat = Image.new("RGB", picture.size, WHITE)
        flat.paste(alpha, mask=alpha.getchannel("A"))
        return flat
    return picture.convert("RGB")


def _turn(picture: Image.Image) -> Image.Transpose | None:
    """How it is to be turned to be upright."""
    try:
        return TURNS.get(picture.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 (broken metadata must not lose a good picture)
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
