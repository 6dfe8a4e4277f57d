"""Multipart forms, by the `multipart` library: it takes a fifth of the time of Werkzeug's parser."""

import functools
import io
from typing import IO, NamedTuple

import flask
import multipart  # type: ignore[import-untyped]  # it has types, and does not say so
from werkzeug import datastructures, exceptions, formparser, http, wsgi
from werkzeug.sansio import utils

from core import errors, specs

ParsedForm = tuple[
    IO[bytes], datastructures.MultiDict[str, str], datastructures.MultiDict[str, datastructures.FileStorage]
]
MAX_HEADER_BYTES = 8_192  # enough for a name of 1,024 characters, each of them escaped
MAX_FIELDS = 20  # besides the files
CHARSETS = {"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin-1"}  # decoding others may take quadratic time
NO_ARGS: datastructures.ImmutableMultiDict[str, str] = datastructures.ImmutableMultiDict()
DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class FormFieldsTooLarge(exceptions.RequestEntityTooLarge):
    """The fields besides the files are too large."""


class TooManyFormFields(exceptions.RequestEntityTooLarge):
    """The form has too many fields besides the files."""


class Request(flask.Request):
    """A request whose form is either parsed completely or rejected."""

    @functools.cached_property
    def stream(self) -> IO[bytes]:
        """The body, which is in memory already: reading it through Werkzeug's wrapper would copy it three times."""
        raw_stream, length = self.environ["wsgi.input"], self.content_length
        if length is None or not isinstance(raw_stream, io.BytesIO):
            return super().stream
        if length > (self.max_content_length or length):
            raise exceptions.RequestEntityTooLarge
        return raw_stream

    @functools.cached_property
    def args(self) -> datastructures.MultiDict[str, str]:
        """The parameters of the URL; most requests have none."""
        return super().args if self.query_string else NO_ARGS

    @functools.cached_property
    def host(self) -> str:
        """The host and port that the client asks for; empty if there are none, or they are malformed.

        Unlike Werkzeug's it may have an underscore, as the names of services in Compose may.
        """
        header = self.environ.get("HTTP_HOST")
        if header is None and self.environ.get("SERVER_PROTOCOL") == "HTTP/1.0":  # which has no such header
            return wsgi.get_host(self.environ)
        return _normalize_host(self.scheme, header or "")

    @functools.cached_property
    def root_url(self) -> str:
        """The server's URL in this request; cached, since most requests have the same."""
        return _build_root_url(self.scheme, self.host, self.root_path)

    def make_form_data_parser(self) -> formparser.FormDataParser:
        """Return the parser for this request, with its limits."""
        return MultipartParser(
            max_form_memory_size=self.max_form_memory_size,
            max_content_length=self.max_content_length,
            max_form_parts=self.max_form_parts,
            silent=False,
        )


@functools.lru_cache(maxsize=256)
def _normalize_host(scheme: str, header: str) -> str:
    return header.removesuffix(DEFAULT_PORTS.get(scheme, "")) if specs.is_host_and_port(header) else ""


@functools.lru_cache(maxsize=256)
def _build_root_url(scheme: str, host: str, path: str) -> str:
    return utils.get_current_url(scheme, host, path)


class _Part(NamedTuple):
    segment: multipart.MultipartSegment
    filename: str | None
    data: bytes


class MultipartParser(formparser.FormDataParser):
    """Werkzeug's parser with another one for `multipart/form-data`."""

    def parse(
        self, stream: IO[bytes], mimetype: str, content_length: int | None, options: dict[str, str] | None = None
    ) -> ParsedForm:
        """Parse a form.

        Raises:
            errors.BadParameter: the form is malformed.
            werkzeug.exceptions.RequestEntityTooLarge: it has too many parts, or too large fields.
        """
        if mimetype != "multipart/form-data":
            return super().parse(stream, mimetype, content_length, options)
        body, boundary = stream.read(), (options or {}).get("boundary", "")
        if not boundary:
            raise errors.BadParameter(
                "Content-Type: multipart/form-data has no boundary; let the HTTP library set this header itself."
            )
        parts = self._read_parts(body, boundary)
        # An empty part may omit the blank line (RFC 2046); the library then takes the next part for its content.
        if any(part.data.startswith(f"--{boundary}".encode()) for part in parts):
            self.stream_factory = lambda *_, **__: io.BytesIO()
            try:
                return super().parse(io.BytesIO(body), mimetype, content_length, options)
            except ValueError as error:
                raise errors.BadParameter(f"The form is malformed: {error}.") from None
        fields: datastructures.MultiDict[str, str] = datastructures.MultiDict()
        files: datastructures.MultiDict[str, datastructures.FileStorage] = datastructures.MultiDict()
        for segment, filename, data in parts:
            name = str(segment.name)
            if filename is None:
                fields.add(name, _decode_field(segment, data))
            else:
                files.add(name, datastructures.FileStorage(io.BytesIO(data), filename, name, segment.content_type))
        stream.close()  # the parts are copies: the body need not be held beside them
        return io.BytesIO(), fields, files

    def _read_parts(self, body: bytes, boundary: str) -> list[_Part]:
        """Split a form into its parts.

        Raises:
            errors.BadParameter: the form is malformed.
            werkzeug.exceptions.RequestEntityTooLarge: it has too many parts, or too large fields.
        """
        if not body:
            raise errors.BadParameter("The form body is empty; send at least one part and the closing boundary.")
        parts: list[_Part] = []
        text_bytes = 0
        max_parts, max_text_bytes = self.max_form_parts or 0, self.max_form_memory_size or 0
        try:
            with multipart.PushMultipartParser(boundary, max_header_size=MAX_HEADER_BYTES) as parser:
                for event in parser.parse(body):
                    if isinstance(event, multipart.MultipartSegment):
                        parts.append(_Part(event, _filename(event), b""))
                    elif event is not None:  # a piece of the content of the part; None is its end
                        part = parts[-1]
                        parts[-1] = part._replace(data=part.data + event if part.data else event)
                        text_bytes += len(event) if part.filename is None else 0
                    if text_bytes > max_text_bytes:
                        raise FormFieldsTooLarge
                    if len(parts) > max_parts:
                        field_count = sum(part.filename is None for part in parts)
                        raise TooManyFormFields if field_count > MAX_FIELDS else exceptions.RequestEntityTooLarge
        except multipart.MultipartError as error:
            last_name = str(parts[-1].segment.name) if parts else ""
            raise errors.BadParameter(_malformed_detail(body, boundary, error, len(parts), last_name)) from None
        return parts


def _malformed_detail(
    body: bytes, boundary: str, error: multipart.MultipartError, part_count: int, last_name: str
) -> str:
    """Return what is wrong with a form, after how many parts, and what to do."""
    delimiter = f"--{boundary}"
    if delimiter.encode() not in body:
        return (
            f"The form has no line {delimiter[:100]!r}, which its Content-Type announces as the boundary; "
            "let the HTTP library set this header and write the body."
        )
    place = f"after part {part_count:,} ({last_name[:100]!r})" if part_count else "in its first part"
    if any(isinstance(cause, UnicodeDecodeError) for cause in error.args):
        return f"The form is malformed {place}: a name or file name is not UTF-8. Encode it as UTF-8."
    if f"{delimiter}--".encode() not in body:
        return f"The form is cut off {place}: the line {delimiter[:100]!r} with two hyphens at its end is missing."
    reason = str(error.args[0])
    return f"The form is malformed {place}: {reason[:1].lower()}{reason[1:]}."


def _decode_field(segment: multipart.MultipartSegment, data: bytes) -> str:
    """Return the text of a field.

    Raises:
        errors.BadParameter: it is not in its character set.
    """
    charset = (segment.charset or "utf-8").lower()
    name = str(segment.name)[:100]
    if charset not in CHARSETS:
        raise errors.BadParameter(
            f"The field {name!r} has the character set {charset[:100]!r}, which is not accepted; encode it as UTF-8."
        )
    try:
        return data.decode(charset)
    except ValueError:
        raise errors.BadParameter(f"The field {name!r} is not {charset}; encode it as UTF-8.") from None


def _filename(part: multipart.MultipartSegment) -> str | None:
    """Return the file name of a part, or None; the library does not decode percent-encoded names (RFC 5987)."""
    if part.filename is not None:
        return str(part.filename)
    disposition = part.header("Content-Disposition", "")
    return http.parse_options_header(disposition)[1].get("filename") if "*" in disposition else None
