"""What the subcommands that put a folder through share: manifest, way, failures, and how to go on after ctrl-C."""

import contextlib
import itertools
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from sortbelt import enqueue, errors, manifest, progress
from sortbelt.client import Client
from sortbelt.commands import options, serving

MOST_LISTED = 20  # failures told one by one; --failures gets them all


@contextlib.contextmanager
def book(
    client: Client, source: str, model: str | None, path: str | None, job_id: str | None = None, *, fresh: bool = False
) -> Iterator[manifest.Manifest]:
    """The manifest of a folder, ready for a run; a disk that fails it is told in a sentence."""
    file = Path(path) if path else manifest.locate(client.place.url, client.place.key, source, model)
    opened = manifest.Manifest(file, source)
    try:
        latest = opened.latest()
        if fresh or (job_id and (latest is None or latest.id != job_id)):
            opened.clear()
            if job_id:
                opened.opened(job_id)
        yield opened
    except sqlite3.Error as error:
        raise errors.BadInput(f"The manifest {file} cannot be used: {error}.", "bad_manifest") from None
    finally:
        opened.close()


def show(bar: progress.Progress, run: enqueue.FolderRun) -> None:
    """Show how far a run is."""
    if run.job:
        bar.show(run.job, sent=run.has, total=run.wants)


def put_through(run: enqueue.FolderRun, idle: float | None = None, *, watch: bool = False, follow: bool = True) -> None:
    """Send the folder, seal the job, and stay with it if wanted; ctrl-C is answered with how to go on."""
    with serving.interruptible(lambda: _how_to_go_on(run)):
        if watch:
            run.keep_watching(idle)
        else:
            run.send()
        run.seal()
        if follow:
            run.follow()


def tell_failures(failures: Iterable[manifest.Failure], count: int) -> None:
    """Say of some of so many pictures why they have no label."""
    for failure in itertools.islice(failures, MOST_LISTED):
        options.tell(f"failed: {failure.name}: {failure.detail} ({failure.code})")
    if count > MOST_LISTED:
        options.tell(f"… and {count - MOST_LISTED} more: --failures FILE writes them all.")


def listed(failures: Iterable[manifest.Failure]) -> list[dict[str, str]]:
    """The same for an answer in JSON."""
    some = itertools.islice(failures, MOST_LISTED)
    return [{"image": f.name, "code": f.code, "detail": f.detail} for f in some]


def _how_to_go_on(run: enqueue.FolderRun) -> str:
    if run.job is None:
        return "Nothing was sent yet."
    if run.job.sealed:
        return f"The job goes on: the same command, or `sortbelt wait {run.job.id}`, comes back to it."
    return (
        f"Job {run.job.id} is open and has {run.has} of {run.wants} pictures: the same command goes on, "
        f"`sortbelt cancel {run.job.id}` gives it up."
    )
