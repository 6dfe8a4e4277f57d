"""Parsers for settings: sources, webhook destinations, the availability of tracing. They open nothing."""

import importlib.util
import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

S3_SCHEME = "s3://"
DOT_SEGMENTS = {"", ".", ".."}  # path segments that no path inside a source has
SOURCE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
BUCKET_ADDRESS = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,62}(/[^/]+)*")
HOST_PATTERN = re.compile(r"[a-z0-9_]([a-z0-9._-]{0,251}[a-z0-9_])?\.?", re.IGNORECASE)
HOST_AND_PORT = re.compile(
    rf"(?:{HOST_PATTERN.pattern}|\[(?P<address>[0-9a-f:.]+)\])(?::(?P<port>[0-9]{{1,5}}))?", re.IGNORECASE
)
URL_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")
TRACING_MODULES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class SourceSpec:
    """A source by name and address: an absolute folder path, or `s3://BUCKET/PREFIX`."""

    name: str
    address: str

    @property
    def is_bucket(self) -> bool:
        """Whether the address is a bucket."""
        return self.address.startswith(S3_SCHEME)


def parse_sources(value: str) -> list[SourceSpec]:
    """Parse a comma-separated list of `NAME=/FOLDER` and `NAME=s3://BUCKET/PREFIX`.

    Raises:
        ValueError: an entry is malformed, or two have the same name.
    """
    sources: dict[str, SourceSpec] = {}
    for entry in _split_list(value):
        name, separator, address = entry.partition("=")
        if not separator or SOURCE_NAME.fullmatch(name) is None:
            raise ValueError(f"{entry!r} is not NAME=/FOLDER or NAME=s3://BUCKET/PREFIX, with a name of a-z0-9._-")
        if name in sources:
            raise ValueError(f"the source {name!r} is named twice")
        sources[name] = SourceSpec(name, _normalize_address(name, address.rstrip("/")))
    return list(sources.values())


def is_overlapping(location: str, other_location: str) -> bool:
    """Return whether one of two locations (folders or buckets) contains the other."""
    first, second = (
        f"{p if p.startswith(S3_SCHEME) else Path(p).absolute()}".rstrip("/") + "/" for p in (location, other_location)
    )
    return first.startswith(second) or second.startswith(first)


@dataclass(frozen=True)
class AllowedDestinations:
    """Where webhooks may go besides public addresses by https: networks by address, hosts by name."""

    networks: Sequence[Network] = ()
    hosts: frozenset[str] = frozenset()


def parse_destinations(value: str) -> AllowedDestinations:
    """Parse a comma-separated list of networks (`10.0.0.0/8`) and host names.

    Raises:
        ValueError: an entry is neither a network nor a host.
    """
    networks: list[Network] = []
    hosts = set()
    for entry in map(str.lower, _split_list(value)):
        try:
            networks.append(ipaddress.ip_network(entry))
        except ValueError as error:
            if "/" in entry or ":" in entry or HOST_PATTERN.fullmatch(entry) is None or entry[-1:].isdecimal():
                raise ValueError(f"{entry!r} is neither a network, such as 10.0.0.0/8, nor a host") from error
            hosts.add(entry.rstrip("."))
    return AllowedDestinations(networks, frozenset(hosts))


def parse_networks(value: str) -> list[Network]:
    """Parse a comma-separated list of networks (`10.0.0.0/8`) and addresses.

    Raises:
        ValueError: an entry is neither.
    """
    networks: list[Network] = []
    for entry in _split_list(value):
        try:
            networks.append(ipaddress.ip_network(entry))
        except ValueError:
            raise ValueError(f"{entry!r} is neither a network, such as 10.0.0.0/8, nor an address") from None
    return networks


def parse_origins(value: str) -> list[str]:
    """Parse a comma-separated list of origins of browser apps, `https://HOST` or `https://HOST:PORT`, or `*`.

    Raises:
        ValueError: an entry is malformed.
    """
    origins = [entry.lower() for entry in _split_list(value)]
    for origin in origins:
        scheme, _, host = origin.partition("://")
        if origin != "*" and not (scheme in ("http", "https") and is_host_and_port(host)):
            raise ValueError(f"{origin!r} is not an origin, such as https://app.example.org, without a path")
    return origins


def check_public_url(value: str) -> None:
    """Check the URL at which callers reach the server.

    Raises:
        ValueError: it is not `https://HOST` or `https://HOST:PORT/PREFIX`.
    """
    scheme, _, rest = value.partition("://")
    host, slash, prefix = rest.partition("/")
    is_valid = scheme in ("http", "https") and is_host_and_port(host) and URL_PREFIX.fullmatch(slash + prefix)
    if not is_valid:
        raise ValueError("it must be a URL, such as https://example.org or https://example.org/sortbelt")


def is_host_and_port(text: str) -> bool:
    """Return whether a text is a host name, an IPv4 address or an IPv6 address in brackets, with or without a port."""
    match = HOST_AND_PORT.fullmatch(text)
    if match is None or (match["port"] and not 0 < int(match["port"]) < 65536):
        return False
    try:
        return match["address"] is None or ipaddress.ip_address(match["address"]).version == 6
    except ValueError:
        return False


def is_tracing_installed() -> bool:
    """Return whether the packages of `sortbelt[otel]` are installed."""
    try:
        return all(importlib.util.find_spec(name) for name in TRACING_MODULES)
    except ModuleNotFoundError:
        return False


def _split_list(value: str) -> list[str]:
    return [entry for entry in (word.strip() for word in value.split(",")) if entry]


def _normalize_address(name: str, address: str) -> str:
    if address.startswith(S3_SCHEME):
        if BUCKET_ADDRESS.fullmatch(address) is None:
            raise ValueError(f"{name}={address} is not s3://BUCKET or s3://BUCKET/PREFIX")
        if DOT_SEGMENTS & set(address.removeprefix(S3_SCHEME).split("/")):
            raise ValueError(f"{name}={address} must not have . or .. in its path")
        return address
    if not address.startswith("/"):
        raise ValueError(f"{name}={address} must be an absolute path of a folder other than /, or s3://BUCKET/PREFIX")
    return os.path.normpath(address)
