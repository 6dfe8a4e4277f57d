"""The documents say what is so."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent
TRACKED = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split()
PAGES = [name for name in TRACKED if name.endswith(".md")]
SHELL = re.compile(r"```(?:console|sh|bash)\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    """Every relative link of a page leads to a file of the project."""
    path = REPOSITORY / page
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
    gone = [t for t in targets if not t.startswith(("http:", "https:")) and not (path.parent / t).exists()]
    assert gone == []


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_exist(page):
    """Every `make TARGET` that a page names is in the Makefile."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|^\$? ?)make ([a-z-]+)", text, re.MULTILINE))
    there = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= there


@pytest.mark.parametrize("page", PAGES)
def test_commands_exist(page):
    """Every `sortbelt COMMAND` in a page's shell examples has its help."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    named = {m for block in SHELL.findall(text) for m in re.findall(r"^\$? ?sortbelt ([a-z]+)", block, re.MULTILINE)}
    for command in named:
        run = [sys.executable, "-m", "sortbelt", command, "--help"]
        assert subprocess.run(run, cwd=REPOSITORY, capture_output=True, check=False).returncode == 0, command


def test_the_readme_shows_what_the_demo_prints(tmp_path):
    """The README's demo gives the labels that the README shows, with nearly those confidences."""
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
    for name, (label, confidence) in shown.items():
        assert printed[name][0] == label
        assert printed[name][1] == pytest.approx(confidence, abs=0.01)


def _rows(text: str) -> dict[str, tuple[str, float]]:
    found = re.findall(r"^(\S+\.jpg)\s+done\s+(\w+)\s+(0\.\d+)", text, re.MULTILINE)
    return {name: (label, float(confidence)) for name, label, confidence in found}


@pytest.mark.parametrize("name", ["make_commands.py", "make_settings.py"])
def test_the_pages_of_commands_and_settings_are_current(name):
    """Each is what they say of themselves, all of them; its script makes it so."""
    script = runpy.run_path(str(REPOSITORY / "docs" / name))
    assert script["PAGE"].read_text(encoding="utf-8") == script["page"](), f"say python docs/{name}"
