"""`sortbelt status`, `wait` and `cancel`: one job, seen and steered."""

import sys

import click

from sortbelt import progress, records, terminal
from sortbelt.client import Client
from sortbelt.commands import options, serving

HEADS = ("job", "status", "total", "queued", "running", "done", "failed", "cancelled", "expired")


@click.command()
@click.argument("job_id", metavar="JOB")
@options.as_json
@serving.server()
def status(client: Client, job_id: str, *, as_json: bool) -> None:
    """Show how a job is.

    \b
    Examples:
      sortbelt status 0198c9a2
      sortbelt status 0198c9a2 --json | jq .counts
    """  # noqa: D301 - click wants the \b as it is
    show(client.job(job_id), as_json=as_json)


@click.command()
@click.argument("job_id", metavar="JOB")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Give up after so long (exit code 1).")
@options.as_json
@serving.server(serving.PATIENT)
def wait(client: Client, job_id: str, *, timeout: float | None, as_json: bool) -> None:
    """Stay with a job until it has ended.

    Exits with 0 if every image was classified, else with 1.

    \b
    Examples:
      sortbelt wait 0198c9a2
      sortbelt wait 0198c9a2 --timeout 60 --json
    """  # noqa: D301 - click wants the \b as it is
    job = stay(client, job_id, timeout)
    show(job, as_json=as_json)
    sys.exit(0 if job.all_well else 1)


@click.command()
@click.argument("job_id", metavar="JOB")
@options.as_json
@serving.server()
def cancel(client: Client, job_id: str, *, as_json: bool) -> None:
    """Stop a job; the results that it has stay.

    \b
    Example:
      sortbelt cancel 0198c9a2
    """  # noqa: D301 - click wants the \b as it is
    show(client.cancel(job_id), as_json=as_json)


def stay(client: Client, job_id: str, timeout: float | None = None) -> records.Job:
    """The job when it has ended, with progress until then."""
    go_on = f"The job goes on: `sortbelt wait {job_id}` comes back to it."
    with serving.interruptible(lambda: go_on), progress.progress() as bar:
        return client.wait(job_id, timeout, watch=bar.show)


def show(job: records.Job, *, as_json: bool) -> None:
    """Print a job."""
    if as_json:
        print(terminal.as_json(job.raw))
        return
    counts = job.counts
    numbers = [getattr(counts, head) for head in HEADS[2:]]
    terminal.table(HEADS, [(job.id, job.status if job.sealed else f"{job.status} (open)", *numbers)])
