"""Run the how-to through the reverse proxies of `deploy/proxy`, with TLS and a path prefix. Skipped without them."""

import ipaddress
import json
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.docs import test_pages as pages
from tests.support import servers

PROXIES = Path(__file__).parents[2] / "deploy" / "proxy"
NGINX_MAIN = """
daemon off; master_process off; pid nginx.pid; error_log stderr;
events {}
http {
    access_log access.log;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    include site.conf;
}
"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of localhost, and its key."""
    address = ipaddress.ip_address("127.0.0.1")
    return servers.make_certificate(tmp_path_factory.mktemp("certificate"), "localhost", address)


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """A stack that trusts proxies on this machine."""
    with pages.run_stack(tmp_path_factory.mktemp("data"), SORTBELT_TRUSTED_PROXIES="127.0.0.0/8") as environ:
        yield environ


def write_nginx_site(folder, api_port, http_port, https_port, certificate):
    """Write the site of `deploy/proxy` with other ports, files and upstream; return the command."""
    site = (PROXIES / "nginx.conf").read_text(encoding="utf-8")
    replacements = {
        "listen 80;": f"listen 127.0.0.1:{http_port};",
        "listen 443 ssl;": f"listen 127.0.0.1:{https_port} ssl;",
        "photos.example;": "localhost;",
        "/etc/ssl/photos.example.pem": str(certificate[0]),
        "/etc/ssl/photos.example.key": str(certificate[1]),
        "127.0.0.1:8000": f"127.0.0.1:{api_port}",
    }
    for old, new in replacements.items():
        assert old in site
        site = site.replace(old, new)
    (folder / "site.conf").write_text(site, encoding="utf-8")
    (folder / "nginx.conf").write_text(NGINX_MAIN, encoding="utf-8")
    return [shutil.which("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]


def write_caddy_site(folder, api_port, http_port, https_port, certificate):
    """Write the site of `deploy/proxy` with other ports, certificate and upstream; return the command."""
    site = (PROXIES / "Caddyfile").read_text(encoding="utf-8")
    assert "photos.example {" in site
    site = site.replace(
        "photos.example {", f"https://localhost:{https_port} {{\n\ttls {certificate[0]} {certificate[1]}"
    )
    site = site.replace("127.0.0.1:8000", f"127.0.0.1:{api_port}")
    options = f"{{\n\tadmin off\n\thttp_port {http_port}\n\thttps_port {https_port}\n}}\n"
    (folder / "Caddyfile").write_text(options + site, encoding="utf-8")
    return [shutil.which("caddy"), "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


def _installed(program):
    is_missing = shutil.which(program) is None
    return pytest.param(program, marks=pytest.mark.skipif(is_missing, reason=f"{program} is not installed"))


@pytest.fixture(scope="module", params=map(_installed, ("nginx", "caddy")))
def proxied(request, stack, certificate, tmp_path_factory):
    """The variables of clients that reach the stack by https, below a path; nothing may reach the http side."""
    folder = tmp_path_factory.mktemp(request.param)
    http_port, https_port = servers.free_port(), servers.free_port()
    make_command = {"nginx": write_nginx_site, "caddy": write_caddy_site}[request.param]
    command = make_command(folder, httpx.URL(stack["SORTBELT_URL"]).port, http_port, https_port, certificate)
    trusted = {name: str(certificate[0]) for name in ("CURL_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        servers.wait_for_port(https_port, process=process)
        yield stack | trusted | {"SORTBELT_URL": f"https://localhost:{https_port}/sortbelt"}
        log = folder / "access.log"  # of nginx; Caddy writes none
        assert not log.exists() or " 308 " not in log.read_text(encoding="utf-8")  # no request came to the http side
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def work_dir(tmp_path):
    """Two images."""
    return pages.make_work_dir(tmp_path)


def test_the_how_to_runs_through_a_proxy_as_it_is_written(proxied, work_dir):
    """With curl, Python and JavaScript: every link leads back to the https side, below the path."""
    environ = proxied
    results = json.loads(pages.shell(pages.commands("howto/submit-and-poll.md"), work_dir, environ))["results"]
    assert {result["image"] for result in results} == {"lunch.jpg", "dinner.jpg"}
    programs = [[sys.executable, "-c", program] for program in pages.blocks("howto/submit-and-poll.md", "python")]
    if shutil.which("node"):
        (program,) = pages.blocks("howto/submit-and-poll.md", "javascript")
        programs.append(["node", "--input-type=module", "-e", program])
    for program in programs:
        printed = pages.run(program, work_dir, environ)
        assert sorted(line.split()[0] for line in printed.splitlines()) == ["dinner.jpg", "lunch.jpg"]
    pages.run(["sortbelt", "enqueue", ".", "--exclude", "docs"], work_dir, environ)


def test_links_and_pages_are_those_of_the_proxy(proxied, certificate):
    """Jobs, Location, Link, redirects, the OpenAPI document; none of them names the http side or the API's port."""
    environ = proxied
    url, headers = environ["SORTBELT_URL"], {"Authorization": f"Bearer {environ['SORTBELT_KEY']}"}
    context = ssl.create_default_context(cafile=certificate[0])
    with httpx.Client(verify=context, headers=headers, base_url=url, trust_env=False) as client:
        job = client.post("/v1/jobs", json={"open": True})
        links = [job.headers["Location"], *(value for name, value in job.json().items() if name.endswith("_url"))]
        assert all(link.startswith(f"{url}/v1/jobs/") for link in links)
        client.post("/v1/jobs", json={"open": True})
        assert f"<{url}/v1/jobs?" in client.get("/v1/jobs?limit=1").headers["Link"]
        assert client.get("/", follow_redirects=True).url == f"{url}/docs"
        assert client.get("/openapi.json").json()["servers"] == [{"url": "/sortbelt"}]
        page = client.get("/", headers={"Accept": "text/html"})
        assert 'href="static/page.css"' in page.text
        assert client.get("/static/page.css").status_code == 200
        assert url in client.get("/docs").text


def test_claims_of_a_client_do_not_pass_the_proxy(proxied, certificate):
    """Its own headers about proxies change no link."""
    environ = proxied
    context = ssl.create_default_context(cafile=certificate[0])
    claims = {"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example", "X-Forwarded-Prefix": "/evil"}
    headers = claims | {"Authorization": f"Bearer {environ['SORTBELT_KEY']}"}
    with httpx.Client(verify=context, trust_env=False) as client:
        job = client.post(f"{environ['SORTBELT_URL']}/v1/jobs", json={"open": True}, headers=headers).json()
    assert job["status_url"].startswith(f"{environ['SORTBELT_URL']}/v1/jobs/")
