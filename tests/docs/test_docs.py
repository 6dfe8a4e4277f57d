"""Check the documents against the code: links, commands, paths, test names, and generated pages."""

import functools
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import click.testing
import pytest
import torch

from model.inference import devices
from sortbelt.cli import main

REPOSITORY = Path(__file__).parent.parent.parent
TRACKED = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split()
PAGES = [name for name in TRACKED if name.endswith(".md")]
CURRENT_PAGES = [name for name in PAGES if name != "CHANGELOG.md"]  # which also names what was renamed
SHELL = re.compile(r"```(?:console|sh|bash)\n(.*?)```", re.DOTALL)
CODE_PATH = re.compile(
    r"`((?:api|benchmarks|core|deploy|dispatcher|docs|migrations|model|sortbelt|tests|worker)/[\w./-]+\.\w+)`"
)
UNTRACKED = "deploy/secrets/"  # files that only a server has


def test_links_lead_somewhere():
    """Every relative link of a page leads to a file of the project."""
    links = [(page, link) for page in PAGES for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", _read(page))]
    local = [(page, link) for page, link in links if not link.startswith(("http:", "https:"))]
    assert len(local) > 100
    assert [(page, link) for page, link in local if not (REPOSITORY / page).parent.joinpath(link).exists()] == []


def test_paths_exist():
    """Every path in backticks is one of the repository."""
    named = [(page, path) for page in CURRENT_PAGES for path in CODE_PATH.findall(_read(page))]
    tracked = [(page, path) for page, path in named if not path.startswith(UNTRACKED)]
    assert len(tracked) > 100
    assert [(page, path) for page, path in tracked if not (REPOSITORY / path).exists()] == []


def test_functions_are_in_the_files_beside_them():
    """In "`path.py` `name`" and "`name` in `path.py`" the file defines the name."""
    text = "\n".join(map(_read, CURRENT_PAGES))
    pairs = re.findall(r"`([\w./]+\.py)` `(\w+)`", text)
    pairs += [(path, name.split(".")[-1]) for name, path in re.findall(r"`([\w.]+)` in `([\w./]+\.py)`", text)]
    assert len(pairs) > 5
    missing = [
        (path, name)
        for path, name in pairs
        if not re.search(rf"^\s*(?:async )?(?:def|class) {name}\b|^\s*{name}\b.*=", _read(path), re.MULTILINE)
    ]
    assert missing == []


def test_tests_exist():
    """Every test that a page names in full exists."""
    named = {(page, name) for page in CURRENT_PAGES for name in re.findall(r"`(test_\w+)`", _read(page))}
    assert len(named) > 50
    assert {(page, name) for page, name in named if name not in _all_tests()} == set()


@functools.cache
def _read(path: str) -> str:
    return (REPOSITORY / path).read_text(encoding="utf-8")


@functools.cache
def _all_tests() -> frozenset[str]:
    files = (name for name in TRACKED if re.match(r"tests/.*\.py$", name))
    return frozenset(name for file in files for name in re.findall(r"def (test_\w+)", _read(file)))


def test_make_targets_exist():
    """Every `make TARGET` that a page names is in the Makefile."""
    pattern = re.compile(r"(?:`|^\$? ?)make ([a-z-]+)", re.MULTILINE)
    named = {(page, target) for page in PAGES for target in pattern.findall(_read(page))}
    targets = set(re.findall(r"^([a-z-]+):", _read("Makefile"), re.MULTILINE))
    assert len(named) > 10
    assert {(page, target) for page, target in named if target not in targets} == set()


def test_commands_exist():
    """Every `sortbelt COMMAND` in a page's shell examples has its help."""
    blocks = [block for page in PAGES for block in SHELL.findall(_read(page))]
    named = {name for block in blocks for name in re.findall(r"^\$? ?sortbelt ([a-z]+)", block, re.MULTILINE)}
    assert len(named) > 10
    for command in named:
        assert click.testing.CliRunner().invoke(main.cli, [command, "--help"]).exit_code == 0, command


def test_the_readme_shows_what_the_demo_prints(tmp_path):
    """The demo gives the labels that the README shows, with nearly the same confidences; less so in bfloat16."""
    shown = _rows((REPOSITORY / "README.md").read_text(encoding="utf-8"))
    assert len(shown) >= 4
    script = REPOSITORY / "docs" / "examples" / "demo.py"
    run = [sys.executable, str(script), "demo/pictures"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # it uses the `sortbelt` command
    options = {"cwd": tmp_path, "env": {**os.environ, "PATH": path}, "capture_output": True, "text": True}
    demo = subprocess.run(run, **options, timeout=150, check=False)

    assert demo.returncode == 0, demo.stderr
    printed = _rows(demo.stdout)
    assert len(printed) == 24
    tolerance = 0.01 if devices.resolve_dtype("auto", torch.device("cpu")) is torch.float32 else 0.1
    for name, (label, confidence) in shown.items():
        assert printed[name][0] == label
        assert printed[name][1] == pytest.approx(confidence, abs=tolerance)


def _rows(text: str) -> dict[str, tuple[str, float]]:
    rows = re.findall(r"^(\S+\.jpg)\s+done\s+(\w+)\s+(0\.\d+)", text, re.MULTILINE)
    return {name: (label, float(confidence)) for name, label, confidence in rows}


def test_the_readme_is_short():
    """A newcomer reads it in one go: at most 120 lines, and at most eight figures."""
    lines = (REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    assert len([line for line in lines if line.startswith("| ")]) - 1 <= 8


@pytest.mark.parametrize("name", ["make_commands.py", "make_formats.py", "make_settings.py"])
def test_the_generated_pages_are_current(name):
    """Each generated page is what its script generates now."""
    script = runpy.run_path(str(REPOSITORY / "docs" / name))
    assert script["PAGE"].read_text(encoding="utf-8") == script["page"](), f"run python docs/{name}"
