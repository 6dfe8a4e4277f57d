"""Content-Encoding of request bodies: gzip and zstd, decoded piece by piece within the limits of the body."""

import gzip
import io
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from api.server.request_body import Message, RequestBody

try:
    from compression import zstd  # type: ignore[import-not-found,unused-ignore]
except ImportError:  # before Python 3.14
    from backports import zstd  # type: ignore[no-redef,unused-ignore]

IDENTITY = {"", "identity"}
MAX_WINDOW_LOG = 23  # 8 MiB of memory, as RFC 9659 asks of every decoder


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
        MalformedEncoding: it is damaged, or of another encoding.
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
    except (OSError, EOFError, zlib.error, zstd.ZstdError) as error:
        reason = "it is cut off" if isinstance(error, EOFError) else "it is damaged, or has another encoding or none"
        raise MalformedEncoding(
            f"The body is not {encoding}, as Content-Encoding says: {reason}. Encode all of it, or omit the header."
        ) from None


def _encoding(scope: Message) -> str:
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"content-encoding"]
    return ", ".join(values).strip().lower()


def _open_gzip(encoded: io.BytesIO) -> Any:
    return gzip.GzipFile(fileobj=encoded)


def _open_zstd(encoded: io.BytesIO) -> Any:
    return zstd.ZstdFile(encoded, options={zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG})


DECODERS: Mapping[str, Callable[[io.BytesIO], Any]] = {"gzip": _open_gzip, "x-gzip": _open_gzip, "zstd": _open_zstd}
