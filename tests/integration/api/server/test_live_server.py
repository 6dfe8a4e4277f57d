"""The real server, `python -m api`, over real sockets."""

import concurrent.futures
import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time

import psutil
import pytest

from api import __main__ as api_program
from tests.integration.api.conftest import run_api_server
from tests.support import factories, servers, waiting
from tests.support.api_client import read_response

CRLF = b"\r\n"


def form(*parts, boundary=b"B"):
    """Return a multipart body of (headers, content) pairs."""
    body = b"".join(b"--" + boundary + CRLF + head + CRLF + CRLF + content + CRLF for head, content in parts)
    return body + b"--" + boundary + b"--" + CRLF


def part(name, content):
    """Return an image as a part."""
    return b'Content-Disposition: form-data; name="images"; filename="' + name + b'"', content


def accepts_images(server):
    """Return whether the server still accepts images."""
    data = factories.make_image()
    status, body = server.send_raw(server.request_head(Content_Type="image/png", Content_Length=len(data)), data)
    return status == 202 and body["counts"]["total"] == 1


def test_an_image_is_accepted_over_a_real_socket(server):
    """A form, a raw body, and a chunked body."""
    data = factories.make_image()
    body = form(part(b"a.png", data), part(b"b.png", data))
    head = server.request_head(Content_Type="multipart/form-data; boundary=B", Content_Length=len(body))
    status, job = server.send_raw(head, body)
    assert (status, job["counts"]["total"]) == (202, 2)
    assert accepts_images(server)
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(data[i : i + 10]), data[i : i + 10]) for i in range(0, len(data), 10))
    head = server.request_head(Content_Type="image/png", Transfer_Encoding="chunked")
    status, job = server.send_raw(head, chunks + b"0\r\n\r\n")
    assert (status, job["counts"]["queued"]) == (202, 1)


def test_expect_100_continue_is_answered(server):
    """For a body that is accepted."""
    data = factories.make_image()
    head = server.request_head(Content_Type="image/png", Content_Length=len(data), Expect="100-continue")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
        line.sendall(head)
        line.settimeout(2)
        first = line.recv(1024)
        assert b" 100 " in first.split(CRLF)[0]
        line.sendall(data)
        assert read_response(line)[0] == 202


@pytest.mark.parametrize(("key", "status"), [("", 401), (None, 413)], ids=["no key", "too much"])
def test_expect_is_not_answered_for_a_body_that_will_be_rejected(server, key, status):
    """The error comes at once, and the connection is closed."""
    head = server.request_head(Content_Type="image/png", Content_Length=99_000_000_000, Expect="100-continue")
    if key is not None:
        head = CRLF.join(line for line in head.split(CRLF) if not line.lower().startswith(b"authorization"))
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
        line.sendall(head)
        assert read_response(line)[0] == status
        assert line.recv(1024) == b""


@pytest.mark.parametrize("size", [300_001, 5_000_000])
def test_a_body_over_the_limit_gets_a_response(server, size):
    """A simple client that sends everything before it reads gets the 413, not a broken pipe."""
    head = server.request_head(Content_Type="image/png", Content_Length=size)
    status, problem = server.send_raw(head, *([bytes(100_000)] * (size // 100_000)), bytes(size % 100_000))
    assert (status, problem["code"]) == (413, "body_too_large")
    assert "300,000" in problem["detail"]


def test_a_chunked_body_over_the_limit_is_rejected_too(server):
    """Without a declared length, the response is the same."""
    head = server.request_head(Content_Type="image/png", Transfer_Encoding="chunked")
    chunk = b"186a0\r\n" + bytes(100_000) + CRLF
    status, problem = server.send_raw(head, *([chunk] * 20), b"0\r\n\r\n")
    assert (status, problem["code"]) == (413, "body_too_large")


def test_a_large_body_without_a_key_gets_the_401(server):
    """Although the body is discarded."""
    head = server.request_head(Authorization="Bearer no", Content_Type="image/png", Content_Length=5_000_000)
    status, problem = server.send_raw(head, *([bytes(100_000)] * 50))
    assert (status, problem["code"]) == (401, "no_key")


def test_a_connection_works_after_a_rejection(server):
    """It is kept accepts_images, or closed explicitly: the rest of a rejected body is not taken for a request."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
        refused = server.request_head(Connection="keep-alive", Content_Type="text/plain", Content_Length=20)
        line.sendall(refused + b"GET /livez HTTP/1.1\r")
        status, problem = read_response(line)
        assert (status, problem["code"]) == (422, "no_images")
        try:
            line.sendall(server.request_head("GET", "/livez", Connection="close"))
            second = read_response(line)
        except OSError:
            second = None
        assert second in (None, (200, {"status": "alive"}))


def malformed(server):  # noqa: PLR0915 (a list, one line for each)
    """Yield malformed requests: name, pieces, whether to close the connection after sending."""
    multipart = "multipart/form-data; boundary=B"
    good = form(part(b"a.png", factories.make_image()))

    def posted(body, content_type=multipart, length=None, **more):
        return [server.request_head(Content_Type=content_type, Content_Length=length or len(body), **more), body]

    yield "nothing", [b""], True
    yield "garbage", [os.urandom(500)], True
    yield "text", [b"hello\r\n\r\n"], False
    yield "half a line", [b"GET /livez HT"], True
    yield "no such version", [b"GET /livez HTTP/9.9\r\nHost: x\r\n\r\n"], False
    yield "HTTP/1.0", [b"GET /livez HTTP/1.0\r\n\r\n"], False
    yield "no host", [b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n"], False
    yield "two hosts", [server.request_head("GET", "/livez").replace(b"Host:", b"Host: y\r\nHost:")], False
    yield "odd host", [server.request_head("GET", "/v1/jobs", Host="a b\\c")], False
    yield "odd brackets", [server.request_head("GET", "/v1/jobs", Host="[::1")], False
    yield "host with a path", [server.request_head("POST", "/v1/jobs", Host="evil/..//", Content_Length=0)], False
    yield "odd method", [b"<script> /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"], False
    yield "long method", [b"A" * 5000 + b" / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"], False
    yield "long path", [server.request_head("GET", "/" + "a" * 100_000)], False
    yield "long header", [server.request_head("GET", "/livez", X="a" * 1_000_000)], False
    yield "many headers", [server.request_head("GET", "/livez", **{f"X{n}": "a" for n in range(2000)})], False
    yield "header without colon", [server.request_head("GET", "/livez")[:-2] + b"nonsense\r\n\r\n"], False
    yield "header with NUL", [server.request_head("GET", "/livez", X="a\0b")], False
    yield "folded header", [server.request_head("GET", "/livez")[:-2] + b"X: a\r\n b\r\n\r\n"], False
    yield "path with NUL", [server.request_head("GET", "/v1/jobs/a\0b")], False
    yield "path with spaces", [server.request_head("GET", "/v1/jobs/a b c")], False
    yield "broken per cents", [server.request_head("GET", "/v1/jobs/%%%zz%ff?cursor=%zz%&limit=%")], False
    yield "absolute form", [server.request_head("GET", "http://elsewhere/v1/jobs")], False
    yield "asterisk", [server.request_head("OPTIONS", "*")], False
    yield "CONNECT", [server.request_head("CONNECT", "elsewhere:443")], False
    yield "negative length", [server.request_head(Content_Type="image/png", Content_Length="-1")], False
    yield "length of letters", [server.request_head(Content_Type="image/png", Content_Length="ten")], False
    yield "endless length", [server.request_head(Content_Type="image/png", Content_Length="9" * 30)], False
    yield "two lengths", [server.request_head(Content_Length="3\r\nContent-Length: 4"), b"abcd"], False
    yield (
        "length and chunks",
        [server.request_head(Content_Length="3", Transfer_Encoding="chunked"), b"0\r\n\r\n"],
        False,
    )
    yield "more said than sent", posted(b"abc", "image/png", 5000), True
    yield "form cut off", posted(good[:60], length=len(good)), True
    yield "less said than sent", posted(good, length=40), False
    yield (
        "broken chunk size",
        [server.request_head(Transfer_Encoding="chunked", Content_Type="image/png"), b"zz\r\nx\r\n"],
        False,
    )
    yield (
        "chunks cut off",
        [server.request_head(Transfer_Encoding="chunked", Content_Type="image/png"), b"ff\r\nx"],
        True,
    )
    yield "unknown coding", [server.request_head(Transfer_Encoding="gzip", Content_Type="image/png"), b"x"], True
    yield "packed body", posted(b"\x1f\x8b\x08", "image/png", Content_Encoding="gzip"), False
    yield "form without boundary", posted(good, "multipart/form-data"), False
    yield "empty boundary", posted(good, 'multipart/form-data; boundary=""'), False
    yield "long boundary", posted(good, "multipart/form-data; boundary=" + "b" * 5000), False
    yield "odd boundary", posted(good, 'multipart/form-data; boundary="\\"\r"'.replace("\r", "")), False
    yield "another boundary", posted(good, "multipart/form-data; boundary=C"), False
    yield "form never ends", posted(good[:-5]), False
    yield "form without parts", posted(b"--B--\r\n"), False
    yield "form of newlines", posted(CRLF * 5000), False
    yield "form of boundaries", posted(b"--B\r\n" * 5000), False
    yield "part without headers", posted(b"--B\r\n\r\nx\r\n--B--\r\n"), False
    yield "part without name", posted(form((b"Content-Disposition: form-data", b"x"))), False
    yield "part of odd kind", posted(form((b'Content-Disposition: attachment; filename="x"', b"x"))), False
    yield "part with long header", posted(form((b"X: " + b"a" * 50_000, b"x"))), False
    inner = form(part(b"b.png", b"x"), boundary=b"C")
    nested = b'Content-Disposition: form-data; name="images"\r\nContent-Type: multipart/mixed; boundary=C'
    yield "nested form", posted(form((nested, inner))), False
    yield "name over two lines", posted(form(part(b'a\r\nX: y"', b"x"))), False
    yield (
        "name in an odd charset",
        posted(form((b"Content-Disposition: form-data; name=images; filename*=x'y'z", b"x"))),
        False,
    )
    yield "multipart of another kind", posted(good, "multipart/mixed; boundary=B"), False
    yield "form fields", posted(b"&=&%zz=%" * 500, "application/x-www-form-urlencoded"), False
    yield "many fields", posted(b"a=b&" * 5000, "application/x-www-form-urlencoded"), False
    yield "odd content type", posted(good, ";;;=,/"), False
    yield "json of another charset", posted("{}".encode("utf-16"), "application/json; charset=utf-16"), False
    yield "json in pieces", posted(b'{"open": tru', "application/json"), False
    yield "json of garbage", posted(os.urandom(300), "application/json"), False
    yield "deep json", posted(b'{"metadata": ' + b"[" * 90_000 + b"}", "application/json"), False
    yield "JSON that is not an object", posted(b"[1, 2]", "application/json"), False
    yield "json with no number", posted(b'{"open": true, "metadata": {"a": NaN}}', "application/json"), False
    yield (
        "json with a number without end",
        posted(b'{"metadata": {"a": 1' + b"0" * 5000 + b"}}", "application/json"),
        False,
    )
    yield "json with half a letter", posted(b'{"metadata": {"a": "\\ud800"}}', "application/json"), False
    yield "json with a NUL", posted(b'{"open": true, "metadata": {"a": "\\u0000"}}', "application/json"), False
    yield "HTTP/2 at once", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(30)], True
    yield "TLS", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(200)], True
    yield "plus length", [server.request_head(Content_Type="image/png", Content_Length="+5"), b"abcde"], True
    yield "hexadecimal length", [server.request_head(Content_Type="image/png", Content_Length="0x5"), b"abcde"], True
    yield "list of lengths", [server.request_head(Content_Type="image/png", Content_Length="5, 5"), b"abcde"], True
    yield (
        "chunked, oddly",
        [server.request_head(Transfer_Encoding="xchunked", Content_Type="image/png"), b"0\r\n\r\n"],
        True,
    )
    yield (
        "chunked twice",
        [server.request_head(Transfer_Encoding="chunked, chunked", Content_Type="image/png"), b"0\r\n\r\n"],
        True,
    )
    yield "endless chunk", [server.request_head(Transfer_Encoding="chunked"), b"ffffffffffffffffff\r\nx"], True
    yield (
        "long chunk extension",
        [server.request_head(Transfer_Encoding="chunked"), b"1;" + b"a" * 100_000 + b"\r\nx\r\n0\r\n\r\n"],
        True,
    )
    yield (
        "expects the impossible",
        [server.request_head(Expect="a miracle", Content_Type="image/png", Content_Length="3"), b"abc"],
        True,
    )
    yield "key without a word", [server.request_head("GET", "/v1/jobs", Authorization="Bearer")], False
    yield "key in another scheme", [server.request_head("GET", "/v1/jobs", Authorization="Basic eDp5")], False
    yield "key of odd letters", [server.request_head("GET", "/v1/jobs", Authorization="Bearer \xff\xfe")], False
    yield "long key", [server.request_head("GET", "/v1/jobs", Authorization="Bearer " + "k" * 50_000)], False
    yield "long idempotency key", posted(good, Idempotency_Key="k" * 5000), False
    yield "odd idempotency key", posted(good, Idempotency_Key="\xe4\x01"), False
    yield "upgrade", [server.request_head("GET", "/v1/jobs", Connection="Upgrade", Upgrade="websocket")], False
    yield (
        "a thousand parameters",
        [server.request_head("GET", "/v1/results?" + "&".join(f"a{n}=b" for n in range(1000)))],
        False,
    )
    yield "no such cursor", [server.request_head("GET", "/v1/jobs?cursor=" + "A" * 5000)], False
    yield "limit of letters", [server.request_head("GET", "/v1/jobs?limit=1e9")], False
    yield "a job of dots", [server.request_head("GET", "/v1/jobs/../../etc/passwd")], False
    yield "two thousand parts", posted(form(*[part(b"%d.png" % n, b"") for n in range(2000)])), False
    yield "parts of one name", posted(form(*[part(b"a.png", b"x")] * 20)), False
    yield "name of half letters", posted(form(part(b"\xff\xfe.png", factories.make_image()))), False


def test_malformed_requests_are_client_errors(server, subtests):
    """Over fifty kinds: a 4xx, or the HTTP server closes the connection; never a 5xx, never silence."""
    observed = {}
    for name, pieces, hang_up in malformed(server):
        with subtests.test(name):
            try:
                answered = server.send_raw(*pieces, half_close=hang_up, seconds=5)
            except TimeoutError:
                answered = (599, "silence")
            except OSError:  # it hung up before all was sent
                answered = None
            observed[name] = answered and answered[0]
            assert answered is None or answered[0] < 500, answered
            if answered and isinstance(answered[1], dict) and answered[0] >= 400:
                assert set(answered[1]) >= {"type", "title", "status", "code", "detail", "request_id"}
    assert len(observed) >= 50
    assert accepts_images(server)
    assert b"Traceback" not in server.log.read_bytes()


@pytest.mark.parametrize("key", ["valid", "invalid"])
def test_slow_clients_do_not_block_others(server, key):
    """Forty that send one byte and wait, with a key or without: others are served."""
    more = {} if key == "valid" else {"Authorization": "Bearer no"}
    lines = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(40)]
    try:
        for line in lines:
            line.sendall(server.request_head(Content_Type="image/png", Content_Length=200_000, **more) + b"x")
        time.sleep(0.5)
        status, body = server.send_raw(server.request_head("GET", "/livez"), seconds=5)
        assert (status, body) == (200, {"status": "alive"})
    finally:
        for line in lines:
            line.close()


def test_concurrent_submissions_are_all_accepted(server):
    """Thirty images on as many connections: thirty jobs."""
    with concurrent.futures.ThreadPoolExecutor(30) as pool:
        assert all(pool.map(lambda _: accepts_images(server), range(30)))


def test_the_server_is_small_and_does_not_load_torch(server):
    """Under 150 MB for each process."""
    assert accepts_images(server)
    family = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
    for process in family:
        assert process.memory_info().rss < 150_000_000
        assert not any("torch" in region.path for region in process.memory_maps())


def test_the_server_runs_with_its_malloc_settings_however_it_was_started(server):
    """`python -m api` has them in its own environment, with the process id that its parent knows."""
    assert psutil.Process(server.process.pid).environ().items() >= api_program.MALLOC_VARIABLES.items()


def test_sigterm_ends_the_server_cleanly(tmp_path, redis_url, database_template):
    """Exit code 0 within seconds, and no process is left."""
    with run_api_server(tmp_path, database_template, redis_url, measured=True) as server:
        family = psutil.Process(server.process.pid).children(recursive=True)
        assert accepts_images(server)
        server.process.terminate()
        assert server.process.wait(50) == 0
        _, left = psutil.wait_procs(family, timeout=20)
        assert left == []
        assert b"Traceback" not in server.log.read_bytes()


@pytest.mark.parametrize("setting", ["SORTBELT_PORT=x", "SORTBELT_HOSTS=y", "SORTBELT_DATABASE_URL=mysql://x"])
def test_a_bad_setting_ends_the_server_with_its_name(tmp_path, setting):
    """Exit code 2, one sentence on stderr, no stack trace."""
    name, _, value = setting.partition("=")
    environ = {**os.environ, "SORTBELT_BLOB_STORE": str(tmp_path), name: value}
    done = subprocess.run(
        [sys.executable, "-m", "api"], env=environ, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 2
    assert name in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_port_in_use_ends_the_server_with_a_sentence(tmp_path):
    """Neither a stack trace nor exit code 0."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environ = {**os.environ, "SORTBELT_PORT": str(taken.getsockname()[1]), "SORTBELT_BLOB_STORE": str(tmp_path)}
        command = [sys.executable, "-m", "api"]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "in use" in done.stderr + done.stdout


def test_an_unavailable_database_is_a_503_within_seconds(tmp_path, redis_url, database_template):
    """The server starts without its database."""
    away = f"postgresql+psycopg://u@127.0.0.1:{servers.free_port()}/x"
    with run_api_server(tmp_path, database_template, redis_url, measured=True, DATABASE_URL=away) as server:
        status, problem = server.send_raw(server.request_head("GET", "/v1/jobs"), seconds=6)
        assert (status, problem["code"]) == (503, "database_unavailable")
        assert server.send_raw(server.request_head("GET", "/livez"))[0] == 200


def test_a_long_stream_takes_no_memory_and_waits_for_its_client(tmp_path, redis_url, database_template):
    """Forty thousand results to a client that pauses; the server has not grown. An empty page ends nothing."""
    with run_api_server(tmp_path, database_template, redis_url, measured=True) as server:
        rows = 40_000
        factories.fill_results(f"sqlite:///{tmp_path}/sortbelt.db", rows)
        resident = [psutil.Process(p.pid) for p in psutil.Process(server.process.pid).children(recursive=True)]
        sizes = []
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
                line.sendall(server.request_head("GET", "/v1/results", Accept="application/x-ndjson"))
                received = line.recv(1000)
                time.sleep(1)
                sizes.append(max(process.memory_info().rss for process in resident))
                while data := line.recv(1_000_000):
                    received += data
            assert received.count(b'"image"') == rows
            assert received.endswith(b"0" + CRLF + CRLF)
        assert max(sizes) < 150_000_000
        path = "/v1/results?name=10000"  # not among the newest 20,000: the first page is empty
        status, body = server.send_raw(server.request_head("GET", path, Accept="application/x-ndjson"), seconds=60)
        assert status == 200
        assert body.count(b'"image": "10000"') == 1


def test_a_killed_server_leaves_no_process_on_its_port(tmp_path, redis_url, database_template):
    """Its child would go on listening beside the next server."""
    with run_api_server(tmp_path, database_template, redis_url, measured=True) as server:
        server.process.kill()
        server.process.wait()
        waiting.wait_until(lambda: not _listens(server.port))


def _listens(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(
    ("host", "address"),
    [("::1", "::1"), ("::", "::1"), ("0.0.0.0", "127.0.0.1"), ("localhost", "localhost")],  # noqa: S104 (that is what is tested)
)
def test_the_server_listens_on_ipv4_ipv6_and_names(tmp_path, redis_url, host, address):
    """An IPv6 literal is a host like any other."""
    port = servers.free_port()
    environ = {**os.environ, "SORTBELT_HOST": host, "SORTBELT_PORT": str(port), "SORTBELT_REDIS_URL": redis_url}
    environ |= {"SORTBELT_BLOB_STORE": str(tmp_path), "SORTBELT_DATABASE_URL": f"sqlite:///{tmp_path}/sortbelt.db"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "api"], env=environ, stdout=log, stderr=log)
    try:
        assert _status_of("/livez", address, port, process) == 200, (tmp_path / "log").read_text()
    finally:
        process.terminate()
        process.wait(15)


def _status_of(path, address, port, process):
    """The status of a GET, as soon as the server listens; None if it ends first."""
    while process.poll() is None:
        connection = http.client.HTTPConnection(address, port, timeout=5)
        with contextlib.suppress(ConnectionRefusedError), contextlib.closing(connection):
            connection.request("GET", path)
            return connection.getresponse().status
        time.sleep(0.05)
    return None


def test_an_ipv6_port_in_use_is_named_in_brackets(tmp_path):
    """As in a URL; without them the port would look like a part of the address."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        environ = {**os.environ, "SORTBELT_HOST": "::1", "SORTBELT_PORT": str(port)}
        environ |= {"SORTBELT_BLOB_STORE": str(tmp_path)}
        command = [sys.executable, "-m", "api"]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert f"[::1]:{port}" in done.stderr


@pytest.mark.parametrize("authorization", ["", None], ids=["no key", "key"])
def test_a_websocket_upgrade_is_refused_without_a_traceback(server, authorization):
    """It is an ordinary request to a server without websockets: answered, or refused with 4xx."""
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13"}
    headers["Sec_WebSocket_Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    headers |= {} if authorization is None else {"Authorization": authorization}
    for path in ("/v1/jobs/none/events", "/livez"):
        response = server.send_raw(server.request_head("GET", path, **headers), seconds=5)
        assert response is None or response[0] in (200, 400, 401, 403, 404)
    assert accepts_images(server)
    assert b"Traceback" not in server.log.read_bytes()
