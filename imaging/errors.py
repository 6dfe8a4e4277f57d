"""The errors of image files."""

from __future__ import annotations

from typing import Literal

ErrorCode = Literal["empty", "too_large", "truncated", "undecodable", "unsupported_format"]


class ImageDecodeError(ValueError):
    """The image cannot be decoded: `code` is machine-readable, `detail` is a sentence or two for people."""

    def __init__(self, code: ErrorCode, detail: str) -> None:
        super().__init__(code, detail)
        self.code: ErrorCode = code
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


def damaged(reason: str = "") -> ImageDecodeError:
    """Return the error of a file whose pixels cannot be decoded."""
    reason = f" ({reason})" if reason else ""
    return ImageDecodeError("undecodable", f"The image is damaged and cannot be decoded{reason}; send an intact copy.")


def out_of_memory() -> ImageDecodeError:
    """Return the error of an image for which the decoder's memory is not enough."""
    return ImageDecodeError("too_large", "Decoding the image exceeds the memory limit; send a smaller one.")
