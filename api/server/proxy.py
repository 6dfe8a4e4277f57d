"""Reverse proxies: the scheme, host, path prefix and client address of a request as its caller knows them.

They come from SORTBELT_PUBLIC_URL, or else from the headers of trusted proxies: `X-Forwarded-For`, `-Proto`, `-Host`
and `-Prefix`, or `Forwarded` (RFC 7239) if none of these is sent. The same headers of other clients are ignored.
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib import parse

from api.server.request_body import Message
from core import specs

FORWARDED_PAIR = re.compile(r'(?:^|([;,]))\s*([\w!#$%&\'*+.^`|~-]+)=("(?:[^"\\]|\\.)*"|[^;,\s"]*)\s*')
FORWARDED_HEADERS = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-prefix")


class MalformedHeader(Exception):
    """A header of a trusted proxy is malformed; correct the proxy."""


@dataclass(frozen=True)
class Origin:
    """How callers reach the server; an empty field is not known."""

    scheme: str = ""
    host: str = ""
    prefix: str = ""
    hops: Sequence[str] = field(default_factory=tuple)
    """The addresses of the client and of the proxies on the way, each as the next one saw it."""


class ProxyHeaders:
    """Apply the settings about proxies to requests.

    Args:
        public_url: the URL of the server as callers know it; empty if it depends on the request.
        trusted_proxies: a comma-separated list of networks whose headers are believed.
    """

    def __init__(self, public_url: str = "", trusted_proxies: str = "") -> None:
        url = parse.urlsplit(public_url)
        self._public = Origin(url.scheme, url.netloc, url.path.rstrip("/"))
        self._trusted = specs.parse_networks(trusted_proxies)

    def apply(self, scope: Message) -> Message:
        """Return the scope of a request as if there were no proxy.

        Raises:
            MalformedHeader: a header of a trusted proxy is malformed.
        """
        if not (self._public.host or self._trusted):
            return scope
        headers = _combined_headers(scope)
        address = (scope.get("client") or ("", 0))[0]
        proxied = _read_origin(headers) if self.is_trusted(address) else Origin()
        scheme, host = self._public.scheme or proxied.scheme, self._public.host or proxied.host
        prefix = self._public.prefix if self._public.host else proxied.prefix
        client = self._client_address(address, proxied.hops)
        if not (scheme or host or prefix or client != address):
            return scope
        changed = {**scope, "scheme": scheme or scope.get("scheme", "http"), "root_path": prefix}
        if prefix and f"{scope['path']}/".startswith(f"{prefix}/"):  # the proxy may or may not have removed it
            changed["path"] = scope["path"][len(prefix) :] or "/"
        if host:
            others = [(name, value) for name, value in scope["headers"] if name != b"host"]
            changed["headers"] = [*others, (b"host", host.encode("latin-1"))]
        if client != address:
            changed["client"] = (client, 0)
        return changed

    def is_trusted(self, address: str) -> bool:
        """Return whether an address is that of a trusted proxy."""
        if not self._trusted:
            return False
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
        return any((mapped or parsed) in network for network in self._trusted)

    def _client_address(self, address: str, hops: Sequence[str]) -> str:
        """Return the nearest address that is not a trusted proxy; what is beyond it may be invented."""
        for hop in reversed(hops):
            if not self.is_trusted(address):
                break
            if not _is_address(hop):
                break  # hidden by the proxy
            address = hop
        return address


def _combined_headers(scope: Message) -> Mapping[bytes, str]:
    """Return the headers by name; several of one name are one list."""
    headers: dict[bytes, str] = {}
    for name, value in scope["headers"]:
        if name == b"forwarded" or name in FORWARDED_HEADERS:
            text = value.decode("latin-1")
            headers[name] = f"{headers[name]},{text}" if name in headers else text
    return headers


def _read_origin(headers: Mapping[bytes, str]) -> Origin:
    if any(name in headers for name in FORWARDED_HEADERS):
        hops, scheme, host, prefix = (_split(headers.get(name, "")) for name in FORWARDED_HEADERS)
        origin = Origin(scheme[-1].lower(), host[-1], prefix[-1].rstrip("/"), [_strip_port(hop) for hop in hops if hop])
    else:
        elements = _parse_forwarded(headers.get(b"forwarded", ""))
        hops = [_strip_port(element.get("for", "")) for element in elements]
        nearest = elements[-1] if elements else {}
        origin = Origin(nearest.get("proto", "").lower(), nearest.get("host", ""), "", hops)
    if origin.scheme not in ("", "http", "https"):
        raise MalformedHeader(f"The proxy sends {origin.scheme[:100]!r} as the protocol; let it send http or https.")
    if origin.host and not specs.is_host_and_port(origin.host):
        raise MalformedHeader(f"The proxy sends {origin.host[:100]!r} as the host; let it send HOST or HOST:PORT.")
    if specs.URL_PREFIX.fullmatch(origin.prefix) is None:
        raise MalformedHeader(f"The proxy sends {origin.prefix[:100]!r} as the prefix; let it send one like /sortbelt.")
    return origin


def _split(value: str) -> list[str]:
    return [item.strip() for item in value.split(",")]


def _parse_forwarded(value: str) -> list[dict[str, Any]]:
    """Return the parameters of each proxy, the nearest last."""
    elements: list[dict[str, Any]] = [{}] if value.strip() else []
    position = 0
    for match in FORWARDED_PAIR.finditer(value):
        if match.start() != position:
            break
        position = match.end()
        separator, name, text = match.groups()
        if separator == ",":
            elements.append({})
        elements[-1][name.lower()] = re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text
    if position != len(value):
        raise MalformedHeader(f"The proxy sends Forwarded: {value[:100]!r}, which is malformed; see RFC 7239.")
    return elements


def _strip_port(hop: str) -> str:
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
