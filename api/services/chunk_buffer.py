"""Chunk buffer: a file whose content is sent while it is written."""

import io
from typing import Any


class ChunkBuffer(io.RawIOBase):
    """A write-only file that cannot seek and is drained in between; it keeps its position, which Parquet needs."""

    def __init__(self) -> None:
        super().__init__()
        self._chunks: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        """Return that it is, as `io` wants to know."""
        return True

    def tell(self) -> int:
        """Return how many bytes were written in all."""
        return self._position

    def write(self, data: Any) -> int:
        """Append bytes; return how many."""
        self._chunks.append(bytes(data))
        self._position += len(self._chunks[-1])
        return len(self._chunks[-1])

    def drain(self) -> bytes:
        """Return what was written since the last call."""
        data, self._chunks = b"".join(self._chunks), []
        return data
