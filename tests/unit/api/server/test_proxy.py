import pytest

from api.server import proxy

PROXY = "10.0.0.0/8, 192.0.2.1, fd00::/8"


def scope(client="10.1.2.3", path="/v1/jobs", **headers):
    """A request by a proxy."""
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"path": path, "scheme": "http", "client": (client, 5), "headers": [(b"host", b"api:8000"), *sent]}


def seen(request, public_url="", trusted=PROXY):
    """Scheme, host, prefix, path and client as the views see them."""
    changed = proxy.ProxyHeaders(public_url, trusted).apply(request)
    return (
        changed["scheme"],
        dict(changed["headers"])[b"host"].decode(),
        changed.get("root_path", ""),
        changed["path"],
        changed["client"][0],
    )


X_HEADERS = {
    "x_forwarded_for": "198.51.100.7",
    "x_forwarded_proto": "https",
    "x_forwarded_host": "photos.example",
    "x_forwarded_prefix": "/sortbelt",
}


@pytest.mark.parametrize("client", ["10.1.2.3", "192.0.2.1", "::ffff:10.1.2.3", "fd00::1"])
def test_headers_of_a_trusted_proxy_are_believed(client):
    """By its address, in either family."""
    expected = ("https", "photos.example", "/sortbelt", "/v1/jobs", "198.51.100.7")
    assert seen(scope(client, **X_HEADERS)) == expected


@pytest.mark.parametrize(
    ("client", "trusted"), [("11.1.2.3", PROXY), ("10.1.2.3", ""), ("", PROXY), ("/socket", PROXY)]
)
def test_headers_of_other_clients_are_ignored(client, trusted):
    """None is trusted by default."""
    request = scope(client, forwarded="for=1.2.3.4;host=evil.example", **X_HEADERS)
    assert seen(request, trusted=trusted) == ("http", "api:8000", "", "/v1/jobs", client)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("for=198.51.100.7;proto=https;host=photos.example", ("https", "photos.example", "198.51.100.7")),
        (
            'For="[2001:db8::7]:4711" ; Proto=HTTPS;host="photos.example:8443"',
            ("https", "photos.example:8443", "2001:db8::7"),
        ),
        ("for=198.51.100.9, for=198.51.100.7;proto=https", ("https", "api:8000", "198.51.100.7")),
        ("for=198.51.100.9, for=10.9.9.9;host=photos.example", ("http", "photos.example", "198.51.100.9")),
        ("for=unknown;proto=https", ("https", "api:8000", "10.1.2.3")),
        ("for=_hidden", ("http", "api:8000", "10.1.2.3")),
    ],
)
def test_the_standard_header_is_read(value, expected):
    """With quotes, ports, several proxies and hidden addresses."""
    scheme, host, _, _, client = seen(scope(forwarded=value))
    assert (scheme, host, client) == expected


def test_what_a_client_claims_beyond_the_proxies_is_not_believed():
    """The nearest address that is not a proxy is the client; a standard header beside the others is the client's."""
    claimed = {**X_HEADERS, "x_forwarded_for": "1.1.1.1, 198.51.100.7, 10.4.4.4", "forwarded": "host=evil.example"}
    assert seen(scope(**claimed))[1] == "photos.example"
    assert seen(scope(**claimed))[4] == "198.51.100.7"
    several = {**X_HEADERS, "x_forwarded_proto": "http, https", "x_forwarded_host": "evil.example, photos.example"}
    assert seen(scope(**several))[:2] == ("https", "photos.example")


@pytest.mark.parametrize(
    ("public_url", "path", "expected"),
    [
        ("https://photos.example", "/v1/jobs", ("https", "photos.example", "", "/v1/jobs")),
        ("https://photos.example/a/b/", "/v1/jobs", ("https", "photos.example", "/a/b", "/v1/jobs")),
        ("https://photos.example/a", "/a/v1/jobs", ("https", "photos.example", "/a", "/v1/jobs")),
        ("https://photos.example/a", "/a", ("https", "photos.example", "/a", "/")),
        ("https://photos.example/a", "/apart", ("https", "photos.example", "/a", "/apart")),
        ("http://[2001:db8::1]:8080", "/", ("http", "[2001:db8::1]:8080", "", "/")),
    ],
)
def test_the_public_url_is_used_whatever_the_headers_say(public_url, path, expected):
    """The prefix may have been removed by the proxy, or not."""
    assert seen(scope(path=path, **X_HEADERS), public_url)[:4] == expected
    assert seen(scope(path=path), public_url, trusted="")[4] == "10.1.2.3"


@pytest.mark.parametrize(
    "headers",
    [
        {"x_forwarded_proto": "gopher"},
        {"x_forwarded_host": "photos.example/path"},
        {"x_forwarded_host": "user@photos.example"},
        {"x_forwarded_host": "photos.example:99999"},
        {"x_forwarded_host": "[::1"},
        {"x_forwarded_host": "a b"},
        {"x_forwarded_prefix": "sortbelt"},
        {"x_forwarded_prefix": "//evil.example"},
        {"x_forwarded_prefix": '/"<script>'},
        {"forwarded": 'host="photos.example'},
        {"forwarded": "for"},
        {"forwarded": "proto=https,,,=,"},
    ],
)
def test_a_malformed_header_of_a_proxy_is_an_error(headers):
    """It names what the proxy sends, and never becomes part of a link."""
    with pytest.raises(proxy.MalformedHeader, match="proxy sends"):
        seen(scope(**headers))
    assert seen(scope("11.0.0.1", **headers))[1] == "api:8000"
