"""Check the Dockerfile: pinned bases, hashed packages, no root, and small images."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
STAGES = {stage.split()[2]: stage for stage in re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]}


def test_every_base_image_is_pinned_to_a_version():
    bases = {stage.split()[0] for stage in STAGES.values()} - set(STAGES)

    assert bases == {"python:3.11-slim-bookworm"}


def test_nothing_is_installed_without_its_hash():
    installs = re.findall(r"pip install .*", DOCKERFILE)

    assert len(installs) == 3
    assert all("--require-hashes" in install for install in installs)


def test_no_image_runs_as_root():
    for target in ("api", "worker"):
        assert re.findall(r"^USER (.*)", STAGES[target], flags=re.MULTILINE) == ["10001:10001"]


def test_the_api_image_has_neither_worker_nor_model_nor_torch():
    assert set(re.findall(r"^COPY (\w+) ", STAGES["api"], flags=re.MULTILINE)) == {
        "core",
        "dispatcher",
        "imaging",
        "migrations",
        "sortbelt",
        "api",
    }
    assert "torch" not in (ROOT / "requirements" / "api.txt").read_text(encoding="utf-8")


def test_every_copied_path_is_in_the_ignore_file():
    """The ignore file excludes unlisted paths, so a COPY of one would break the build."""
    ignored, *allowed = [
        line
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    copied = re.findall(r"^COPY (?!--from)(\S+)", DOCKERFILE, flags=re.MULTILINE)

    assert ignored == "*"
    assert all(f"!{path}" in allowed or f"!{path.split('/')[0]}" in allowed for path in copied)
    assert all((ROOT / path).exists() for path in copied)
