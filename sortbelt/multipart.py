"""The multipart/form-data body (RFC 7578) that carries files: made here, because it must cost almost nothing."""

import secrets
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence


class Multipart:
    """Fields and files as one body, sent file by file without being put together in memory.

    Args:
        files: (name, bytes) of each; a name may hold any character.
        fields: further form fields.
        part: the name that the server knows the files by.
    """

    def __init__(
        self, files: Sequence[tuple[str, bytes]], fields: Mapping[str, str] | None = None, part: str = "images"
    ) -> None:
        self._boundary = secrets.token_hex(16)
        self._pieces: list[bytes] = []
        self._end = b""  # of the part before; it travels with the next head, because small pieces cost as much as big
        for name, value in (fields or {}).items():
            self._add(f'name="{name}"', value.encode())
        for name, data in files:
            self._add(f'name="{part}"; {_filename(name)}\r\nContent-Type: application/octet-stream', data)
        self._pieces.append(self._end + f"--{self._boundary}--\r\n".encode())

    def _add(self, disposition: str, data: bytes) -> None:
        head = f"--{self._boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n"
        self._pieces += (self._end + head.encode(), data)
        self._end = b"\r\n"

    @property
    def headers(self) -> Mapping[str, str]:
        """What the request must say about this body."""
        return {
            "Content-Type": f"multipart/form-data; boundary={self._boundary}",
            "Content-Length": str(sum(map(len, self._pieces))),
        }

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)


def _filename(name: str) -> str:
    """The parameter that carries a name; odd names go percent-encoded, since quoting rules differ between servers."""
    if name.isprintable() and not set(name) & {'"', "\\", "%"}:
        return f'filename="{name}"'
    return f"filename*=UTF-8''{urllib.parse.quote(name, safe='')}"
