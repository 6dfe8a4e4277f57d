"""Test the compose file for real: kill every service in turn, under load, and check that nothing is lost.

    python tests/deploy/compose_e2e.py [--keep]

It needs a Docker engine (`DOCKER_HOST`) and takes some minutes. It uses its own project, volumes, secrets and port,
and removes them at the end, except with `--keep`; the images stay. Exit codes: 0 nothing was lost, 1 something was
lost, 2 the test could not run.
"""
# ruff: noqa: T201 (a program for the terminal)

import argparse
import contextlib
import functools
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from compose_project import ROOT, ComposeProject, TrialError, wait_until
from submission_load import SubmissionLoad

from sortbelt import errors
from sortbelt.client.sync_client import Client
from sortbelt.client.transport import RetryPolicy

BIG_JOB_IMAGES = 400  # seconds of work, so that services can be killed in the middle of it
SERVICES = {"postgres": 1, "redis": 1, "api": 1, "dispatcher": 1}
COUNTS_QUERY = """
    SELECT (SELECT count(*) FROM images), (SELECT count(*) FROM results),
           (SELECT count(*) FROM images i WHERE NOT EXISTS (SELECT FROM results r WHERE r.image_id = i.id)),
           (SELECT count(*) FROM jobs WHERE done + failed + cancelled + expired <> total),
           (SELECT coalesce(max(attempt), 0) FROM images)
"""


@dataclass
class ComposeTrial:
    """Steps performed on a running project while jobs are submitted to it."""

    engine: ComposeProject
    load: SubmissionLoad

    def step(self, description: str, action: Callable[[], float]) -> None:
        """Perform an action, and print a table row with its duration."""
        seconds = action()
        print(f"{description:<64} {seconds:>8.1f} {self.load.image_count:>9}", flush=True)

    def up(self, workers: int) -> float:
        """Start all services; return the seconds until all are healthy."""
        started = time.monotonic()
        self.engine.compose("up", "--detach", "--scale", f"worker={workers}")
        self.engine.wait_healthy(**SERVICES, worker=workers)
        return time.monotonic() - started

    def down(self) -> float:
        """Stop and remove everything but the volumes; return the seconds taken."""
        started = time.monotonic()
        self.engine.compose("down")
        return time.monotonic() - started

    def during_job(self, action: Callable[[], float]) -> float:
        """Perform an action while a big job is running.

        Raises:
            TrialError: the job was done too soon.
        """
        job = self.load.submit(BIG_JOB_IMAGES)
        counts = self.load.client.job(job).counts
        while not counts.running and counts.queued:
            counts = self.load.client.job(job).counts
        if not counts.running + counts.queued:
            raise TrialError(f"A job of {BIG_JOB_IMAGES} images ended before the kill: increase BIG_JOB_IMAGES.")
        return action()

    def finish(self) -> float:
        """Stop submitting and wait for all jobs to end; return the seconds taken."""
        started = time.monotonic()
        self.load.stop()
        for job in list(self.load.jobs):
            self.load.client.wait(job, timeout=180)
        return time.monotonic() - started

    def find_problems(self) -> list[str]:
        """Return a sentence for each violation, according to the API and to the tables."""
        counts = self.engine.shell(
            self.engine.containers("postgres")[0], f'psql -U sortbelt -d sortbelt -AtF " " -c "{COUNTS_QUERY}"'
        )
        images, results, images_without_result, miscounted_jobs, attempts = map(int, counts.split())
        print(f"\nIn the tables: {images} images, {results} results, at most {attempts} attempts at one image.")
        problems = self.load.find_violations()
        if images != self.load.image_count:
            problems.append(f"{self.load.image_count} images were accepted, but the table has {images}.")
        if results != images or images_without_result or miscounted_jobs:
            problems.append(f"{images_without_result} images have no result, {miscounted_jobs} jobs do not add up.")
        return problems


def main() -> int:
    """Run the test; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keep", action="store_true", help="keep containers, volumes and secrets")
    try:
        with compose_stack(keep=parser.parse_args().keep) as (engine, url, key):
            problems = run_trial(engine, url, key)
    except (TrialError, subprocess.CalledProcessError, errors.SortbeltError) as error:
        print(f"compose_e2e: {error}", file=sys.stderr)
        return 2
    for sentence in problems:
        print(sentence)
    print("LOST OR DUPLICATED, see above." if problems else "Nothing was lost, nothing was duplicated.")
    return 1 if problems else 0


@contextlib.contextmanager
def compose_stack(*, keep: bool) -> Iterator[tuple[ComposeProject, str, str]]:
    """Build a project with its own secrets and port; yield it, the API's URL, and the admin key."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    secrets = Path(tempfile.mkdtemp(prefix="sortbelt-e2e-"))
    engine = ComposeProject("sortbelt-e2e", {"SECRETS_DIR": str(secrets), "API_PORT": str(port)})
    subprocess.run(["sh", ROOT / "deploy" / "secrets.sh", secrets], check=True, stdout=sys.stderr)
    engine.compose("down", "--volumes", "--remove-orphans")  # of an aborted run
    engine.compose("build")
    try:
        yield engine, f"http://127.0.0.1:{port}", (secrets / "admin_key").read_text("ascii").strip()
    except BaseException:
        engine.compose("logs", "--no-color", "--tail", "40")
        raise
    finally:
        if not keep:
            engine.compose("down", "--volumes", "--remove-orphans")
            shutil.rmtree(secrets)


def run_trial(engine: ComposeProject, url: str, key: str) -> list[str]:
    """Start the project, kill its services, restart it; return the violations."""
    retry_policy = RetryPolicy(down=300.0, busy=300.0)
    with Client(url, key, retry_policy=retry_policy) as client:
        trial = ComposeTrial(engine, SubmissionLoad(client))
        print(f"{'action':<64} {'seconds':>8} {'submitted':>9}")
        trial.step("up: migrated, all healthy", lambda: trial.up(1))
        first = trial.load.submit(24)
        trial.step(
            "a first job, including a broken image", lambda: wait_until(lambda: client.job(first).ended, "a job")
        )
        trial.load.start()
        all_services = ("worker", "redis", "postgres", "api")
        for services in (*((service,) for service in all_services), all_services):
            kill = functools.partial(engine.kill, *services)
            label = services[0] if len(services) == 1 else "all at once,"
            trial.step(f"kill -9 {label} mid-job: healthy again after", functools.partial(trial.during_job, kill))
        trial.step("3 workers: all healthy after", lambda: trial.up(3))
        trial.step(
            "kill -9 one of 3 workers mid-job: healthy again after",
            lambda: trial.during_job(lambda: engine.kill("worker")),
        )
        trial.step("down mid-job, volumes kept", lambda: trial.during_job(trial.down))
        trial.step("up again: healthy after", lambda: trial.up(3))
        trial.step("no more submitted: every job has ended after", trial.finish)
        return trial.find_problems()


if __name__ == "__main__":
    sys.exit(main())
