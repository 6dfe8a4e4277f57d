import contextlib
import socket
import subprocess
import sys
import time

import pytest

from sortbelt import errors, transport
from tests.sortbelt import fakeserver

NO_PATIENCE = transport.Patience(first=0, down=0, busy=0)


@pytest.fixture
def wire():
    """Opens wires, and closes them in the end."""
    with contextlib.ExitStack() as opened:

        def connect(url, patience=None, key=fakeserver.KEY, notice=None):
            patience = patience or transport.Patience(first=5, down=5, busy=5)
            made = transport.Transport(url, key, timeout=5, patience=patience, notice=notice)
            opened.callback(made.close)
            return made

        yield connect


def test_a_connection_that_breaks_is_tried_again(wire, server):
    server.faults = ["drop", "drop"]

    assert wire(server.url).call("GET", "/v1/keys").json() == {"keys": []}
    assert len(server.asked) == 3


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_when_it_said(wire, server, status):
    server.faults = [(status, {"Retry-After": "0.3"})]
    started = time.monotonic()

    wire(server.url).call("GET", "/v1/keys")

    assert time.monotonic() - started >= 0.3


def test_a_busy_server_is_reported_when_patience_ends(wire, server):
    server.faults = [(503, {"Retry-After": "60"})]

    with pytest.raises(errors.Busy) as caught:
        wire(server.url).call("GET", "/v1/keys")

    assert (caught.value.retry_after, caught.value.code, caught.value.request_id) == (60, "told_to", "req-1")


def test_what_shows_when_done_twice_is_not_repeated_once_it_may_have_been_done(wire, server):
    server.faults = ["drop"]

    with pytest.raises(errors.Unreachable):
        wire(server.url).call("POST", "/v1/keys", json={"name": "a", "role": "read"}, repeatable=False)

    assert len(server.asked) == 1


def test_what_was_never_sent_is_tried_again_even_so(wire):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    told = []

    with pytest.raises(errors.Unreachable):
        wire(url, transport.Patience(first=0.5), notice=told.append).call("POST", "/", repeatable=False)

    assert told


def test_a_mistake_of_the_servers_is_not_repeated(wire, server):
    server.faults = [500]

    with pytest.raises(errors.ServerFault, match="The fake was told to fail"):
        wire(server.url).call("GET", "/v1/keys")

    assert len(server.asked) == 1


def test_nobody_at_the_address_is_said_with_what_to_do(wire):
    with pytest.raises(errors.Unreachable, match="start one with `sortbelt up`, or check SORTBELT_URL"):
        wire("http://127.0.0.1:1", NO_PATIENCE).call("GET", "/livez")


def test_an_address_where_nobody_ever_answered_is_given_up_sooner(wire, server):
    patience = transport.Patience(first=0, down=5)
    with pytest.raises(errors.Unreachable):
        wire("http://127.0.0.1:1", patience).call("GET", "/livez")
    one = wire(server.url, patience)
    one.call("GET", "/v1/keys")
    server.faults = ["drop"]

    assert one.call("GET", "/v1/keys").status_code == 200


def test_another_kind_of_server_is_recognised(wire, server):
    class Other(fakeserver._Handler):
        def _any(self):
            self._json(404, {}, kind="text/html")

        do_GET = _any  # noqa: N815 - a name that http.server asks for

    server.RequestHandlerClass = Other
    with pytest.raises(errors.Unreachable, match="no Sortbelt server"):
        wire(server.url, NO_PATIENCE).call("GET", "/v1/keys")


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x", "http://", "http://a:port"])
def test_an_address_that_cannot_be_right_is_refused(wire, url):
    with pytest.raises(errors.BadInput, match="is no address"):
        wire(url)


@pytest.mark.parametrize("key", ["", "two words", "ключ", "line\nbreak"])
def test_a_key_that_cannot_be_right_is_refused(wire, key):
    with pytest.raises(errors.BadInput, match="malformed"):
        wire("http://x", key=key)


def test_this_machine_is_reached_without_the_proxy(wire, server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    assert wire(server.url, NO_PATIENCE).call("GET", "/v1/keys").status_code == 200


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.KeyRefused),
        (403, errors.KeyRefused),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (413, errors.Invalid),
        (422, errors.Invalid),
        (503, errors.Busy),
    ],
)
def test_each_status_is_an_error_of_its_own(wire, server, status, kind):
    server.faults = [(status, {"Retry-After": "99"})]

    with pytest.raises(kind) as caught:
        wire(server.url, NO_PATIENCE).call("GET", "/v1/keys")

    assert (caught.value.status, caught.value.code) == (status, "told_to")


def test_a_caller_s_span_goes_with_each_request(wire, server):
    """Where OpenTelemetry is in use and a span is current; the server's part of the work is then in the same trace."""
    from opentelemetry.sdk import trace as sdk

    tracer = sdk.TracerProvider(shutdown_on_exit=False).get_tracer("tests")
    line = wire(server.url)
    with tracer.start_as_current_span("ours") as span:
        line.call("GET", "/v1/keys")
        with pytest.raises(errors.BadInput):  # the fake has no CSV, and was asked
            list(line.stream("/v1/results", "text/csv", {}))
    line.call("GET", "/v1/keys")

    context = span.get_span_context()
    said = [headers.get("traceparent", "") for _, _, headers in server.asked]
    assert [one[:52] for one in said] == [f"00-{context.trace_id:032x}-{context.span_id:016x}"] * 2 + [""]


def test_who_does_not_use_opentelemetry_does_not_load_it():
    program = "import sys, sortbelt.transport as t; t.all_headers({}, None); sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
