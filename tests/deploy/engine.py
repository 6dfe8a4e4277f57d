"""The compose file's services under one project name: started, looked at, killed, taken down."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 180.0


class Stuck(Exception):
    """Something that should have come about did not."""


class Engine:
    """One project on the Docker engine of `DOCKER_HOST`, which must run on this machine: it mounts files of it."""

    def __init__(self, project: str, environ: Mapping[str, str]) -> None:
        self._project = project
        self._environ = {**os.environ, **environ}
        self._compose = [*_compose(), "--project-name", project, "--file", str(ROOT / "docker-compose.yml")]

    def compose(self, *arguments: str) -> None:
        """Run a command of Docker Compose; what it says goes to stderr."""
        subprocess.run([*self._compose, *arguments], env=self._environ, check=True, stdout=sys.stderr)

    def containers(self, service: str) -> list[str]:
        """The ids of a service's containers, running or not."""
        labels = {"com.docker.compose.project": self._project, "com.docker.compose.service": service}
        filters = [f"--filter=label={name}={value}" for name, value in labels.items()]
        return _docker("ps", "--all", "--quiet", "--no-trunc", *filters).split()

    def healthy(self, service: str, count: int = 1) -> bool:
        """Whether so many containers of a service run and pass their health check."""
        return [healthy(state(container)) for container in self.containers(service)].count(True) == count

    def wait_healthy(self, **counts: int) -> float:
        """Wait until so many containers of each service are healthy; the seconds that took."""
        missing = ", ".join(counts)
        return wait(lambda: all(self.healthy(*wanted) for wanted in counts.items()), f"{missing} healthy")

    def kill(self, *services: str) -> float:
        """End all in the first container of each service by SIGKILL, wait until they are back; the seconds that took.

        `docker kill` would not do: Docker takes that for the wish to have it stopped. Killed from within, the container
        dies as it would of a crash, and its restart policy is tried too.
        """
        killed = {container: state(container)["StartedAt"] for container in (self.containers(s)[0] for s in services)}
        for container in killed:
            self.shell(container, "kill -9 -1", check=False)

        def back() -> bool:
            now = {container: state(container) for container in killed}
            return all(
                healthy(now[container]) and now[container]["StartedAt"] != killed[container] for container in now
            )

        return wait(back, f"{', '.join(services)} back after kill -9")

    def shell(self, container: str, command: str, *, check: bool = True) -> str:
        """What a shell command in a container prints."""
        return _docker("exec", container, "sh", "-c", command, check=check)


def state(container: str) -> Any:
    """What Docker says of a container's state."""
    return json.loads(_docker("inspect", "--format", "{{json .State}}", container))


def healthy(now: Any) -> bool:
    """Whether a container in this state runs and passes its health check."""
    return bool(now["Running"] and now["Health"]["Status"] == "healthy")


def wait(condition: Callable[[], bool], what: str) -> float:
    """Wait until a condition holds; the seconds that took.

    Raises:
        Stuck: it does not, for minutes.
    """
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > PATIENCE_SECONDS:
            raise Stuck(f"Waited {PATIENCE_SECONDS:g} s in vain for: {what}.")
        time.sleep(0.3)
    return time.monotonic() - started


def _docker(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *arguments], check=False, capture_output=True, text=True)
    if check and done.returncode:
        raise Stuck(f"docker {arguments[0]} says: {done.stderr.strip()}")
    return done.stdout.strip()


def _compose() -> list[str]:
    """The command of Docker Compose: the plug-in, or the program of old."""
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "info"], check=False, capture_output=True).returncode
    ):
        raise Stuck("No Docker engine answers: start one, or point DOCKER_HOST at it.")
    if subprocess.run(["docker", "compose", "version"], check=False, capture_output=True).returncode == 0:
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    raise Stuck("Docker Compose is missing: install its plug-in, or docker-compose.")
