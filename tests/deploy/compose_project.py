"""Control a Compose project: start, inspect, kill and remove its services."""

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
WAIT_TIMEOUT_SECONDS = 180.0


class TrialError(Exception):
    """The test could not run, or a condition was not met in time."""


class ComposeProject:
    """One project on the Docker engine of `DOCKER_HOST`, which must be local: services mount files of this machine."""

    def __init__(self, project: str, environ: Mapping[str, str]) -> None:
        self._project = project
        self._environ = {**os.environ, **environ}
        self._compose = [*_compose_command(), "--project-name", project, "--file", str(ROOT / "docker-compose.yml")]

    def compose(self, *arguments: str) -> None:
        """Run a Docker Compose command with its output on stderr."""
        subprocess.run([*self._compose, *arguments], env=self._environ, check=True, stdout=sys.stderr)

    def containers(self, service: str) -> list[str]:
        """Return the ids of a service's containers, running or not."""
        labels = {"com.docker.compose.project": self._project, "com.docker.compose.service": service}
        filters = [f"--filter=label={name}={value}" for name, value in labels.items()]
        return _docker("ps", "--all", "--quiet", "--no-trunc", *filters).split()

    def has_healthy(self, service: str, count: int = 1) -> bool:
        """Return whether exactly `count` containers of a service run and are healthy."""
        return [is_healthy(container_state(container)) for container in self.containers(service)].count(True) == count

    def wait_healthy(self, **counts: int) -> float:
        """Wait until the given number of containers of each service is healthy; return the seconds taken."""
        service_names = ", ".join(counts)
        return wait_until(
            lambda: all(self.has_healthy(*expected) for expected in counts.items()), f"{service_names} healthy"
        )

    def kill(self, *services: str) -> float:
        """Kill all processes in the first container of each service; return the seconds until they are healthy again.

        `docker kill` counts as a manual stop and disables the restart policy. Killed from within, the container ends as
        after a crash, which tests that policy too.
        """
        started_at = {
            container: container_state(container)["StartedAt"]
            for container in (self.containers(s)[0] for s in services)
        }
        for container in started_at:
            self.shell(container, "kill -9 -1", check=False)

        def has_restarted() -> bool:
            states = {container: container_state(container) for container in started_at}
            return all(
                is_healthy(states[container]) and states[container]["StartedAt"] != started_at[container]
                for container in states
            )

        return wait_until(has_restarted, f"{', '.join(services)} back after kill -9")

    def shell(self, container: str, command: str, *, check: bool = True) -> str:
        """Run a shell command in a container; return its output."""
        return _docker("exec", container, "sh", "-c", command, check=check)


def container_state(container: str) -> Any:
    """Return the state of a container as Docker reports it."""
    return json.loads(_docker("inspect", "--format", "{{json .State}}", container))


def is_healthy(container_status: Any) -> bool:
    """Return whether a container in this state runs and is healthy."""
    return bool(container_status["Running"] and container_status["Health"]["Status"] == "healthy")


def wait_until(condition: Callable[[], bool], description: str) -> float:
    """Wait until a condition holds; return the seconds taken.

    Raises:
        TrialError: the condition does not hold in time.
    """
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > WAIT_TIMEOUT_SECONDS:
            raise TrialError(f"Timed out after {WAIT_TIMEOUT_SECONDS:g} s, waiting for: {description}.")
        time.sleep(0.3)
    return time.monotonic() - started


def _docker(*arguments: str, check: bool = True) -> str:
    completed = subprocess.run(["docker", *arguments], check=False, capture_output=True, text=True)
    if check and completed.returncode:
        raise TrialError(f"docker {arguments[0]} failed: {completed.stderr.strip()}")
    return completed.stdout.strip()


def _compose_command() -> list[str]:
    """Return the command of Docker Compose: the plug-in, or the stand-alone program."""
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "info"], check=False, capture_output=True).returncode
    ):
        raise TrialError("No Docker engine answers: start one, or point DOCKER_HOST at it.")
    if subprocess.run(["docker", "compose", "version"], check=False, capture_output=True).returncode == 0:
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    raise TrialError("Docker Compose is missing: install its plug-in, or docker-compose.")
