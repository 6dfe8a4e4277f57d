"""Where a webhook may go: every spelling of an address that is not public is refused, before and after resolving."""

import ipaddress

import pytest

from core import errors
from core.webhooks import url_policy

CLOSED = [
    "0.0.0.0",  # noqa: S104 (to be refused)
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "203.0.113.7",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "3fff::1",
    "5f00::1",
    "100::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]
PUBLIC = ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1", "2002:101:101::1"]


@pytest.mark.parametrize("address", CLOSED)
def test_an_address_that_is_not_public_is_known(address):
    """Private, loopback, link-local, shared, multicast, reserved; and what stands for one of them."""
    assert not url_policy.is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_known(address):
    """Also in its other forms."""
    assert url_policy.is_public(ipaddress.ip_address(address))


NOTHING = url_policy.UrlPolicy.parse("")
REFUSED = [
    *(f"https://[{one}]/" if ":" in one else f"https://{one}/" for one in CLOSED),
    "https://2130706433/",  # 127.0.0.1, as it may be written
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0177.0.0.1/",
    "https://017700000001/",
    "https://127.1/",
    "https://0/",
    "https://[fe80::1%251]/",
    "http://hooks.example/",
    "http://1.1.1.1/",
    "ftp://hooks.example/",
    "file:///etc/passwd",
    "gopher://hooks.example/",
    "//hooks.example/",
    "hooks.example",
    "",
    "https://",
    "https:///path",
    "https://me:secret@hooks.example/",
    "https://hooks.example@127.0.0.1/",
    "https://hooks.example\\@127.0.0.1/",
    "https://hooks.example/#part",
    "https://hooks.example:0/",
    "https://hooks.example:99999/",
    "https://hooks.example:x/",
    "https://hooks.example/a b",
    "https://hooks.example/\r\nX-Evil: 1",
    "https://hooks.example/\x00",
    "https://b\u00fccher.example/",
    "https://[::1/",
    "https://[zz]/",
    "https://-.example/",
    "https://hooks.example/" + "a" * 2048,
]


@pytest.mark.parametrize("url", REFUSED)
def test_a_url_to_nowhere_public_is_refused_when_it_is_ordered(url):
    """In one sentence, with the URL or its beginning in it."""
    with pytest.raises(errors.BadParameter) as caught:
        NOTHING.validate(url)
    assert caught.value.detail.startswith("No webhook may go to '")
    assert caught.value.detail.endswith(".")
    assert len(caught.value.detail) < 300


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example",
        "https://hooks.example/sortbelt?token=a%20b&x=1",
        "https://HOOKS.example.:8443/",
        "https://xn--bcher-kva.example/",
        "https://1.1.1.1/",
        "https://[2606:4700::1111]:443/",
        "https://localhost/",  # a name is judged when it is resolved
    ],
)
def test_a_url_to_the_world_is_taken(url):
    """By name or by address."""
    NOTHING.validate(url)


ALLOWED = url_policy.UrlPolicy.parse("127.0.0.0/8, ::1, Hooks.internal ,10.1.0.0/16")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:5000/",
        "http://[::1]:5000/",
        "http://[::ffff:127.0.0.1]/",
        "https://10.1.2.3/",
        "http://hooks.internal/",
        "http://localhost:5000/",
        "http://2130706433/",
    ],
)
def test_what_the_settings_allow_is_taken_also_without_tls(url):
    """Networks by address, and hosts by name; other names may turn out to be in one of the networks."""
    ALLOWED.validate(url)


@pytest.mark.parametrize("url", ["https://10.2.0.1/", "http://1.1.1.1/", "https://[::2]/", "http://192.168.0.1/"])
def test_what_the_settings_do_not_allow_is_refused_all_the_same(url):
    """One network is not another."""
    with pytest.raises(errors.BadParameter):
        ALLOWED.validate(url)


def judged(rules, host, *addresses, secure=True):
    return [str(one) for one in rules.allowed_addresses(host, map(ipaddress.ip_address, addresses), is_https=secure)]


def test_of_a_name_only_the_addresses_that_may_be_are_connected_to():
    """A private address beside a public one is not used."""
    assert judged(NOTHING, "a.example", "10.0.0.1", "1.1.1.1", "::1") == ["1.1.1.1"]
    assert judged(ALLOWED, "a.example", "10.0.0.1", "10.1.0.1", "::1") == ["10.1.0.1", "::1"]
    assert judged(ALLOWED, "hooks.INTERNAL.", "192.168.0.1", secure=False) == ["192.168.0.1"]
    assert judged(ALLOWED, "a.example", "1.1.1.1", "127.0.0.1", secure=False) == ["127.0.0.1"]
    for rules, host, address, secure in (
        (NOTHING, "a.example", "127.0.0.1", True),
        (NOTHING, "a.example", "1.1.1.1", False),
        (ALLOWED, "a.example", "1.1.1.1", False),
        (ALLOWED, "hooks.internal.example", "192.168.0.1", True),
    ):
        with pytest.raises(url_policy.DestinationForbidden):
            judged(rules, host, address, secure=secure)


@pytest.mark.parametrize("host", ["127.1", "0x7f.1", "2130706433", "localhost", "::ffff:127.0.0.1"])
def test_every_spelling_resolves_to_what_it_is(host):
    """The system's own reading of a host is what is judged, not ours."""
    found = url_policy.resolve(host, 80)
    assert found
    assert not any(map(url_policy.is_public, found))
