"""The wheel by itself: a client needs nothing of the servers'."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support import fake_api

REPOSITORY = Path(__file__).parent.parent.parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built without a network."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(out)]
    built = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """The Python of a fresh environment with the wheel and the libraries that it asks for, and nothing else."""
    venv = tmp_path_factory.mktemp("venv") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    for name in closure("sortbelt") - {"sortbelt"}:
        copy(importlib.metadata.distribution(name), site)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return venv / "bin" / "python"


def closure(name):
    """A distribution and all that it needs without extras, by normal name."""
    found, todo = set(), [name]
    while todo:
        one = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if one in found:
            continue
        found.add(one)
        for line in importlib.metadata.requires(one) or []:
            requirement, _, marker = line.partition(";")
            if "extra" not in marker and "python_version <" not in marker and "win32" not in marker:
                todo.append(re.match(r"[\w.-]+", requirement)[0])
    return found


def copy(distribution, site):
    """Put a distribution that is installed here into another environment."""
    for file in distribution.files or []:
        if ".." not in file.parts and "__pycache__" not in file.parts:
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(distribution.locate_file(file), site / file)


def run(python, *words, **environ):
    command = [str(python), "-P", *words]
    clean = {"PATH": os.environ["PATH"], "HOME": str(python.parent.parent), **environ}
    return subprocess.run(command, env=clean, cwd=python.parent, capture_output=True, text=True, check=False)


def test_the_client_imports_where_neither_torch_nor_flask_is(python):
    script = """
import importlib.util
from sortbelt import AsyncClient, Client, SortbeltError
assert not [n for n in ("torch", "flask", "sqlalchemy", "celery", "numpy", "pydantic") if importlib.util.find_spec(n)]
"""
    done = run(python, "-c", script)

    assert done.returncode == 0, done.stderr


def test_the_command_puts_a_folder_through(python, server, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"1")

    done = run(
        python,
        *("-m", "sortbelt", "enqueue", str(tmp_path / "photos")),
        SORTBELT_URL=server.url,
        SORTBELT_KEY=fake_api.KEY,
        XDG_STATE_HOME=str(tmp_path),
    )

    assert (done.returncode, done.stdout) == (0, "sushi\t1\n"), done.stderr


def test_the_wheel_has_the_client_and_the_command_alone(wheel):
    """Names such as `api`, `core` and `model` belong to the user."""
    with zipfile.ZipFile(wheel) as archive:
        packed = {name.partition("/")[0] for name in archive.namelist()}
    assert packed == {"sortbelt", *(name for name in packed if name.endswith(".dist-info"))}


@pytest.mark.parametrize("words", [["up"], ["doctor"], ["db", "upgrade"]], ids=" ".join)
def test_commands_of_the_server_say_what_they_need(python, words):
    done = run(python, "-m", "sortbelt", *words)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "has only the client" in done.stderr
    assert "need a checkout of Sortbelt (`make setup`) or its container images" in done.stderr


def test_the_wheel_says_that_it_is_typed(wheel):
    with zipfile.ZipFile(wheel) as archive:
        assert "sortbelt/py.typed" in archive.namelist()
