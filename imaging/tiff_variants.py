"""The variants of TIFF that Pillow decodes to the right pixels; of others it makes garbage, without an error.

A test writes every combination by another library, and compares the pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

from imaging import tiff

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
COLOUR_SAMPLES = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, LAB: 3}
UNSIGNED, SIGNED, FLOAT = "unsigned", "signed", "floating-point"
SAMPLE_FORMATS = {1: UNSIGNED, 2: SIGNED, 3: FLOAT, 4: UNSIGNED}
SAMPLES = {
    WHITE_IS_ZERO: {(UNSIGNED, 1), (UNSIGNED, 2), (UNSIGNED, 4), (UNSIGNED, 8), (UNSIGNED, 16), (FLOAT, 32)},
    BLACK_IS_ZERO: {
        *((UNSIGNED, bits) for bits in (1, 2, 4, 8, 12, 16)),
        (SIGNED, 16),
        (SIGNED, 32),
        (FLOAT, 32),
    },
    PALETTE: {(UNSIGNED, bits) for bits in (1, 2, 4, 8)},
    RGB: {(UNSIGNED, 8), (UNSIGNED, 16)},
    CMYK: {(UNSIGNED, 8), (UNSIGNED, 16)},
    YCBCR: {(UNSIGNED, 8)},
    LAB: {(UNSIGNED, 8)},
}
EXTRA_SAMPLES = {(BLACK_IS_ZERO, 8), (RGB, 8), (RGB, 16), (CMYK, 8), (CMYK, 16)}  # (photometric interpretation, bits)
LITTLE_ENDIAN_ONLY = {(WHITE_IS_ZERO, 16), (BLACK_IS_ZERO, 12)}
NO_COMPRESSION, JPEG = 1, 7
FAX = {2, 3, 4, 32771}
COMPRESSIONS = {NO_COMPRESSION, *FAX, 5, JPEG, 8, 32773, 32946, 34925, 50000}  # LZW, deflate, PackBits, LZMA, Zstandard


@dataclass(frozen=True)
class Variant:
    """How the pixels of a TIFF are stored."""

    samples: int
    kind: str
    bits: int
    """Of each sample; 0 if they differ."""
    photometric: int
    is_planar: bool
    compression: int
    is_big_endian: bool
    has_alpha: bool
    """Whether the first extra sample is said to be alpha."""

    def __str__(self) -> str:
        planes = " in planes of their own" if self.is_planar else ""
        return (
            f"a TIFF with {self.samples} {self.kind} sample(s) of {self.bits or 'different'} bits{planes}, photometric "
            f"interpretation {self.photometric} and compression {self.compression}, a combination that is not decoded"
        )

    @property
    def is_decoded(self) -> bool:
        """Whether the pixels are decoded, and come out right."""
        extra = self.samples - COLOUR_SAMPLES.get(self.photometric, self.samples)
        return (
            (self.kind, self.bits) in SAMPLES.get(self.photometric, ())
            and self.compression in COMPRESSIONS
            and (extra == 0 or (extra == 1 and self._is_extra_right()))
            and not (self.is_big_endian and (self.photometric, self.bits) in LITTLE_ENDIAN_ONLY)
            and self._is_compression_right()
            and (not self.is_planar or self._is_planar_right(extra))
        )

    def _is_extra_right(self) -> bool:
        is_known = self.kind == UNSIGNED and (self.photometric, self.bits) in EXTRA_SAMPLES
        return is_known and not (self.photometric == CMYK and self.has_alpha)

    def _is_compression_right(self) -> bool:
        if self.compression in FAX:
            return self.bits == 1 and self.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO)
        if self.compression == JPEG:
            return self.bits == 8 and self.photometric != PALETTE
        return self.compression == NO_COMPRESSION or not self.is_big_endian or self.kind == UNSIGNED

    def _is_planar_right(self, extra: int) -> bool:
        return self.samples >= 3 and (self.compression != NO_COMPRESSION or (self.bits == 8 and extra == 0))


def read_variant(data: bytes) -> Variant | None:
    """Return how the pixels of a TIFF are stored; None if its directory is damaged."""
    directory = tiff.read_directory(data)
    if directory is None or not directory.is_whole or not directory.values(data, tiff.PHOTOMETRIC):
        return None
    bits = set(directory.values(data, tiff.BITS) or (1,))
    formats = set(directory.values(data, tiff.SAMPLE_FORMAT) or (1,))
    (samples, *_) = directory.values(data, tiff.SAMPLES) or (1,)
    return Variant(
        samples,
        SAMPLE_FORMATS.get(formats.pop(), "complex") if len(formats) == 1 else "mixed",
        bits.pop() if len(bits) == 1 else 0,
        directory.values(data, tiff.PHOTOMETRIC)[0],
        samples > 1 and directory.values(data, tiff.PLANAR)[:1] == (2,),
        (*directory.values(data, tiff.COMPRESSION), NO_COMPRESSION)[0],
        directory.order == ">",
        directory.values(data, tiff.EXTRA_SAMPLES)[:1] not in ((), (0,)),
    )
