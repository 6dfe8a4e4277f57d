import importlib.metadata
import re
from pathlib import Path

import sortbelt
from sortbelt import version

REPOSITORY = Path(__file__).parents[3]
SERVER_PACKAGES = ("api", "core", "dispatcher", "migrations", "worker")


def test_the_package_has_the_version_of_the_module():
    """The build reads it from `sortbelt/version.py`."""
    assert importlib.metadata.version("sortbelt") == version.VERSION == sortbelt.__version__


def test_images_are_tagged_with_the_version():
    """Compose, chart and the EC2 script name the same release."""
    files = ["docker-compose.yml", "deploy/kubernetes/values.yaml", "deploy/ec2/cloud-init.yml", "deploy/README.md"]
    for name in files:
        tags = re.findall(r"sortbelt-[a-z-]+:([0-9][^\s]*)", REPOSITORY.joinpath(name).read_text(encoding="utf-8"))
        assert set(tags) == {version.VERSION}, name


def test_no_program_of_the_server_asks_how_it_is_installed():
    """The images hold its folders, and no installed package: there, the metadata cannot be read."""
    files = [file for part in SERVER_PACKAGES for file in (REPOSITORY / part).rglob("*.py")]
    assert files
    assert [file for file in files if 'version("sortbelt")' in file.read_text(encoding="utf-8")] == []
