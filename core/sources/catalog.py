"""The configured sources, by name."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Self

from core import errors, specs
from core.sources import base, image_reader, local, s3

MAX_PREFIX_LENGTH = 1024


class SourceCatalog:
    """The configured sources, by name."""

    def __init__(self, sources: Mapping[str, base.Source]) -> None:
        self._sources = dict(sources)

    @classmethod
    def parse(cls, value: str) -> Self:
        """Create the sources of a comma-separated list of `NAME=/FOLDER` and `NAME=s3://BUCKET/PREFIX`.

        Raises:
            ValueError: an entry is malformed.
        """
        return cls({spec.name: _create_source(spec) for spec in specs.parse_sources(value)})

    def __iter__(self) -> Iterator[base.Source]:
        return iter(self._sources.values())

    @property
    def names(self) -> list[str]:
        """Their names."""
        return list(self._sources)

    def get(self, name: str) -> base.Source | None:
        """Return the source of a name, or None."""
        return self._sources.get(name)

    def reader(self, name: str | None, path: str | None, max_bytes: int) -> Callable[[], bytes] | None:
        """Return a function that reads an image from its source; None for an image that has no source.

        Of a file that is too large it reads one byte more than `max_bytes`: the digest then shows the mismatch.
        """
        if name is None or path is None:
            return None
        source = self.get(name)
        return _raise_unknown_source if source is None else functools.partial(source.read, path, max_bytes)

    def image_reader(self, name: str | None, path: str | None, max_bytes: int) -> Callable[[], bytes] | None:
        """Return a function that reads an image to classify it; one that cannot be read fails, see `image_reader.read`.

        None for an image that has no source.
        """
        source = self.get(name) if name is not None else None
        if source is None or path is None:
            return self.reader(name, path, max_bytes)
        return functools.partial(image_reader.read, source, path, max_bytes)

    def resolve(self, name_or_url: str, prefix: str) -> tuple[str, str]:
        """Return the name of a source and a prefix in it, given its name or the URL of a location in its bucket.

        Raises:
            errors.UnknownSource: the source is not configured.
            errors.BadParameter: the prefix is malformed.
        """
        if name_or_url in self._sources:
            return name_or_url, _normalize_prefix(prefix)
        for source in self:
            if name_or_url.startswith(specs.S3_SCHEME) and f"{name_or_url}/".startswith(f"{source.address}/"):
                inner = name_or_url[len(source.address) + 1 :]
                return source.name, _normalize_prefix("/".join(filter(None, (inner, prefix))))
        raise errors.UnknownSource(
            f"There is no source {name_or_url[:100]!r} on this server; GET /v1/sources lists them."
        )


def _create_source(spec: specs.SourceSpec) -> base.Source:
    return s3.S3Source(spec.name, spec.address) if spec.is_bucket else local.LocalSource(spec.name, spec.address)


def _normalize_prefix(prefix: str) -> str:
    """Return a prefix without a slash at its end.

    Raises:
        errors.BadParameter: it is not a relative path inside a source.
    """
    if prefix.startswith("/"):
        raise errors.BadParameter(
            f"{prefix[:100]!r} begins with /; use a prefix relative to the source, like 2026/january."
        )
    path = prefix.rstrip("/")
    if path and (len(path) > MAX_PREFIX_LENGTH or specs.DOT_SEGMENTS & set(path.split("/"))):
        raise errors.BadParameter(f"{prefix[:100]!r} is not a prefix in a source; use one like 2026/january.")
    return path


def _raise_unknown_source() -> bytes:
    raise errors.BlobMissing("The image's source is not configured on this worker; add it to SORTBELT_SOURCES.")
