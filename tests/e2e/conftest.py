"""The whole stack as a user starts it, and a client that speaks to it."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image

REPOSITORY = Path(__file__).parent.parent.parent


@dataclass
class Stack:
    """A running `sortbelt up`."""

    process: subprocess.Popen[str]
    url: str
    key: str
    data_dir: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to find it."""
        return {**os.environ, "SORTBELT_URL": self.url, "SORTBELT_KEY": self.key}

    def client(self) -> httpx.Client:
        """An HTTP client with the key."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=30)

    def sortbelt(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run the command against it, to its end."""
        command = [sys.executable, "-m", "sortbelt", *arguments]
        options = {"env": self.environment, "cwd": REPOSITORY, "timeout": timeout}
        return subprocess.run(command, **options, capture_output=True, text=True, check=False)

    def children(self, mark: str) -> list[psutil.Process]:
        """Its child processes whose command line holds a mark."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                if mark in " ".join(child.cmdline()):
                    found.append(child)
        return found

    def results(self, job_id: str) -> list[dict]:
        """All results of a job, page after page."""
        found, url = [], f"/v1/jobs/{job_id}/results?limit=100"
        with self.client() as client:
            while url:
                response = client.get(url)
                found += response.json()["results"]
                url = response.links.get("next", {}).get("url")
        return found


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Start `sortbelt up` with options and settings; what still runs at the end is stopped."""
    running: list[Stack] = []

    def up(*options: str, data_dir: Path | None = None, **settings: object) -> Stack:
        data = data_dir or tmp_path / "data"
        environment = {**os.environ, **{f"SORTBELT_{name.upper()}": str(value) for name, value in settings.items()}}
        command = [sys.executable, "-m", "sortbelt", "up", "--json", "--port", "0", "--data-dir", str(data), *options]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            process.stdout.close()
            pytest.fail(f"`up` ended with {process.wait()}")
        ready = json.loads(line)
        running.append(Stack(process, ready["url"], ready["key"], Path(ready["data_dir"])))
        return running[-1]

    yield up
    for stack in running:
        if stack.process.poll() is None:
            stack.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                stack.process.wait(40)
        stack.process.kill()
        stack.process.wait()
        stack.process.stdout.close()


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[int], Path]:
    """Make a folder of small pictures, each of another colour."""

    def make(count: int) -> Path:
        made = tmp_path / "pictures"
        made.mkdir()
        for number in range(count):
            colour = (number % 256, number // 256 % 256, 90)
            Image.new("RGB", (96, 96), colour).save(made / f"{number:05}.png")
        return made

    return make


def until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait until a condition holds; a plain failure if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)
