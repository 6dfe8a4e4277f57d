"""`sortbelt jobs`, `status`, `wait`, `cancel`, `retry`, `rename` and `delete`."""

from __future__ import annotations

import datetime as dt
import itertools
import sys
from collections.abc import Iterable, Mapping
from typing import Any, get_args

import click

from sortbelt.cli import progress, terminal
from sortbelt.cli.commands import _client, _completion, _options
from sortbelt.client import filters as filter_types
from sortbelt.client import responses
from sortbelt.client.responses import timestamps
from sortbelt.client.sync_client import Client

COUNT_HEADERS = ("total", "queued", "running", "done", "failed", "cancelled", "expired")
HEADERS = ("job", "status", *COUNT_HEADERS, "name", "submitted", "owner", "model")
PURGE_HEADERS = ("job", "owner", "model", "images", "bytes", "purged", "gone", "name", "deleted by")
IMAGE_FIELDS = ("image_id", "job_id", "bytes", "deleted_at", "deleted_by")
IMAGE_HEADERS = ("image", "job", "bytes", "deleted", "by")
DEFAULT_LIMIT = 100
job_argument = click.argument("job_id", metavar="JOB", shell_complete=_completion.jobs)


@click.command()
@click.option(
    "--status",
    type=click.Choice(get_args(filter_types.JobStatus)),
    help="Only jobs with this status.",
)
@click.option("--name", metavar="TEXT", help="Only jobs with this text in their name.")
@click.option("--model", metavar="NAME", help="Only jobs for this model.", shell_complete=_completion.models)
@_options.owner_option
@_options.since_option
@_options.until_option
@click.option("--limit", type=click.IntRange(min=1), default=DEFAULT_LIMIT, show_default=True, help="Maximum rows.")
@click.option("--purged", is_flag=True, help="List purged jobs instead: when, and how many images and bytes.")
@_client.client_options()
def jobs(
    client: Client,
    *,
    purged: bool,
    limit: int,
    as_json: bool,
    **filters: Any,
) -> None:
    """List jobs, newest first.

    \b
    Examples:
      sortbelt jobs
      sortbelt jobs --status running
      sortbelt jobs --since 24h --owner camera-7
      sortbelt jobs --name holidays --json
      sortbelt jobs --purged
    """
    if purged:
        if any(filters.values()):
            raise click.UsageError("--purged works only with --limit and --json.")
        purges = itertools.islice(client.purges(), limit)
        terminal.print_items("purges", purges, PURGE_HEADERS, _purge_to_row, as_json=as_json)
        return
    matching_jobs = iter(client.jobs(**filters))
    listed = itertools.islice(matching_jobs, limit)
    terminal.print_items("jobs", listed, HEADERS, to_row, as_json=as_json, optional=COUNT_HEADERS)
    if next(matching_jobs, None):
        _options.print_stderr(f"There are more than these {limit}: --limit gets them.")


@click.command()
@job_argument
@_client.client_options()
def status(client: Client, job_id: str, *, as_json: bool) -> None:
    """Show a job's status and its estimated end.

    \b
    Examples:
      sortbelt status JOB
      sortbelt status JOB --json | jq .counts
    """
    job = client.job(job_id)
    print_job(job, as_json=as_json)
    if message := eta_message(job):
        _options.print_stderr(message)


@click.command()
@job_argument
@click.option(
    "--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Stop waiting after SECONDS (exit code 1)."
)
@_client.client_options(_client.LONG_RUN_RETRY)
def wait(client: Client, job_id: str, *, timeout: float | None, as_json: bool) -> None:
    """Wait until a job has ended.

    Exits with 0 if every image was classified, else with 1.

    \b
    Examples:
      sortbelt wait JOB
      sortbelt wait JOB --timeout 60 --json
    """
    job = wait_for_job(client, job_id, timeout)
    print_job(job, as_json=as_json)
    sys.exit(0 if job.all_well else 1)


@click.command()
@job_argument
@_client.client_options()
def cancel(client: Client, job_id: str, *, as_json: bool) -> None:
    """Cancel a job; existing results stay.

    \b
    Example:
      sortbelt cancel JOB
    """
    print_job(client.cancel(job_id), as_json=as_json)


@click.command()
@job_argument
@click.option("--wait", "wait_until_ended", is_flag=True, help="Wait until the new job has ended.")
@_client.client_options(_client.LONG_RUN_RETRY)
def retry(client: Client, job_id: str, *, wait_until_ended: bool, as_json: bool) -> None:
    """Classify again, in a new job, the images of a job that got no label.

    Shows the new job; with --wait, exits with 0 if every image was classified, else with 1.

    \b
    Examples:
      sortbelt retry JOB
      sortbelt retry JOB --wait
    """
    job: responses.Job = client.retry(job_id)
    print_left_out(job, "they would fail again")
    if wait_until_ended:
        job = wait_for_job(client, job.id)
    print_job(job, as_json=as_json)
    sys.exit(1 if wait_until_ended and not job.all_well else 0)


@click.command()
@job_argument
@click.argument("name")
@_client.client_options(may_be_empty=["name"])
def rename(client: Client, job_id: str, name: str, *, as_json: bool) -> None:
    """Change the name of a job; an empty one removes it.

    \b
    Example:
      sortbelt rename JOB "Holidays 2026"
    """
    print_job(client.rename(job_id, name or None), as_json=as_json)


@click.command()
@click.argument("job_ids", metavar="[JOB…]", nargs=-1, shell_complete=_completion.jobs)
@click.option("--image", "image_ids", metavar="ID", multiple=True, help="One image instead of a job; repeatable.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_client.client_options()
def delete(client: Client, job_ids: tuple[str, ...], *, image_ids: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Delete jobs or single images, with their bytes and results.

    This cannot be undone; a receipt stays in `sortbelt jobs --purged`. A job that has not ended is cancelled
    first. The id of an image is its `image_id` in `sortbelt results --json`.

    \b
    Examples:
      sortbelt delete JOB
      sortbelt delete --image 4711 --yes
    """
    if not job_ids and not image_ids:
        raise click.UsageError("Name jobs, or images with --image ID.")
    if not yes:
        what = [f"{len(ids)} {noun}" for ids, noun in ((job_ids, "jobs"), (image_ids, "images")) if ids]
        click.confirm(f"Delete {' and '.join(what)} for good?", abort=True, err=True)
    purges: list[responses.PurgeRecord] = []
    images: list[dict[str, Any]] = []
    try:
        purges.extend(client.delete_job(id_) for id_ in job_ids)
        images.extend(client.delete_image(id_) for id_ in image_ids)
    finally:  # what was deleted before an error has its receipt
        if as_json and (purges or images):
            print(terminal.to_json_line({"purges": [purge.raw for purge in purges], "images": images}))
        elif purges or images:
            terminal.print_table(PURGE_HEADERS, map(_purge_to_row, purges))
            print_image_receipts(images)


def wait_for_job(client: Client, job_id: str, timeout: float | None = None) -> responses.Job:
    """Show progress until the job has ended, and return it."""
    resume_hint = f"The job goes on: `sortbelt wait {job_id}` waits for it."
    with _client.interruptible(lambda: resume_hint), progress.create_progress() as bar:
        return client.wait(job_id, timeout, watch=bar.update)


def print_job(job: responses.Job, *, as_json: bool) -> None:
    """Print a job."""
    terminal.print_item(job, HEADERS, to_row, as_json=as_json, optional=COUNT_HEADERS)


def print_left_out(job: responses.Job, reason: str) -> None:
    """Say on stderr how many images a new job leaves out."""
    left_out = [f"{entry['images']:,} {entry['code']}" for entry in job.raw.get("left_out", ())]
    if left_out:
        _options.print_stderr(f"Left out, since {reason}: {', '.join(left_out)}.")


def print_image_receipts(receipts: Iterable[Mapping[str, Any]]) -> None:
    """Print the receipts of deleted images."""
    terminal.print_table(IMAGE_HEADERS, ([receipt[name] for name in IMAGE_FIELDS] for receipt in receipts))


def eta_message(job: responses.Job) -> str | None:
    """Return a sentence with the job's estimated end; None if it has ended, or has no estimate."""
    names = ("estimated_finish", "earliest_finish", "latest_finish")
    finish, earliest, latest = (timestamps.parse_timestamp(job.raw.get(name)) for name in names)
    if finish is None:
        return None
    bounds = [f"not before {_format_time(earliest)}"] if earliest else []
    bounds += [f"not after {_format_time(latest)}"] if latest else []
    details = f" (probably {' and '.join(bounds)})" if bounds else ""
    return f"Estimated end: {_format_time(finish)}{details}."


def _format_time(timestamp: dt.datetime) -> str:
    """Return the local time, with the date if that is not today."""
    local_time = timestamp.astimezone()
    is_today = local_time.date() == dt.datetime.now().astimezone().date()
    return f"{local_time:%H:%M:%S}" if is_today else f"{local_time:%Y-%m-%d %H:%M}"


def to_row(job: responses.Job) -> tuple[object, ...]:
    """Return the cells of `HEADERS`."""
    status_counts = [getattr(job.counts, header) for header in COUNT_HEADERS]
    status = job.outcome if job.sealed else f"{job.outcome} (open)"
    return job.id, status, *status_counts, job.name, job.created_at, job.owner, job.model


def _purge_to_row(purge: responses.PurgeRecord) -> tuple[object, ...]:
    times = (purge.purged_at, purge.emptied_at)
    who = (purge.raw.get("name"), purge.raw.get("deleted_by"))
    return purge.job_id, purge.owner, purge.model, purge.images, purge.bytes, *times, *who
