import contextlib
import datetime as dt
import email.utils
import gc
import socket
import ssl
import subprocess
import sys
import time

import httpx
import pytest

from sortbelt import errors
from sortbelt.client import sync_client, transport
from tests.support import fake_api

NO_RETRIES = transport.RetryPolicy(first=0, down=0, busy=0)


@pytest.fixture
def open_transport():
    """Opens wires, and closes them in the end."""
    with contextlib.ExitStack() as opened:

        def connect(url, retry_policy=None, key=fake_api.KEY, notice=None):
            retry_policy = retry_policy or transport.RetryPolicy(first=5, down=5, busy=5)
            opened_transport = transport.Transport(url, key, timeout=5, retry_policy=retry_policy, notice=notice)
            opened.callback(opened_transport.close)
            return opened_transport

        yield connect


def test_a_connection_that_breaks_is_retried(open_transport, server):
    server.faults = ["drop", "drop"]

    assert open_transport(server.url).request("GET", "/v1/keys").json() == {"keys": []}
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_when_it_said(open_transport, server, status):
    server.faults = [(status, {"Retry-After": "0.3"})]
    started = time.monotonic()

    open_transport(server.url).request("GET", "/v1/keys")

    assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize(
    "value", ["²", "-5", "soon", "1e400", "nan", "", "٣", "Mon, 99 Foo 2026 00:00:00 GMT", "1.2.3"]
)
def test_an_odd_retry_after_is_not_an_error_of_its_own(open_transport, server, value):
    server.faults = [(503, {"Retry-After": value})]

    assert open_transport(server.url).request("GET", "/v1/keys").json() == {"keys": []}


def test_a_huge_retry_after_is_more_than_any_retry_policy_waits(open_transport, server):
    server.faults = [(503, {"Retry-After": "9" * 400})]

    with pytest.raises(errors.Busy) as caught:
        open_transport(server.url).request("GET", "/v1/keys")

    assert caught.value.retry_after == transport.MAX_RETRY_AFTER_SECONDS


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("7", 7, 7),
        ("0.5", 0.5, 0.5),
        (email.utils.format_datetime(dt.datetime.now(dt.UTC) + dt.timedelta(days=1), usegmt=True), 43_200, 86_400),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 0, 0),
    ],
    ids=["seconds", "fraction", "tomorrow", "past", "past without a zone"],
)
def test_retry_after_is_a_number_or_a_date(value, low, high):
    assert low <= transport.retry_after(httpx.Response(503, headers={"Retry-After": value})) <= high


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff", b'{"errors": [1, null, "x"]}'])
def test_malformed_problem_details_are_a_busy_server_too(open_transport, server, body):
    server.faults = [(503, {"raw_body": body})]

    with pytest.raises(errors.Busy) as caught:
        open_transport(server.url, NO_RETRIES).request("GET", "/v1/keys")

    assert (caught.value.status, caught.value.errors) == (503, [])


def test_a_busy_server_is_reported_when_the_retry_policy_ends(open_transport, server):
    server.faults = [(503, {"Retry-After": "60"})]

    with pytest.raises(errors.Busy) as caught:
        open_transport(server.url).request("GET", "/v1/keys")

    assert (caught.value.retry_after, caught.value.code, caught.value.request_id) == (60, "requested", "req-1")


@pytest.mark.parametrize("fault", ["drop", 502, 504])
def test_what_shows_when_done_twice_is_not_repeated_once_it_may_have_been_done(open_transport, server, fault):
    server.faults = [fault]

    with pytest.raises(errors.Unreachable, match="may have carried out the request: check that before you repeat it"):
        open_transport(server.url).request("POST", "/v1/keys", json={"name": "a", "role": "read"}, repeatable=False)

    assert len(server.requests) == 1


def test_a_request_that_was_never_sent_is_retried(open_transport):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    report = []

    with pytest.raises(errors.Unreachable):
        open_transport(url, transport.RetryPolicy(first=0.5), notice=report.append).request(
            "POST", "/", repeatable=False
        )

    assert report


def test_a_mistake_of_the_servers_is_not_repeated(open_transport, server):
    server.faults = [500]

    with pytest.raises(errors.ServerError, match="The fake fails on demand"):
        open_transport(server.url).request("GET", "/v1/keys")

    assert len(server.requests) == 1


def test_an_unreachable_server_is_reported_with_advice(open_transport):
    with pytest.raises(errors.Unreachable, match="start one with `sortbelt up`, or check SORTBELT_URL"):
        open_transport("http://127.0.0.1:1", NO_RETRIES).request("GET", "/livez")


def test_a_server_that_never_responded_is_given_up_sooner(open_transport, server):
    retry_policy = transport.RetryPolicy(first=0, down=5)
    with pytest.raises(errors.Unreachable):
        open_transport("http://127.0.0.1:1", retry_policy).request("GET", "/livez")
    one = open_transport(server.url, retry_policy)
    one.request("GET", "/v1/keys")
    server.faults = ["drop"]

    assert one.request("GET", "/v1/keys").status_code == 200


@pytest.mark.parametrize("status", [200, 404])
def test_another_kind_of_server_is_recognised(open_transport, server, status):
    """Also a login page that is there for every address."""

    class Other(fake_api._Handler):
        def _any(self):
            self._json(status, {}, content_type="text/html")

        do_GET = _any

    server.RequestHandlerClass = Other
    opened = open_transport(server.url, NO_RETRIES)
    with pytest.raises(errors.Unreachable, match="not a Sortbelt server"):
        opened.request("GET", "/v1/keys")
    with pytest.raises(errors.Unreachable, match="not a Sortbelt server"):
        list(opened.stream("GET", "/v1/results", "text/csv"))


def test_a_response_that_is_not_json_is_of_another_kind_of_server(server):
    class Other(fake_api._Handler):
        def do_GET(self):
            self.answer(200, b"OK")

    server.RequestHandlerClass = Other
    with (
        sync_client.Client(server.url, fake_api.KEY) as client,
        pytest.raises(errors.Unreachable, match="not a Sortbelt server"),
    ):
        client.job("1")


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x", "http://", "http://a:port", "http://::1:8000"])
def test_an_address_that_cannot_be_right_is_refused(open_transport, url):
    with pytest.raises(errors.BadInput, match="is not a URL"):
        open_transport(url)


@pytest.mark.parametrize("key", ["", "two words", "ключ", "line\nbreak"])
def test_a_key_that_cannot_be_right_is_refused(open_transport, key):
    with pytest.raises(errors.BadInput, match="malformed"):
        open_transport("http://x", key=key)


def test_this_machine_is_reached_without_the_proxy(open_transport, server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    assert open_transport(server.url, NO_RETRIES).request("GET", "/v1/keys").status_code == 200


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.AuthenticationError),
        (403, errors.AuthenticationError),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (413, errors.InvalidRequest),
        (422, errors.InvalidRequest),
        (503, errors.Busy),
    ],
)
def test_each_status_is_an_error_of_its_own(open_transport, server, status, kind):
    server.faults = [(status, {"Retry-After": "99"})]

    with pytest.raises(kind) as caught:
        open_transport(server.url, NO_RETRIES).request("GET", "/v1/keys")

    assert (caught.value.status, caught.value.code) == (status, "requested")


def test_a_caller_s_span_goes_with_each_request(open_transport, server):
    """Where OpenTelemetry is in use and a span is current; the server's part of the work is then in the same trace."""
    from opentelemetry.sdk import trace as sdk

    tracer = sdk.TracerProvider(shutdown_on_exit=False).get_tracer("tests")
    line = open_transport(server.url)
    with tracer.start_as_current_span("ours") as span:
        line.request("GET", "/v1/keys")
        list(line.stream("GET", "/v1/results", "text/csv"))
    line.request("GET", "/v1/keys")

    context = span.get_span_context()
    said = [headers.get("traceparent", "") for _, _, headers in server.requests]
    assert [one[:52] for one in said] == [f"00-{context.trace_id:032x}-{context.span_id:016x}"] * 2 + [""]


def test_plain_http_creates_no_tls_context(server, open_transport):
    def contexts():
        return {id(one): one for one in gc.get_objects() if issubclass(type(one), ssl.SSLContext)}

    before = contexts()
    line = open_transport(server.url)
    line.request("GET", "/v1/keys")

    assert not contexts().keys() - before.keys()


def test_who_does_not_use_opentelemetry_does_not_load_it():
    program = "import sys; from sortbelt.client import transport; transport.merge_headers({}, None); "
    program += "sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
