"""What a play in a browser needs: a real `sortbelt up`, pictures, and a Chromium."""

import contextlib
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from playwright import sync_api

REPOSITORY = Path(__file__).parent.parent.parent
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]


def chromium() -> str | None:
    """The Chromium of this machine; None if there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextlib.contextmanager
def browser(path: str) -> Iterator[sync_api.Browser]:
    """A browser without a window, and without anything from before."""
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield opened
        opened.close()


@contextlib.contextmanager
def up(folder: Path, **settings: object) -> Iterator[dict[str, str]]:
    """`sortbelt up` with these settings until the block ends; what it printed when it was ready."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SORTBELT_")}
    environ |= {f"SORTBELT_{name.upper()}": str(value) for name, value in settings.items()}
    command = [sys.executable, "-m", "sortbelt", "up", "--json", "--port", "0", "--data-dir", str(folder)]
    with subprocess.Popen(command, env=environ, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()
            process.communicate(timeout=40)


def draw(folder: Path, count: int) -> list[Path]:
    """So many pictures of sushi, and as many of sandwiches."""
    runpy.run_path(str(REPOSITORY / "docs" / "examples" / "draw.py"))["main"](folder, count)
    return sorted(folder.rglob("*.jpg"))
