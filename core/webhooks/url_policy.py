"""Webhook URL policy (SSRF guard): public addresses by https, and what the settings allow besides.

A host name is judged by the addresses it resolves to, and the connection goes to the very address that was judged: the
owner of a name may let it point anywhere, and elsewhere a moment later.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self
from urllib import parse

from core import errors, specs

MAX_URL_LENGTH = 2048
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
VISIBLE_ASCII = re.compile(
    r"[!-~]+"
)  # no blanks, no control characters; other letters are written as %XX or in punycode
# Some releases of Python take these for public.
NON_PUBLIC_NETWORKS = [
    *map(ipaddress.ip_network, ("192.0.0.0/24", "2001::/23", "3fff::/20", "5f00::/16", "64:ff9b:1::/48"))
]
# Neither the address nor the existence of a name is revealed to callers.
UNREACHABLE_HOST = "the host does not resolve, or resolves to a private address only"
NAT64_NETWORK = ipaddress.IPv6Network("64:ff9b::/96")


class DestinationForbidden(Exception):
    """The destination is not allowed."""


class NameServerUnavailable(DestinationForbidden):
    """The name of the host cannot be resolved at the moment: callers see the same text as for a forbidden one."""


@dataclass(frozen=True)
class UrlPolicy:
    """The destinations allowed besides public addresses by https: networks, and hosts at any address."""

    allowed: specs.AllowedDestinations

    @classmethod
    def parse(cls, value: str) -> Self:
        """Create the policy of a comma-separated list of networks and hosts.

        Raises:
            ValueError: an entry is neither a network nor a host.
        """
        return cls(specs.parse_destinations(value))

    def validate(self, url: str, refusal: str = "No webhook may go to") -> None:
        """Check that a URL may be called, as far as that is known without resolving names; else begin with `refusal`.

        Raises:
            errors.BadParameter: it may not; the message has the reason.
        """
        try:
            host, is_https = _parse_url(url)
            address = _numeric_address(host)
            # An address is checked now; a name when it is resolved, but http needs an allowed network or host.
            if address is not None or not self.allowed.networks:
                self.allowed_addresses(host, [] if address is None else [address], is_https=is_https)
        except (ValueError, DestinationForbidden) as error:
            hint = "Use a public https URL, or have SORTBELT_WEBHOOK_ALLOW extended."
            raise errors.BadParameter(f"{refusal} {url[:100]!r}: {error}. {hint}") from None

    def allowed_addresses(self, host: str, resolved: Iterable[Address], *, is_https: bool) -> list[Address]:
        """Return those of a host's addresses that may be connected to.

        Raises:
            DestinationForbidden: none may, or not without TLS.
        """
        is_listed_host, addresses = host.lower().rstrip(".") in self.allowed.hosts, list(resolved)
        listed = [address for address in addresses if is_listed_host or self._is_listed(address)]
        permitted = [address for address in addresses if address in listed or (is_https and is_public(address))]
        if not permitted and not is_https and not is_listed_host:
            raise DestinationForbidden("it must begin with https://")
        if not permitted and addresses:
            raise DestinationForbidden(UNREACHABLE_HOST)
        return permitted

    def _is_listed(self, address: Address) -> bool:
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return any((mapped or address) in network for network in self.allowed.networks)


def is_public(address: Address) -> bool:
    """Return whether an address is public; one that embeds another is judged by the embedded one."""
    if isinstance(address, ipaddress.IPv6Address):
        nat64 = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in NAT64_NETWORK else None
        embedded = address.ipv4_mapped or address.sixtofour or nat64
        if embedded is not None:
            return is_public(embedded)
        if address.is_site_local or address.teredo is not None:
            return False
    is_special = address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
    is_special = is_special or address.is_reserved or address.is_unspecified or not address.is_global
    return not is_special and not any(address in network for network in NON_PUBLIC_NETWORKS)


def resolve(host: str, port: int) -> list[Address]:
    """Resolve a host as the system does, with the numeric forms it accepts.

    Raises:
        OSError: the host does not exist.
    """
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ipaddress.ip_address(str(sockaddr[0]).partition("%")[0]) for *_, sockaddr in infos))


def _parse_url(url: str) -> tuple[str, bool]:
    """Return the host of a URL, and whether it uses TLS.

    Raises:
        ValueError: the URL is malformed.
    """
    if len(url) > MAX_URL_LENGTH or VISIBLE_ASCII.fullmatch(url) is None or "\\" in url:
        raise ValueError(f"it must be a URL of at most {MAX_URL_LENGTH:,} characters, all of them ASCII and visible")
    parsed = parse.urlsplit(url)
    host = parsed.hostname or ""
    if parsed.scheme not in ("http", "https") or not host:
        raise ValueError("it must begin with https://, and a host")
    if parsed.username is not None or parsed.password is not None or "#" in url:
        raise ValueError("it may have no user, password or #fragment")
    if parsed.port == 0 or not (specs.HOST_PATTERN.fullmatch(host) or ":" in host):
        raise ValueError("its host or port is malformed")
    return host, parsed.scheme == "https"


def _numeric_address(host: str) -> Address | None:
    """Return the address that a host is, in any form that the system accepts; None for a name."""
    try:
        infos = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        if ":" in host:
            raise ValueError("its host is malformed") from None
        return None
    return ipaddress.ip_address(str(infos[0][4][0]).partition("%")[0])
