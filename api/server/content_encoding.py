"""Content-Encoding of request bodies: gzip and zstd, decoded piece by piece within the limits of the body."""

import io
import os
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from api.server.request_body import Message, RequestBody

try:
    from compression import zstd  # type: ignore[import-not-found,unused-ignore]
except ImportError:  # before Python 3.14
    from backports import zstd  # type: ignore[no-redef,unused-ignore]

IDENTITY = {"", "identity"}
MAX_WINDOW_LOG = 23  # 8 MiB of memory, as RFC 9659 asks of every decoder
MAX_MEMBERS = 1_000  # gzip members or zstd frames: each takes time with the interpreter lock, even without content
INPUT_BYTES = 250_000  # given to a decompressor at a time
GZIP_BITS = 31  # of zlib: with a header and a checksum


class UnsupportedEncoding(Exception):
    """The Content-Encoding is not supported; send gzip, zstd or none."""


class MalformedEncoding(Exception):
    """The body is not what its Content-Encoding says; encode it, or leave the header out."""


def is_encoded(scope: Message) -> bool:
    """Return whether a request says that its body is encoded."""
    return _encoding(scope) not in IDENTITY


async def decode(body: RequestBody, scope: Message) -> None:
    """Decode a body that has arrived; beyond its limit it is counted and discarded.

    Raises:
        UnsupportedEncoding: its encoding is not supported.
        MalformedEncoding: it is damaged, of another encoding, or made of too many pieces.
        body_budget.BudgetExceeded: there is no memory for it.
    """
    encoding = _encoding(scope)
    open_decoder = DECODERS.get(encoding)
    if open_decoder is None:
        names = " or ".join(name for name in DECODERS if name != "x-gzip")
        raise UnsupportedEncoding(
            f"Content-Encoding: {encoding[:100]} is not supported; send {names}, or no such header."
        )
    try:
        await body.decode(open_decoder)
    except (EOFError, zlib.error, zstd.ZstdError) as error:
        reason = "it is cut off" if isinstance(error, EOFError) else "it is damaged, or has another encoding or none"
        raise MalformedEncoding(
            f"The body is not {encoding}, as Content-Encoding says: {reason}. Encode all of it, or omit the header."
        ) from None


def _encoding(scope: Message) -> str:
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"content-encoding"]
    return ", ".join(values).strip().lower()


class _Decompressor(Protocol):
    """Decompresses one gzip member or zstd frame."""

    @property
    def needs_input(self) -> bool:
        """Whether it continues only with more input."""

    @property
    def eof(self) -> bool:
        """Whether its end was reached."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """Return at most so many decoded bytes."""

    @property
    def unused_data(self) -> bytes:
        """The input that was not used, and is to be read again."""


class _GzipDecompressor:
    """One gzip member; its checksum is checked by zlib."""

    needs_input = True

    def __init__(self) -> None:
        self._decompressor = zlib.decompressobj(GZIP_BITS)

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return self._decompressor.decompress(data, max_length)

    @property
    def eof(self) -> bool:
        return self._decompressor.eof

    @property
    def unused_data(self) -> bytes:
        return self._decompressor.unused_data or self._decompressor.unconsumed_tail


class _Decoder:
    """Reads the content of an encoded body: that of all its members, one after the other."""

    def __init__(
        self, encoded: io.BytesIO, encoding: str, open_member: Callable[[], _Decompressor], padding: bytes = b""
    ) -> None:
        """Read a body whose members may be followed by bytes of `padding`."""
        self._encoded = encoded
        self._encoding = encoding
        self._open_member = open_member
        self._padding = padding
        self._members = 0
        self._decompressor: _Decompressor | None = None

    def read(self, size: int) -> bytes:
        """Return so many bytes of the content, or fewer at its end.

        Raises:
            EOFError, zlib.error, zstd.ZstdError: the body is damaged.
            MalformedEncoding: it has too many members.
        """
        content = bytearray()
        while (remaining := size - len(content)) and (self._decompressor or self._has_more()):
            content += self._decompress(remaining)
        return bytes(content)

    def _has_more(self) -> bool:
        """Return whether another member may follow."""
        while data := self._encoded.read(INPUT_BYTES):
            if rest := data.lstrip(self._padding) if self._members else data:
                self._encoded.seek(-len(rest), os.SEEK_CUR)
                return True
        return False

    def _decompress(self, max_length: int) -> bytes:
        if self._decompressor is None:
            self._members += 1
            if self._members > MAX_MEMBERS:
                raise MalformedEncoding(
                    f"The body is made of more than {MAX_MEMBERS:,} pieces of {self._encoding}; encode it as one."
                )
            self._decompressor = self._open_member()
        needs_input = self._decompressor.needs_input
        data = self._encoded.read(INPUT_BYTES) if needs_input else b""
        content = self._decompressor.decompress(data, max_length)
        self._encoded.seek(-len(self._decompressor.unused_data), os.SEEK_CUR)
        if self._decompressor.eof:
            self._decompressor = None
        elif needs_input and not data and not content:
            raise EOFError
        return content


def _open_gzip(encoded: io.BytesIO) -> _Decoder:
    return _Decoder(encoded, "gzip", _GzipDecompressor, padding=b"\0")


def _open_zstd(encoded: io.BytesIO) -> _Decoder:
    options = {zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG}
    return _Decoder(encoded, "zstd", lambda: zstd.ZstdDecompressor(options=options))


DECODERS: Mapping[str, Callable[[io.BytesIO], Any]] = {"gzip": _open_gzip, "x-gzip": _open_gzip, "zstd": _open_zstd}
