"""Where webhooks may go: public addresses by https, and what the settings allow besides.

A name is judged by what it resolves to, and the connection is made to the very address that was judged: whoever owns
a name may let it point anywhere, and elsewhere a moment later.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self
from urllib import parse

from jobs import errors

MOST_CHARACTERS = 2048
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
PLAIN = re.compile(r"[!-~]+")  # no blanks, no control characters; other letters are written as %XX or in punycode
HOST = re.compile(r"[a-z0-9_]([a-z0-9._-]{0,251}[a-z0-9_])?\.?", re.IGNORECASE)
# What some releases of Python take for public.
CLOSED = [*map(ipaddress.ip_network, ("192.0.0.0/24", "2001::/23", "3fff::/20", "5f00::/16", "64:ff9b:1::/48"))]
# Not which address it has, or whether there is the name: that is not for strangers to find out.
NOWHERE = "its host cannot be resolved, or has no public address"
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Forbidden(Exception):
    """A webhook may not go there."""


@dataclass(frozen=True)
class Rules:
    """What is allowed besides public addresses by https: networks, and hosts by name, wherever they are."""

    networks: Sequence[Network] = ()
    hosts: frozenset[str] = frozenset()

    @classmethod
    def read(cls, listed: str) -> Self:
        """The rules in a list between commas.

        Raises:
            ValueError: something in it is neither a network nor a host.
        """
        networks: list[Network] = []
        hosts = set()
        for one in filter(None, (word.strip().lower() for word in listed.split(","))):
            try:
                networks.append(ipaddress.ip_network(one))
            except ValueError as error:
                if "/" in one or ":" in one or HOST.fullmatch(one) is None or one[-1:].isdecimal():
                    raise ValueError(f"{one!r} is neither a network, such as 10.0.0.0/8, nor a host") from error
                hosts.add(one.rstrip("."))
        return cls(networks, frozenset(hosts))

    def check(self, url: str) -> None:
        """See that a URL is one that a webhook may be sent to, as far as that can be seen without asking for names.

        Raises:
            errors.BadParameter: it is not; the sentence says why.
        """
        try:
            host, secure = _parts(url)
            numeric = _numeric(host)
            # An address is judged now; a name when it is resolved, but where nothing allows it http is no use.
            if numeric is not None or not self.networks:
                self.judge(host, [] if numeric is None else [numeric], secure=secure)
        except (ValueError, Forbidden) as error:
            raise errors.BadParameter(f"No webhook may go to {url[:100]!r}: {error}.") from None

    def judge(self, host: str, found: Iterable[Address], *, secure: bool) -> list[Address]:
        """Those of a host's addresses that may be connected to.

        Raises:
            Forbidden: none of them may, or not without TLS.
        """
        named, addresses = host.lower().rstrip(".") in self.hosts, list(found)
        allowed = [one for one in addresses if named or self._listed(one)]
        good = [one for one in addresses if one in allowed or (secure and is_public(one))]
        if not good and not secure and not named:
            raise Forbidden("it must begin with https://")
        if not good and addresses:
            raise Forbidden(NOWHERE)
        return good

    def _listed(self, address: Address) -> bool:
        inner = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return any((inner or address) in network for network in self.networks)


def is_public(address: Address) -> bool:
    """Whether an address is one of the internet's; one that stands for another is what that is."""
    if isinstance(address, ipaddress.IPv6Address):
        last = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in NAT64 else None
        inner = address.ipv4_mapped or address.sixtofour or last
        if inner is not None:
            return is_public(inner)
        if address.is_site_local or address.teredo is not None:
            return False
    closed = address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
    closed = closed or address.is_reserved or address.is_unspecified or not address.is_global
    return not closed and not any(address in network for network in CLOSED)


def resolve(host: str, port: int) -> list[Address]:
    """The addresses of a host, as the system resolves it: a number in any of the forms that it knows is one too.

    Raises:
        OSError: there is no such host.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ipaddress.ip_address(str(to[0]).partition("%")[0]) for *_, to in found))


def _parts(url: str) -> tuple[str, bool]:
    """The host of a URL, and whether it is reached by TLS.

    Raises:
        ValueError: it is not acceptable as a URL.
    """
    if len(url) > MOST_CHARACTERS or PLAIN.fullmatch(url) is None or "\\" in url:
        raise ValueError(f"it must be a URL of at most {MOST_CHARACTERS:,} characters, all of them ASCII and visible")
    read = parse.urlsplit(url)
    host = read.hostname or ""
    if read.scheme not in ("http", "https") or not host:
        raise ValueError("it must begin with https://, and a host")
    if read.username is not None or read.password is not None or "#" in url:
        raise ValueError("it may have no user, password or #fragment")
    if read.port == 0 or not (HOST.fullmatch(host) or ":" in host):
        raise ValueError("its host or port cannot be")
    return host, read.scheme == "https"


def _numeric(host: str) -> Address | None:
    """The address that a host is, in any form that the system takes for one; None for a name."""
    try:
        found = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        if ":" in host:
            raise ValueError("its host cannot be") from None
        return None
    return ipaddress.ip_address(str(found[0][4][0]).partition("%")[0])
