import socket
import threading
import time

import pytest

from sortbelt import errors
from sortbelt.local import ports
from tests.support import fake_api


def test_port_0_is_any_that_is_free():
    port = ports.find_free_port("127.0.0.1", 0, 0)

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
    assert port in ports.NON_EPHEMERAL_PORTS


def test_port_0_is_any_other_where_the_quiet_ones_are_taken(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(ports, "NON_EPHEMERAL_PORTS", [taken.getsockname()[1]] * 50)

        port = ports.find_free_port("127.0.0.1", 0, 0)

        assert port not in (0, taken.getsockname()[1])


def test_a_port_in_use_is_refused_with_what_to_do():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        with pytest.raises(errors.BadInput, match="--port 0") as caught:
            ports.find_free_port("127.0.0.1", taken.getsockname()[1], 0)

    assert caught.value.code == "port_in_use"


def test_a_port_that_is_let_go_of_soon_is_waited_for():
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    port = taken.getsockname()[1]
    threading.Timer(0.3, taken.close).start()

    assert ports.find_free_port("127.0.0.1", port, 10) == port


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:1"), ("0.0.0.0", "http://127.0.0.1:1"), ("::", "http://[::1]:1")],  # noqa: S104
)
def test_the_address_is_one_that_this_machine_can_reach(host, url):
    assert ports.base_url(host, 1) == url


def test_a_service_that_is_not_ready_says_why(server):
    class Ready(fake_api._Handler):
        def _any(self):
            checks = {"database": {"ok": True, "detail": ""}, "workers": {"ok": False, "detail": "none"}}
            self._json(status, {"checks": checks})

        do_GET = _any

    server.RequestHandlerClass = Ready
    status = 503
    assert ports.not_ready_reason(server.url, "sb") == "workers: none"
    status = 200
    assert ports.not_ready_reason(server.url, "sb") == ""


def test_a_service_that_is_not_there_is_not_ready():
    started = time.monotonic()

    assert "does not respond" in ports.not_ready_reason("http://127.0.0.1:1", "sb")
    assert time.monotonic() - started < 50
