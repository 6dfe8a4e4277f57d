"""The compose file, tried for real: everything in it is killed in turn, under load, and nothing may be lost.

    python tests/deploy/compose_e2e.py [--keep]

It needs a Docker engine (`DOCKER_HOST`) and takes some minutes. It uses a project, volumes, secrets and a port of its
own, and removes them at the end (`--keep` leaves them); the images stay. Exit code 0: nothing was lost; 1: something
was; 2: it could not be tried.
"""
# ruff: noqa: T201 (it prints: that is what it is for)

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

from engine import ROOT, Engine, Stuck, wait
from load import Load

from sortbelt import errors
from sortbelt.client import Client
from sortbelt.transport import Patience

BIG = 400  # pictures: seconds of work, so that there is a middle to kill in
SERVICES = {"postgres": 1, "redis": 1, "api": 1, "courier": 1}
TALLY = """
    SELECT (SELECT count(*) FROM images), (SELECT count(*) FROM results),
           (SELECT count(*) FROM images i WHERE NOT EXISTS (SELECT FROM results r WHERE r.image_id = i.id)),
           (SELECT count(*) FROM jobs WHERE done + failed + cancelled + expired <> total),
           (SELECT coalesce(max(attempt), 0) FROM images)
"""


@dataclass
class Trial:
    """The engine, the load on it, and what was done so far."""

    engine: Engine
    load: Load

    def step(self, what: str, act: Callable[[], float]) -> None:
        """Do something, and print a row about it."""
        seconds = act()
        print(f"{what:<64} {seconds:>8.1f} {self.load.images:>9}", flush=True)

    def up(self, workers: int) -> float:
        """Start everything; the seconds until all is healthy."""
        started = time.monotonic()
        self.engine.compose("up", "--detach", "--scale", f"worker={workers}")
        self.engine.wait_healthy(**SERVICES, worker=workers)
        return time.monotonic() - started

    def down(self) -> float:
        """Stop and remove everything but the volumes; the seconds that took."""
        started = time.monotonic()
        self.engine.compose("down")
        return time.monotonic() - started

    def amid(self, act: Callable[[], float]) -> float:
        """Do something while a big job is half done.

        Raises:
            Stuck: the job was done too soon.
        """
        job = self.load.submit(BIG)
        counts = self.load.client.job(job).counts
        while not counts.running and counts.queued:
            counts = self.load.client.job(job).counts
        if not counts.running + counts.queued:
            raise Stuck(f"A job of {BIG} pictures was done before anything could be killed: raise BIG.")
        return act()

    def finish(self) -> float:
        """Stop submitting and wait for all jobs to end; the seconds that took."""
        started = time.monotonic()
        self.load.stop()
        for job in list(self.load.jobs):
            self.load.client.wait(job, timeout=180)
        return time.monotonic() - started

    def wrong(self) -> list[str]:
        """What is not as promised, by the API and by the tables."""
        tally = self.engine.shell(
            self.engine.containers("postgres")[0], f'psql -U sortbelt -d sortbelt -AtF " " -c "{TALLY}"'
        )
        images, results, without, uneven, attempts = map(int, tally.split())
        print(f"\nIn the tables: {images} images, {results} results, at most {attempts} attempts at one image.")
        wrong = self.load.broken_promises()
        if images != self.load.images:
            wrong.append(f"{self.load.images} pictures were taken, but {images} are in the table.")
        if results != images or without or uneven:
            wrong.append(f"{without} images have no result, {uneven} jobs do not add up.")
        return wrong


def main() -> int:
    """Try it; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keep", action="store_true", help="leave containers, volumes and secrets where they are")
    try:
        with stack(keep=parser.parse_args().keep) as (engine, url, key):
            wrong = attempt(engine, url, key)
    except (Stuck, subprocess.CalledProcessError, errors.SortbeltError) as error:
        print(f"compose_e2e: {error}", file=sys.stderr)
        return 2
    for sentence in wrong:
        print(sentence)
    print("LOST OR DOUBLED, see above." if wrong else "Nothing was lost, nothing was doubled.")
    return 1 if wrong else 0


@contextlib.contextmanager
def stack(*, keep: bool) -> Iterator[tuple[Engine, str, str]]:
    """A built project with secrets and a port of its own: the engine, the URL that the API will have, the admin key."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    secrets = Path(tempfile.mkdtemp(prefix="sortbelt-e2e-"))
    engine = Engine("sortbelt-e2e", {"SECRETS_DIR": str(secrets), "API_PORT": str(port)})
    subprocess.run(["sh", ROOT / "deploy" / "secrets.sh", secrets], check=True, stdout=sys.stderr)
    engine.compose("down", "--volumes", "--remove-orphans")  # of a run that was cut off
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


def attempt(engine: Engine, url: str, key: str) -> list[str]:
    """Start it, break it, mend it; what went wrong."""
    patient = Patience(down=300.0, busy=300.0)
    with Client(url, key, patience=patient) as client:
        trial = Trial(engine, Load(client))
        print(f"{'what was done':<64} {'seconds':>8} {'submitted':>9}")
        trial.step("up: migrated, and all is healthy", lambda: trial.up(1))
        first = trial.load.submit(24)
        trial.step("a first job, its broken picture too", lambda: wait(lambda: client.job(first).ended, "a job"))
        trial.load.start()
        every = ("worker", "redis", "postgres", "api")
        for services in (*((service,) for service in every), every):
            kill = functools.partial(engine.kill, *services)
            who = services[0] if len(services) == 1 else "all at once,"
            trial.step(f"kill -9 {who} mid-job: healthy again after", functools.partial(trial.amid, kill))
        trial.step("3 workers: all healthy after", lambda: trial.up(3))
        trial.step(
            "kill -9 one of 3 workers mid-job: healthy again after", lambda: trial.amid(lambda: engine.kill("worker"))
        )
        trial.step("down mid-job, volumes kept", lambda: trial.amid(trial.down))
        trial.step("up again: healthy after", lambda: trial.up(3))
        trial.step("no more submitted: every job has ended after", trial.finish)
        return trial.wrong()


if __name__ == "__main__":
    sys.exit(main())
