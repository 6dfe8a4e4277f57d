"""Clients that generators of others make from /openapi.json, used against a real server."""

import base64
import importlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.integration.api.conftest import run_api_server
from tests.support import factories

TYPESCRIPT = Path(__file__).parent / "typescript"
IMAGES = {"lunch.png": factories.make_image(1), "dinner.png": factories.make_image(2)}


@pytest.fixture
def server(tmp_path, redis_url, database_template):
    """A running API without workers."""
    with run_api_server(tmp_path, database_template, redis_url) as running:
        yield running


@pytest.mark.timeout(180)
def test_a_client_of_openapi_python_client_submits_polls_and_reads(server, tmp_path, monkeypatch):
    """A form of two images with options, a raw JSON submission, the job, and the results of all jobs."""
    url = f"http://127.0.0.1:{server.port}"
    spec = tmp_path / "openapi.json"
    spec.write_bytes(httpx.get(f"{url}/openapi.json").content)
    command = [Path(sys.executable).parent / "openapi-python-client", "generate", "--path", spec, "--meta", "none"]
    done = subprocess.run(
        [*command, "--output-path", tmp_path / "generated_client"],
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
        env={"PATH": str(Path(sys.executable).parent)},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    monkeypatch.syspath_prepend(tmp_path)
    api, models, types = (importlib.import_module(f"generated_client.{name}") for name in ("client", "models", "types"))
    operations = {name: importlib.import_module(f"generated_client.api.{name}") for name in PATHS}
    with api.AuthenticatedClient(base_url=url, token=server.key, raise_on_unexpected_status=True) as client:
        files = [types.File(io.BytesIO(data), name, "image/png") for name, data in IMAGES.items()]
        body = models.JobsSubmitFilesBody(images=files, fresh=True, job_name="Lunch")
        job = operations["jobs.jobs_submit"].sync(client=client, body=body)
        assert (job.counts.total, job.name) == (2, "Lunch")
        body = models.JobsSubmitFilesBody(images=[types.File(io.BytesIO(IMAGES["lunch.png"]), "a.png", "image/png")])
        assert operations["jobs.jobs_submit"].sync(client=client, body=body).counts.queued == 1
        assert operations["jobs.jobs_show"].sync(job.id, client=client).status == models.JobStatus.QUEUED
        assert operations["jobs.jobs_cancel"].sync(job.id, client=client).status == models.JobStatus.CANCELLED
        found = operations["results.results_index"].sync(client=client).results
        assert {(one.image, one.status.value) for one in found} == {(name, "cancelled") for name in IMAGES}
        assert operations["jobs.jobs_results"].sync(job.id, client=client, limit=1).results[0].job_id == job.id


@pytest.mark.timeout(180)
def test_the_types_of_openapi_typescript_fit_a_client_and_the_server(server, tmp_path):
    """The strict compiler accepts a program that submits, polls, cancels and reads; and it runs."""
    modules = TYPESCRIPT / "node_modules"
    if not shutil.which("node") or not (modules / ".bin" / "openapi-typescript").exists():
        pytest.skip(f"needs node, and `npm install --prefix {TYPESCRIPT}`")
    url = f"http://127.0.0.1:{server.port}"
    (tmp_path / "node_modules").symlink_to(modules)
    (tmp_path / "openapi.json").write_bytes(httpx.get(f"{url}/openapi.json").content)
    shutil.copy(TYPESCRIPT / "client.mts", tmp_path)
    image = base64.b64encode(IMAGES["lunch.png"]).decode()
    compiler_options = ("--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck")
    for command in (
        (modules / ".bin" / "openapi-typescript", "openapi.json", "-o", "schema.d.ts"),
        (modules / ".bin" / "tsc", *compiler_options, "client.mts"),
        ("node", "client.mjs", url, server.key, image),
    ):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=150)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert json.loads(done.stdout) == {"name": "Lunch", "status": "queued", "images": ["lunch.png"]}


PATHS = ("jobs.jobs_submit", "jobs.jobs_show", "jobs.jobs_cancel", "jobs.jobs_results", "results.results_index")
