"""The promises that no function owns: who may import whom, and that importing does nothing."""

import importlib.metadata
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ["api", "jobs", "migrations", "model", "sortbelt", "worker"]
# These are started, not imported: Celery and Alembic find their application there.
START_FILES = {"worker.app", "migrations.env"}

# Imports each module of a package and writes down what it did besides reading code.
WATCH = """
import importlib, json, os, sys, threading
package, modules = sys.argv[1], sys.argv[2:]
importlib.import_module(package)
seen = []
def hook(event, args):
    if event == "open" and isinstance(args[0], (str, bytes, os.PathLike)):
        path, mode, flags = os.fspath(args[0]), args[1], args[2]
        if isinstance(path, bytes): path = os.fsdecode(path)
        writes = (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        ours = path.startswith(os.getcwd()) and not path.startswith(sys.prefix) and "__pycache__" not in path
        writes = writes and "__pycache__" not in path and path != os.devnull
        if writes or (ours and not path.endswith((".py", ".pyc"))):
            seen.append(["open", path])
    if event in ("socket.connect", "socket.bind", "subprocess.Popen", "os.fork", "os.posix_spawn", "sqlite3.connect"):
        if args[0] != "/sbin/ldconfig":  # torch asks it where libraries are
            seen.append([event, repr(args)[:200]])
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
print(json.dumps({"seen": seen, "variables": variables, "threads": threads, "modules": sorted(sys.modules)}))
"""


def modules(package):
    """Every module of a package but its start files and mains."""
    names = [info.name for info in pkgutil.walk_packages([str(ROOT / package)], f"{package}.")]
    return [package, *(n for n in names if n not in START_FILES and "__main__" not in n and ".versions" not in n)]


def imported(package, *names):
    """What importing these modules does, in a process of their own."""
    command = [sys.executable, "-c", WATCH, package, *names]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def reports():
    """What importing each package does."""
    return {package: imported(package, *modules(package)) for package in PACKAGES}


def loaded(report, *names):
    """Which of these libraries an import has brought along."""
    return {name for name in names for module in report["modules"] if module == name or module.startswith(f"{name}.")}


def test_imports_point_one_way():
    """The contracts of pyproject.toml, by the tool that knows them."""
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_does_nothing(reports, package):
    """No socket, no file, no process, no thread, no setting is touched by importing any module."""
    report = reports[package]
    assert report["seen"] == []
    assert report["variables"] == []
    assert report["threads"] == []


def test_the_api_and_what_it_shares_know_no_torch(reports):
    """It must start in a second and stay small."""
    for package in ("api", "jobs", "migrations"):
        assert loaded(reports[package], "torch", "torchvision", "numpy", "worker", "model") == set()


def test_what_both_sides_share_knows_neither(reports):
    """`jobs` and `migrations` know no web."""
    for package in ("jobs", "migrations", "worker", "model"):
        assert loaded(reports[package], "flask", "granian", "api", "sortbelt") == set()


def test_the_model_stands_alone(reports):
    """It can be trained and used without the queue."""
    assert loaded(reports["model"], "sqlalchemy", "celery", "kombu", "redis", "jobs", "worker") == set()


def test_what_users_hold_is_light(reports):
    """The client and the command speak HTTP: neither torch nor flask, SQL nor Celery."""
    heavy = ["torch", "torchvision", "numpy", "flask", "sqlalchemy", "celery", "granian", "redis"]
    assert loaded(reports["sortbelt"], *heavy, "api", "jobs", "worker", "model", "migrations") == set()


def test_a_decoder_knows_neither_torch_nor_the_database():
    """A child process that starts in a blink: Pillow and numpy."""
    report = imported("worker.decoder")
    assert loaded(report, "torch", "sqlalchemy", "celery", "pydantic", "flask") == set()


def test_a_bucket_s_library_is_only_for_those_with_a_bucket(reports):
    """Whoever keeps blobs in a folder does not pay for it."""
    assert loaded(reports["jobs"], "obstore") == set()


def test_the_libraries_of_the_base_install_are_the_client_s_own():
    """Without extras neither torch nor flask is installed."""
    needed = [line for line in importlib.metadata.requires("sortbelt") or [] if "extra ==" not in line]
    assert {line.split(">")[0].split("=")[0].strip() for line in needed} == {"anyio", "click", "httpx", "rich"}


def test_every_package_says_what_it_keeps():
    """The first line of every file is a docstring."""
    silent = []
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            text = file.read_text("utf-8")
            if not text.startswith('"""'):
                silent.append(str(file.relative_to(ROOT)))
    assert silent == []
