"""`sortbelt jobs`, `status`, `wait`, `cancel` and `retry`: jobs seen, and one steered."""

import datetime as dt
import itertools
import sys
from collections.abc import Iterable

import click

from sortbelt import progress, records, terminal
from sortbelt.client import Client
from sortbelt.commands import options, serving

HEADS = ("job", "status", "total", "queued", "running", "done", "failed", "cancelled", "expired")


RECEIPT = ("job", "owner", "model", "images", "bytes", "purged", "gone")
MOST_UNASKED = 100


@click.command()
@click.option(
    "--status",
    type=click.Choice(["queued", "running", "done", "failed", "cancelled", "expired"]),
    help="Only jobs that are so.",
)
@click.option("--model", help="Only jobs for this model.")
@click.option("--owner", metavar="KEY_ID", help="Only jobs of this key, for who sees all.")
@click.option("--since", type=options.TIME, help="Only jobs made from this time on, such as 2026-01-31T12:00:00Z.")
@click.option("--until", type=options.TIME, help="Only jobs made before this time.")
@click.option("--limit", type=click.IntRange(min=1), default=MOST_UNASKED, show_default=True, help="At most so many.")
@click.option("--purged", is_flag=True, help="Instead, receipts of what was purged: what, when, how much.")
@options.as_json
@serving.server()
def jobs(
    client: Client,
    *,
    purged: bool,
    since: dt.datetime | None,
    until: dt.datetime | None,
    limit: int,
    as_json: bool,
    **wanted: str | None,
) -> None:
    """List jobs, newest first.

    \b
    Examples:
      sortbelt jobs
      sortbelt jobs --status running
      sortbelt jobs --since 2026-01-31T00:00:00Z --json
      sortbelt jobs --purged
    """  # noqa: D301 - click wants the \b as it is
    if purged:
        if since or until or any(wanted.values()):
            raise click.UsageError("--purged goes with --limit and --json only.")
        _show_purged(client, limit, as_json=as_json)
        return
    times = {name: moment.isoformat() if moment else None for name, moment in (("since", since), ("until", until))}
    found = client.jobs(**wanted, **times)
    some = itertools.islice(found, limit)
    if as_json:
        print(terminal.as_json({"jobs": [job.raw for job in some]}))
    else:
        _show(some)
    if next(found, None):
        options.tell(f"There are more than these {limit}: --limit gets them.")


@click.command()
@click.argument("job_id", metavar="JOB")
@options.as_json
@serving.server()
def status(client: Client, job_id: str, *, as_json: bool) -> None:
    """Show how a job is, and when it may be over.

    \b
    Examples:
      sortbelt status JOB
      sortbelt status JOB --json | jq .counts
    """  # noqa: D301 - click wants the \b as it is
    job = client.job(job_id)
    show(job, as_json=as_json)
    if sentence := outlook(job):
        options.tell(sentence)


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
      sortbelt wait JOB
      sortbelt wait JOB --timeout 60 --json
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
      sortbelt cancel JOB
    """  # noqa: D301 - click wants the \b as it is
    show(client.cancel(job_id), as_json=as_json)


@click.command()
@click.argument("job_id", metavar="JOB")
@click.option("--wait", "to_its_end", is_flag=True, help="Stay until it has ended.")
@options.as_json
@serving.server(serving.PATIENT)
def retry(client: Client, job_id: str, *, to_its_end: bool, as_json: bool) -> None:
    """Try again what failed in a job.

    Shows the job that holds it; with --wait, exits with 0 if every image was classified, else with 1.

    \b
    Examples:
      sortbelt retry JOB
      sortbelt retry JOB --wait
    """  # noqa: D301 - click wants the \b as it is
    job: records.Job = client.retry(job_id)
    if to_its_end:
        job = stay(client, job.id)
    show(job, as_json=as_json)
    sys.exit(1 if to_its_end and not job.all_well else 0)


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
    _show([job])


def outlook(job: records.Job) -> str | None:
    """When it will be over, in one sentence; None if it is, or nobody knows."""
    names = ("estimated_finish", "earliest_finish", "latest_finish")
    finish, earliest, latest = (records.moment(job.raw.get(name)) for name in names)
    if finish is None:
        return None
    between = f", hardly before {_clock(earliest)}" if earliest else ""
    between += f", hardly after {_clock(latest)}" if latest else ""
    return f"It will be over at about {_clock(finish)}{between}."


def _clock(moment: dt.datetime) -> str:
    """A moment as it is read here, with its day if that is another."""
    here = moment.astimezone()
    return f"{here:%H:%M:%S}" if here.date() == dt.datetime.now().astimezone().date() else f"{here:%Y-%m-%d %H:%M}"


def _show(some: Iterable[records.Job]) -> None:
    terminal.table(HEADS, map(_row, some))


def _show_purged(client: Client, limit: int, *, as_json: bool) -> None:
    some = list(itertools.islice(client.purges(), limit))
    if as_json:
        print(terminal.as_json({"purges": [one.raw for one in some]}))
        return
    rows = ((r.job_id, r.owner, r.model, r.images, r.bytes, r.purged_at, r.emptied_at) for r in some)
    terminal.table(RECEIPT, rows)


def _row(job: records.Job) -> tuple[object, ...]:
    numbers = [getattr(job.counts, head) for head in HEADS[2:]]
    return job.id, job.status if job.sealed else f"{job.status} (open)", *numbers
