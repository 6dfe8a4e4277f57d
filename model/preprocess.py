"""Keeps the one way from a file's bytes to the pixels that a network sees, in training and in serving.

Imports Pillow and numpy only: small decoder processes load this file and must not pay for torch.
"""

from __future__ import annotations

import dataclasses
import io
import warnings
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from PIL import Image, UnidentifiedImageError

from model import jpeg

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
MAX_PIXELS = 40_000_000
MAX_SIDE = 16_384
DETAIL = 256  # so many pixels a side a JPEG keeps when it is decoded smaller, however few the network wants
WHITE = (255, 255, 255)

Code = Literal["undecodable", "too_large", "unsupported_format", "empty"]
Resample = Literal["box", "hamming", "bilinear", "bicubic", "lanczos"]

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadPicture(ValueError):
    """A picture that will never decode: `code` for programs, `detail` (one sentence) for people."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(code, detail)
        self.code: Code = code
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """What a network expects of its input; stored in its bundle.

    `pixels` stretches a picture to `width` x `height` with the `resample` filter; the classifier then
    computes (pixels / 255 - mean) / std on the device. The default mean and std mean "divide by 255".
    """

    width: int
    height: int
    resample: Resample = "box"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE):
            raise ValueError(f"width and height must be 1 to {MAX_SIDE}, not {self.width} x {self.height}.")
        if self.resample not in get_args(Resample):
            raise ValueError(f"resample must be one of {', '.join(get_args(Resample))}, not {self.resample!r}.")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError("mean and std need three numbers each, and std must be above zero.")

    def pixels(self, data: bytes) -> npt.NDArray[np.uint8]:
        """One file's bytes as uint8 [height, width, 3] in RGB.

        Raises:
            BadPicture: for anything that is not a picture we accept.
        """
        picture = open_picture(data, at_least=(max(2 * self.width, DETAIL), max(2 * self.height, DETAIL)))
        try:
            resample = Image.Resampling[self.resample.upper()]
            return np.array(picture.resize((self.width, self.height), resample), dtype=np.uint8)
        except MemoryError:
            raise _out_of_memory() from None

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Preprocess:
        """The inverse of `to_json`; raises ValueError for fields that this version does not know."""
        unknown = set(fields) - {field.name for field in dataclasses.fields(cls)}
        if unknown:
            raise ValueError(f"unknown preprocessing {sorted(unknown)}: it needs a newer version of sortbelt.")
        try:
            values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
            return cls(**values)
        except TypeError as wrong:
            raise ValueError(f"preprocessing is incomplete or of the wrong type: {wrong}.") from wrong


def open_picture(data: bytes, *, max_pixels: int = MAX_PIXELS, at_least: tuple[int, int] | None = None) -> Image.Image:
    """The first frame of a file as an upright RGB picture, alpha flattened on white.

    Args:
        data: the whole file.
        max_pixels: a header that promises more is refused before anything is decoded.
        at_least: (width, height) that the caller will shrink to. A JPEG may then be decoded at 1/2, 1/4
            or 1/8 of its sides, never smaller than this; None decodes it in full. docs/decisions/0026 tells what
            that saves, and how far the pixels then differ.

    Raises:
        BadPicture: with its code, whatever Pillow raised.
    """
    if not data:
        raise BadPicture("empty", "The file has no bytes; send a picture.")
    jpeg_trouble = jpeg.trouble(data)
    if jpeg_trouble:
        raise BadPicture("undecodable", jpeg_trouble)
    # Pillow warns about odd metadata; a warning must not change the verdict under `python -W error`.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _decode(data, max_pixels, at_least)


def _decode(data: bytes, max_pixels: int, at_least: tuple[int, int] | None) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            _check_size(picture.size, max_pixels)
            if at_least:
                # The orientation is not known yet: the longer side must serve for either.
                picture.draft(None, (max(at_least), max(at_least)))
            picture.load()
            return _upright(_rgb(picture), picture)
    except BadPicture:
        raise
    except MemoryError:
        raise _out_of_memory() from None
    except Image.DecompressionBombError:
        raise BadPicture("too_large", f"The picture has far more than {max_pixels:,} pixels.") from None
    except UnidentifiedImageError:
        raise _unidentified(data) from None
    except Exception as wrong:  # noqa: BLE001 - decoders raise nearly everything on hostile bytes
        reason = str(wrong) or type(wrong).__name__
        raise BadPicture("undecodable", f"The picture is damaged and cannot be decoded ({reason}).") from None


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise BadPicture("undecodable", f"The picture says it is {width} x {height} pixels.")
    if width * height > max_pixels or max(size) > MAX_SIDE:
        limit = f"{max_pixels:,} pixels and {MAX_SIDE:,} a side are the limits"
        raise BadPicture("too_large", f"The picture is {width:,} x {height:,} pixels; {limit}.")


def _unidentified(data: bytes) -> BadPicture:
    if data.startswith(_SIGNATURES):
        return BadPicture("undecodable", "The file begins like a picture, but its header is damaged.")
    return BadPicture("unsupported_format", f"This is not a picture in one of {', '.join(FORMATS)}.")


def _out_of_memory() -> BadPicture:
    return BadPicture("too_large", "Decoding the picture needs more memory than it may use; send a smaller one.")


def _upright(picture: Image.Image, source: Image.Image) -> Image.Image:
    try:
        orientation = source.getexif().get(_ORIENTATION_TAG)
    except Exception:  # noqa: BLE001 - broken metadata must not lose a good picture
        orientation = None
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return picture if turn is None else picture.transpose(turn)


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        return _scaled(picture)
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        return _flattened(picture.convert("RGBA"))
    return picture if picture.mode == "RGB" else picture.convert("RGB")  # which would copy it


def _flattened(picture: Image.Image) -> Image.Image:
    background = Image.new("RGB", picture.size, WHITE)
    background.paste(picture, mask=picture.getchannel("A"))
    return background


def _scaled(picture: Image.Image) -> Image.Image:
    """Grey levels beyond eight bits, stretched from the picture's own range to 0..255 (Pillow would clip)."""
    # In place throughout: at the limit of pixels each copy is 160 MB of a decoder's one gigabyte.
    values = np.array(picture, dtype=np.float32)
    finite = np.isfinite(values)
    if not finite.any():
        return Image.new("RGB", picture.size)
    low = float(values.min(where=finite, initial=np.inf))
    high = float(values.max(where=finite, initial=-np.inf))
    np.nan_to_num(values, copy=False, nan=low, posinf=high, neginf=low)
    # In halves, because high - low itself may overflow a float32.
    span = high / 2 - low / 2
    values /= 2
    values -= low / 2
    values *= 255 / span if span > 0 else 0
    return Image.fromarray(np.rint(values, out=values).astype(np.uint8), "L").convert("RGB")
