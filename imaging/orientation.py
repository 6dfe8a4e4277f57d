"""EXIF orientation: read it from metadata that may be broken, and turn pixels upright."""

from __future__ import annotations

from PIL import ExifTags, Image

_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read(image: Image.Image) -> int:
    """Return the orientation in an opened image's metadata: 1 to 8, and 1 if it has none that can be read."""
    # Not ImageOps.exif_transpose: it rewrites the metadata, raises for a malformed tag, and the image stays rotated.
    try:
        return _checked(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # noqa: BLE001 - broken metadata must not fail a good image
        return 1


def from_exif(data: bytes) -> int:
    """Return the orientation in EXIF data, as `read` does."""
    exif = Image.Exif()
    try:
        exif.load(data)
        return _checked(exif.get(ExifTags.Base.Orientation))
    except Exception:  # noqa: BLE001 - broken metadata must not fail a good image
        return 1


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Return the image turned by its orientation; the same object where nothing is to be turned."""
    transpose = _TRANSPOSES.get(orientation)
    return image if transpose is None else image.transpose(transpose)


def _checked(value: object) -> int:
    return value if isinstance(value, int) and value in _TRANSPOSES else 1
