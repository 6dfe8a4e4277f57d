"""Helpers for browser tests: a real `sortbelt up`, sample images, and Chromium."""

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
CHROMIUM_FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]


def find_chromium() -> str | None:
    """Return the path of Chromium or Chrome on the PATH; None without one."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextlib.contextmanager
def launch_browser(path: str) -> Iterator[sync_api.Browser]:
    """Launch a headless browser without any stored state."""
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield launched
        launched.close()


@contextlib.contextmanager
def run_sortbelt(folder: Path, **settings: object) -> Iterator[dict[str, str]]:
    """Run `sortbelt up` with these settings during the block; yield the JSON it prints when ready."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SORTBELT_")}
    environ |= {f"SORTBELT_{name.upper()}": str(value) for name, value in settings.items()}
    command = [sys.executable, "-m", "sortbelt", "up", "--json", "--port", "0", "--data-dir", str(folder)]
    with subprocess.Popen(command, env=environ, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()
            process.communicate(timeout=120)


def draw_images(folder: Path, count: int) -> list[Path]:
    """Draw `count` images of sushi and as many of sandwiches; return their paths, sorted."""
    runpy.run_path(str(REPOSITORY / "docs" / "examples" / "draw.py"))["main"](folder, count)
    return sorted(folder.rglob("*.jpg"))
