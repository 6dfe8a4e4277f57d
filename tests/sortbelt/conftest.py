"""The command in this process, talking to a fake server."""

import threading
from types import SimpleNamespace

import click.testing
import pytest

from sortbelt import command, datafolder
from tests.sortbelt import fakeserver


@pytest.fixture
def server():
    """A fake server that runs."""
    fake = fakeserver.FakeServer()
    thread = threading.Thread(target=fake.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield fake
    fake.shutdown()
    thread.join()
    fake.server_close()


@pytest.fixture(autouse=True)
def _no_server_of_the_developers(monkeypatch, tmp_path):
    """What runs on this machine already must not reach the tests."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def sortbelt(server, monkeypatch):
    """The command in this process, talking to the fake server; its streams are no terminal."""
    monkeypatch.setenv("SORTBELT_URL", server.url)
    monkeypatch.setenv("SORTBELT_KEY", fakeserver.KEY)

    def run(*arguments):
        result = click.testing.CliRunner().invoke(command.cli, [str(a) for a in arguments])
        return SimpleNamespace(code=result.exit_code, out=result.stdout, err=result.stderr)

    return run


@pytest.fixture
def folder(tmp_path):
    """A data folder, made."""
    datafolder.prepare(tmp_path / "data")
    return tmp_path / "data"
