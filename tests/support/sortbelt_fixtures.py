"""Fixtures that run the `sortbelt` command in this process, against a fake server."""

from types import SimpleNamespace

import click.testing
import pytest

from sortbelt.cli import main
from sortbelt.client.sync_client import Client
from sortbelt.local import data_directory
from tests.support import fake_api, servers


@pytest.fixture
def server():
    """Run a fake server."""
    with servers.serving(fake_api.FakeServer()) as fake:
        yield fake


@pytest.fixture
def client(server):
    """Connect a client to the fake server."""
    with Client(server.url, fake_api.KEY) as client:
        yield client


@pytest.fixture(autouse=True)
def _isolated_data_home(monkeypatch, tmp_path):
    """Hide the developer's own local stacks from the tests."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def run_cli(server, monkeypatch):
    """Return a function that runs a command against the fake server, without a terminal."""
    monkeypatch.setenv("SORTBELT_URL", server.url)
    monkeypatch.setenv("SORTBELT_KEY", fake_api.KEY)

    def run(*arguments):
        result = click.testing.CliRunner().invoke(main.cli, [str(a) for a in arguments])
        return SimpleNamespace(code=result.exit_code, out=result.stdout, err=result.stderr)

    return run


@pytest.fixture
def data_folder(tmp_path):
    """Create a data folder."""
    data_directory.prepare(tmp_path / "data")
    return tmp_path / "data"
