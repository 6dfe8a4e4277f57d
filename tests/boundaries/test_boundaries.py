"""Promises about whole packages: allowed imports, and imports without side effects."""

import importlib.metadata
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import servers

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ["api", "core", "dispatcher", "migrations", "model", "sortbelt", "worker"]
CLIENT_LIBRARIES = {"anyio", "click", "httpx", "platformdirs", "rich"}
# Entry points, not meant to be imported: Celery and Alembic find their application there.
START_FILES = {"worker.app", "migrations.env"}

# Imports every module of a package and prints its side effects.
IMPORT_AUDIT = """
import importlib, json, os, sys, threading
package, modules = sys.argv[1], sys.argv[2:]
importlib.import_module(package)
actions = []
def hook(event, args):
    if event == "open" and isinstance(args[0], (str, bytes, os.PathLike)):
        path, mode, flags = os.fspath(args[0]), args[1], args[2]
        if isinstance(path, bytes): path = os.fsdecode(path)
        writes = (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        ours = path.startswith(os.getcwd()) and not path.startswith(sys.prefix) and "__pycache__" not in path
        writes = writes and "__pycache__" not in path and path != os.devnull
        if writes or (ours and not path.endswith((".py", ".pyc"))):
            actions.append(["open", path])
    if event in ("socket.connect", "socket.bind", "subprocess.Popen", "os.fork", "os.posix_spawn", "sqlite3.connect"):
        if args[0] != "/sbin/ldconfig":  # started by torch to find libraries
            actions.append([event, repr(args)[:200]])
sys.addaudithook(hook)
variables = []
class Environ(type(os.environ)):
    def __getitem__(self, key):
        if str(key).startswith("SORTBELT"): variables.append(key)
        return super().__getitem__(key)
os.environ.__class__ = Environ
for module in modules:
    importlib.import_module(module)
threads = [t.name for t in threading.enumerate() if t is not threading.main_thread()]
print(json.dumps({"actions": actions, "variables": variables, "threads": threads, "modules": sorted(sys.modules)}))
"""


def modules(package):
    """List every module of a package except entry points."""
    names = [info.name for info in pkgutil.walk_packages([str(ROOT / package)], f"{package}.")]
    return [package, *(n for n in names if n not in START_FILES and "__main__" not in n and ".versions" not in n)]


def audit_import(package, *names):
    """Import modules in a new process; return their side effects and what was loaded."""
    command = [sys.executable, "-c", IMPORT_AUDIT, package, *names]
    environ = servers.unmeasured({**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"})
    process = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=500, check=False)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def import_reports():
    """Return the import audit of each package."""
    return {package: audit_import(package, *modules(package)) for package in PACKAGES}


def loaded(report, *names):
    """Return which of these libraries an import has loaded."""
    return {name for name in names for module in report["modules"] if module == name or module.startswith(f"{name}.")}


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_has_no_side_effects(import_reports, package):
    """Importing any module opens no socket and no file, starts no process or thread, and reads no setting."""
    report = import_reports[package]
    assert report["actions"] == []
    assert report["variables"] == []
    assert report["threads"] == []


def test_the_api_loads_neither_torch_nor_the_worker(import_reports):
    """It must start in a second and stay small."""
    for package in ("api", "core", "dispatcher", "migrations"):
        assert loaded(import_reports[package], "torch", "torchvision", "numpy", "worker", "model") == set()


def test_only_the_api_loads_flask(import_reports):
    """The packages that the worker uses do not load the web server, and of the client the rules for files at most."""
    for package in ("core", "dispatcher", "migrations", "worker", "model"):
        assert loaded(import_reports[package], "flask", "granian", "api", "httpx", "sortbelt.cli") == set()


def test_the_model_does_not_load_the_queue(import_reports):
    """It can be trained and used without the queue."""
    assert (
        loaded(import_reports["model"], "sqlalchemy", "celery", "kombu", "redis", "core", "dispatcher", "worker")
        == set()
    )


def test_the_client_loads_no_server_library(import_reports):
    """Client and command use HTTP only: neither torch nor Flask, SQL nor Celery."""
    libraries = ["torch", "torchvision", "numpy", "flask", "sqlalchemy", "celery", "granian", "redis"]
    packages = [package for package in PACKAGES if package != "sortbelt"]
    assert loaded(import_reports["sortbelt"], *libraries, *packages) == set()


def test_a_decoder_process_loads_neither_torch_nor_the_database():
    """It must start quickly: it loads Pillow and numpy only."""
    report = audit_import("worker.decoding.decoder_child")
    assert loaded(report, "torch", "sqlalchemy", "celery", "pydantic", "flask") == set()


def test_the_s3_library_is_loaded_only_for_buckets(import_reports):
    """A blob store in a folder does not need it."""
    assert loaded(import_reports["core"], "obstore") == set()


def test_the_base_install_has_only_the_client_s_libraries():
    """Without extras neither torch nor Flask is installed."""
    requirements = [line for line in importlib.metadata.requires("sortbelt") or [] if "extra ==" not in line]
    assert {line.split(">")[0].split("=")[0].strip() for line in requirements} == CLIENT_LIBRARIES


def test_every_module_has_a_docstring():
    """Every file begins with a docstring."""
    undocumented = []
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            text = file.read_text("utf-8")
            if not text.startswith('"""'):
                undocumented.append(str(file.relative_to(ROOT)))
    assert undocumented == []
