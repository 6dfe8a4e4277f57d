"""Forms: read whole or refused. The `multipart` library takes a fifth of the time that Werkzeug's parser takes."""

import functools
import io
from typing import IO

import flask
import multipart  # type: ignore[import-untyped]  # it has types, and does not say so
from werkzeug import datastructures, exceptions, formparser, http
from werkzeug.sansio import utils

Parsed = tuple[IO[bytes], datastructures.MultiDict[str, str], datastructures.MultiDict[str, datastructures.FileStorage]]
MOST_HEADER_BYTES = 8_192  # a name of 1,024 characters, each of them escaped


class TooMuchText(exceptions.RequestEntityTooLarge):
    """The fields besides the files are too large."""


class Request(flask.Request):
    """A request whose form is either read whole or refused."""

    @functools.cached_property
    def stream(self) -> IO[bytes]:
        """The body. It is here whole already; to read it through Werkzeug's wrapper would copy it three times."""
        wrapped = super().stream  # this refuses what is too long
        whole = self.environ["wsgi.input"]
        return whole if isinstance(whole, io.BytesIO) else wrapped

    @functools.cached_property
    def root_url(self) -> str:
        """The server's URL as this caller knows it; most know it as the one before did."""
        return _root(self.scheme, self.host, self.root_path)

    def make_form_data_parser(self) -> formparser.FormDataParser:
        """Our own parser, with the limits of the request."""
        return Parser(
            max_form_memory_size=self.max_form_memory_size,
            max_content_length=self.max_content_length,
            max_form_parts=self.max_form_parts,
            silent=False,
        )


@functools.lru_cache(maxsize=256)
def _root(scheme: str, host: str, path: str) -> str:
    return utils.get_current_url(scheme, host, path)


class Parser(formparser.FormDataParser):
    """Werkzeug's, but for `multipart/form-data`."""

    def parse(
        self, stream: IO[bytes], mimetype: str, content_length: int | None, options: dict[str, str] | None = None
    ) -> Parsed:
        """Parse a form.

        Raises:
            ValueError: it cannot be read.
            werkzeug.exceptions.RequestEntityTooLarge: it has too many parts, or too much text.
        """
        if mimetype != "multipart/form-data":
            return super().parse(stream, mimetype, content_length, options)
        body, boundary = stream.read(), (options or {}).get("boundary", "")
        parts = self._parts(body, boundary)
        # An empty part may leave out the blank line (RFC 2046); the library takes the next part for its content.
        if any(data.startswith(f"--{boundary}".encode()) for _, data in parts):
            self.stream_factory = lambda *_, **__: io.BytesIO()
            return super().parse(io.BytesIO(body), mimetype, content_length, options)
        fields: datastructures.MultiDict[str, str] = datastructures.MultiDict()
        files: datastructures.MultiDict[str, datastructures.FileStorage] = datastructures.MultiDict()
        for part, data in parts:
            name, filename = str(part.name), _filename(part)
            if filename is None:
                fields.add(name, data.decode(part.charset or "utf-8"))
            else:
                files.add(name, datastructures.FileStorage(io.BytesIO(data), filename, name, part.content_type))
        return stream, fields, files

    def _parts(self, body: bytes, boundary: str) -> list[tuple[multipart.MultipartSegment, bytes]]:
        """The parts with what is in them."""
        found: list[tuple[multipart.MultipartSegment, list[bytes]]] = []
        text_bytes = 0
        most_parts, most_text = self.max_form_parts or 0, self.max_form_memory_size or 0
        with multipart.PushMultipartParser(boundary, max_header_size=MOST_HEADER_BYTES) as parser:
            for event in parser.parse(body):
                if isinstance(event, multipart.MultipartSegment):
                    found.append((event, []))
                elif event is not None:
                    found[-1][1].append(bytes(event))
                    text_bytes += len(event) if _filename(found[-1][0]) is None else 0
                if text_bytes > most_text:
                    raise TooMuchText
                if len(found) > most_parts:
                    raise exceptions.RequestEntityTooLarge
        return [(part, b"".join(pieces)) for part, pieces in found]


def _filename(part: multipart.MultipartSegment) -> str | None:
    """The file name of a part, or None. The library does not know names that are percent-encoded (RFC 5987)."""
    if part.filename is not None:
        return str(part.filename)
    said = part.header("Content-Disposition", "")
    return http.parse_options_header(said)[1].get("filename") if "*" in said else None
