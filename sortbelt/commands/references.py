"""What `sortbelt enqueue` does with pictures that lie with the server, or in a bucket: nothing is sent."""

import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

import click
from click.core import ParameterSource

from sortbelt import enqueue, export, manifest, progress, records, reference, terminal
from sortbelt.client import Client
from sortbelt.commands import folders, options, serving

ALONE = {"dry_run": "--dry-run", "fresh": "--fresh", "retry_failed": "--retry-failed", "watch": "--watch"}
ALONE |= {"idle": "--idle", "book": "--manifest", "job_id": "--job"}
"""What has no meaning for pictures that are not sent."""


def place(
    source: str | None, on_server: str | None, include: Sequence[str], exclude: Sequence[str]
) -> reference.Place | None:
    """What is to be classified by reference; None for a folder of this machine."""
    if (source is None) == (on_server is None):
        raise click.UsageError("Name a folder, an address such as s3://photos/2026, or --on-server NAME: one of them.")
    if on_server is None and source is not None and not source.startswith(reference.BUCKET):
        return None
    given = click.get_current_context()
    for name, option in ALONE.items():
        if given.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"{option} goes only with a folder of this machine.")
    name, _, prefix = on_server.partition("/") if on_server is not None else (source or "", "", "")
    return reference.Place(name, prefix, include, exclude)


def put_through(
    client: Client, what: reference.Place, wishes: enqueue.Wishes, failures: str | None, *, follow: bool, as_json: bool
) -> NoReturn:
    """Have the server classify what it finds, and show what came of it."""
    with progress.progress() as bar:
        client.notify(bar.wait)
        run = reference.ReferenceRun(client, what, wishes, bar.show)
        run.order()
        assert run.job  # noqa: S101 - it was ordered
        with serving.interruptible(
            lambda: f"The job goes on: `sortbelt wait {run.job and run.job.id}` comes back to it."
        ):
            if follow:
                run.follow()
        bar.end()
    summary = run.settle() if run.job.ended else enqueue.Summary()
    if failures and run.job.ended:
        export.failures(run.failures(), failures)
    failed = run.failures() if summary.failed else ()
    if as_json:
        print(terminal.as_json(_told(run.job, summary, failed)))
        sys.exit(0 if run.all_well else 1)
    terminal.table(("label", "images"), summary.labels.most_common())
    folders.tell_failures(failed, summary.failed)
    if run.job.scan and run.job.scan.status == "failed":
        options.tell(f"Not everything was found: {run.job.scan.error}")
    options.tell(f"Job {run.job.id} {run.job.status}: `sortbelt results {run.job.id}` shows every image.")
    sys.exit(0 if run.all_well else 1)


def _told(job: records.Job, summary: enqueue.Summary, failed: Iterable[manifest.Failure]) -> dict[str, object]:
    return {
        "job_id": job.id,
        "status": job.status,
        "counts": job.raw["counts"],
        "labels": dict(summary.labels.most_common()),
        "scan": job.raw["scan"],
        "failures": folders.listed(failed),
    }
