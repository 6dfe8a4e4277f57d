"""Clients that generators of others make from /openapi.json, used against a real server."""

import base64
import contextlib
import importlib.resources
import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from core.db import database
from tests.integration.api.conftest import run_api_server
from tests.support import factories

TYPESCRIPT = Path(__file__).parent / "typescript"
JAVA_PROGRAM = Path(__file__).parent / "java" / "Lunch.java"
JAVA_LIBRARIES = Path("/usr/share/java")
GENERATOR = Path(str(importlib.resources.files("openapi_generator_cli"))) / "openapi-generator.jar"
JVM = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")  # of programs that run for seconds: less compilation
IMAGES = {"lunch.png": factories.make_image(1), "dinner.png": factories.make_image(2)}


@pytest.fixture
def server(tmp_path, redis_url, database_template):
    """A running API without workers."""
    with run_api_server(tmp_path, database_template, redis_url) as running:
        yield running


@pytest.mark.timeout(600)
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


@pytest.mark.timeout(600)
def test_a_java_client_of_openapi_generator_submits_polls_and_reads(server, tmp_path):
    """All of it compiles; a form with options, the job until it has ended, its results by label, and a problem."""
    jars = [GENERATOR, JAVA_LIBRARIES / "httpmime.jar", JAVA_LIBRARIES / "geronimo-annotation-1.3-spec.jar"]
    if not shutil.which("javac") or not all(jar.exists() for jar in jars):
        pytest.skip("needs a JDK and libraries: apt-get install libhttpmime-java libgeronimo-annotation-1.3-spec-java")
    url = f"http://127.0.0.1:{server.port}"
    (tmp_path / "openapi.json").write_bytes(httpx.get(f"{url}/openapi.json").content)
    (tmp_path / "lunch.png").write_bytes(IMAGES["lunch.png"])
    options = [
        "--library",
        "native",
        "--additional-properties",
        "openApiNullable=false,useSingleRequestParameter=static",
    ]
    options += ["--parameter-name-mappings", "wait=waitSeconds"]  # `wait` is a method of every Java object
    options += ["--global-property", "apis,models,supportingFiles,apiTests=false,modelTests=false"]
    run(tmp_path, "java", *JVM, "-jar", GENERATOR, "generate", "-g", "java", "-i", "openapi.json", "-o", ".", *options)
    class_path = os.pathsep.join(map(str, [*jars, tmp_path]))
    sources = [JAVA_PROGRAM, *(tmp_path / "src" / "main").rglob("*.java")]
    run(tmp_path, "javac", *(f"-J{flag}" for flag in JVM), "-proc:none", "-cp", class_path, "-d", ".", *sources)
    command = ["java", *JVM, "-cp", class_path, JAVA_PROGRAM.stem, url, server.key, "lunch.png"]
    with (
        contextlib.closing(database.Database(f"sqlite:///{tmp_path}/sortbelt.db")) as db,
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as program,
    ):
        while program.poll() is None and not (claimed := factories.claim_images(db)):
            time.sleep(0.1)
        factories.complete_claims(db, claimed)
        output, _ = program.communicate(timeout=60)
    label = httpx.get(f"{url}/v1/results", headers={"Authorization": f"Bearer {server.key}"}).json()["results"][0]
    assert output.splitlines() == ["Lunch done", f"lunch.png {label['label']} {label['confidence']}", "404"]


@pytest.mark.timeout(600)
def test_the_types_of_openapi_typescript_fit_a_client_and_the_server(server, tmp_path):
    """The strict compiler accepts a program that submits, polls, cancels and reads; and it runs."""
    for name in ("package.json", "package-lock.json", "client.mts"):
        shutil.copy(TYPESCRIPT / name, tmp_path)
    install_packages(tmp_path)
    url = f"http://127.0.0.1:{server.port}"
    (tmp_path / "openapi.json").write_bytes(httpx.get(f"{url}/openapi.json").content)
    image = base64.b64encode(IMAGES["lunch.png"]).decode()
    programs = tmp_path / "node_modules" / ".bin"
    compiler_options = ("--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck")
    run(tmp_path, programs / "openapi-typescript", "openapi.json", "-o", "schema.d.ts")
    run(tmp_path, programs / "tsc", *compiler_options, "client.mts")
    output = run(tmp_path, "node", "client.mjs", url, server.key, image)
    assert json.loads(output) == {"name": "Lunch", "status": "queued", "images": ["lunch.png"]}


def install_packages(folder):
    """Install the packages of the lock file; skip the test without npm or its registry."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("needs node and npm")
    command = ["npm", "ci", "--ignore-scripts", "--prefer-offline", "--fetch-retries=0", "--fetch-timeout=20000"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=90)
    except subprocess.TimeoutExpired:
        pytest.skip("npm did not install the packages within 90 s")
    if done.returncode:
        pytest.skip(f"npm cannot install the packages: {done.stderr[-300:]}")


def run(folder, *command):
    """Run a program in a folder; fail with its output if it fails, else return its output."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=150)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


PATHS = ("jobs.jobs_submit", "jobs.jobs_show", "jobs.jobs_cancel", "jobs.jobs_results", "results.results_index")
