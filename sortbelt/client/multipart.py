"""Request body as multipart/form-data (RFC 7578).

That of httpx percent-escapes quotes and line breaks in file names, which the server could not distinguish from a
name with a percent sign: names would not come back in the results as they were given.
"""

import secrets
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence


class Multipart:
    """Form with fields and files, sent in chunks without joining them in memory, again if a request is retried.

    Args:
        files: (name, bytes) of each file; a name may contain any character.
        fields: further form fields.
        field_name: form field of the files.
    """

    def __init__(
        self, files: Sequence[tuple[str, bytes]], fields: Mapping[str, str] | None = None, field_name: str = "images"
    ) -> None:
        self._boundary = secrets.token_hex(16)
        self._chunks: list[bytes] = []
        self._pending_delimiter = b""  # sent with the next head, since a small chunk costs as much as a large one
        for name, value in (fields or {}).items():
            self._add(f'name="{name}"', value.encode())
        for name, data in files:
            self._add(f'name="{field_name}"; {_filename(name)}\r\nContent-Type: application/octet-stream', data)
        self._chunks.append(self._pending_delimiter + f"--{self._boundary}--\r\n".encode())

    def _add(self, disposition: str, data: bytes) -> None:
        head = f"--{self._boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n"
        self._chunks += (self._pending_delimiter + head.encode(), data)
        self._pending_delimiter = b"\r\n"

    @property
    def headers(self) -> Mapping[str, str]:
        """Return Content-Type and Content-Length."""
        return {
            "Content-Type": f"multipart/form-data; boundary={self._boundary}",
            "Content-Length": str(sum(map(len, self._chunks))),
        }

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._chunks)


def _filename(name: str) -> str:
    """Return the filename parameter; unusual names as RFC 8187, since quoting rules differ between servers."""
    if name.isprintable() and not set(name) & {'"', "\\", "%"}:
        return f'filename="{name}"'
    return f"filename*=UTF-8''{urllib.parse.quote(name, safe='')}"
