import importlib.metadata
from pathlib import Path

import sortbelt
from jobs import version

REPOSITORY = Path(__file__).parents[2]


def test_the_server_has_the_version_of_the_package():
    """There is one number, told in three places."""
    assert importlib.metadata.version("sortbelt") == version.VERSION == sortbelt.__version__


def test_no_program_of_the_server_asks_how_it_is_installed():
    """The images hold its folders, and no package of that name: who asks for it there breaks down."""
    files = [file for part in ("api", "jobs", "worker", "migrations") for file in (REPOSITORY / part).rglob("*.py")]
    assert [file for file in files if 'version("sortbelt")' in file.read_text(encoding="utf-8")] == []
