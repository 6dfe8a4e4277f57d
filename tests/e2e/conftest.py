"""Fixtures that start the whole stack as a user does."""

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
TIMEOUT_FACTOR = 4  # a busy machine may take this many times longer than the tests expect


@dataclass
class Stack:
    """A running `sortbelt up`."""

    process: subprocess.Popen[str]
    url: str
    key: str
    data_dir: Path

    @property
    def environment(self) -> dict[str, str]:
        """Environment in which the `sortbelt` command finds this stack."""
        return {**os.environ, "SORTBELT_URL": self.url, "SORTBELT_KEY": self.key}

    def client(self) -> httpx.Client:
        """Return an HTTP client with the API key."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=30)

    def run_sortbelt(self, *arguments: str, timeout: float = 500) -> subprocess.CompletedProcess[str]:
        """Run the `sortbelt` command against this stack, to its end."""
        command = [sys.executable, "-m", "sortbelt", *arguments]
        options = {"env": self.environment, "cwd": REPOSITORY, "timeout": timeout}
        return subprocess.run(command, **options, capture_output=True, text=True, check=False)

    def children(self, marker: str) -> list[psutil.Process]:
        """Return its child processes whose command line contains a text."""
        matches = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                if marker in " ".join(child.cmdline()):
                    matches.append(child)
        return matches

    def results(self, job_id: str) -> list[dict]:
        """Fetch all results of a job, page by page."""
        results, url = [], f"/v1/jobs/{job_id}/results?limit=100"
        with self.client() as client:
            while url:
                response = client.get(url)
                results += response.json()["results"]
                url = response.links.get("next", {}).get("url")
        return results


@pytest.fixture
def start_stack(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Return a function that starts `sortbelt up` with options and settings; stop all stacks at the end."""
    running: list[Stack] = []

    def up(*options: str, data_dir: Path | None = None, **settings: object) -> Stack:
        data_path = data_dir or tmp_path / "data"
        environment = {**os.environ, **{f"SORTBELT_{name.upper()}": str(value) for name, value in settings.items()}}
        command = [
            sys.executable,
            "-m",
            "sortbelt",
            "up",
            "--json",
            "--port",
            "0",
            "--data-dir",
            str(data_path),
            *options,
        ]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            process.stdout.close()
            pytest.fail(f"`sortbelt up` ended with exit code {process.wait()}")
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
def make_image_folder(tmp_path: Path) -> Callable[[int], Path]:
    """Return a function that creates a folder of small images of different colors."""

    def make(count: int) -> Path:
        image_dir = tmp_path / "images"
        image_dir.mkdir()
        for number in range(count):
            color = (number % 256, number // 256 % 256, 90)
            Image.new("RGB", (96, 96), color).save(image_dir / f"{number:05}.png")
        return image_dir

    return make


def wait_until(condition: Callable[[], object], seconds: float, description: str) -> None:
    """Wait until a condition holds, at most `seconds` times TIMEOUT_FACTOR; fail with the description."""
    deadline = time.monotonic() + seconds * TIMEOUT_FACTOR
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds * TIMEOUT_FACTOR} s: {description}"
        time.sleep(0.2)
