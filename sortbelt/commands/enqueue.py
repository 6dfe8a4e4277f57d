"""`sortbelt enqueue`: a folder as one job, with progress and a summary; a repeat does nothing twice.

Or pictures that lie with the server, or in a bucket: by reference, so that nothing is sent.
"""

import sys

import click

from sortbelt import enqueue as runs
from sortbelt import export, folder, progress, terminal
from sortbelt.client import Client
from sortbelt.commands import folders, options, references, serving


@click.command()
@click.argument("source", metavar="[FOLDER | s3://BUCKET/PREFIX]", type=click.Path(), required=False)
@click.option(
    "--on-server", metavar="NAME[/PREFIX]", help="Pictures that lie with the server: `sortbelt sources` lists where."
)
@click.option(
    "--include", metavar="GLOB", multiple=True, help="Take files like this, whatever their suffix; repeatable."
)
@click.option("--exclude", metavar="GLOB", multiple=True, help="Leave out files and folders like this; repeatable.")
@click.option("--no-wait", is_flag=True, help="Do not stay until the pictures are classified.")
@click.option("--model", help="Model to use [default: the server's].")
@click.option("--priority", type=click.Choice(["interactive", "bulk"]), default="bulk", show_default=True)
@options.webhook
@click.option("--dry-run", is_flag=True, help="Only tell what would be sent.")
@click.option("--fresh", is_flag=True, help="Forget earlier runs: a new job with all pictures.")
@click.option("--retry-failed", is_flag=True, help="Send again, in a new job, what failed before.")
@click.option(
    "--max-failure-rate",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Stop when more fails than this share, such as 0.05.",
)
@click.option("--watch", is_flag=True, help="Stay, and send what is added to the folder, until ctrl-C.")
@click.option(
    "--idle", type=click.FloatRange(min=0), metavar="SECONDS", help="With --watch: end when nothing new came so long."
)
@click.option("--failures", metavar="FILE", type=click.Path(), help="Write what failed, and why, as CSV or NDJSON.")
@click.option("--manifest", "book", metavar="FILE", type=click.Path(), help="Where to remember what was sent.")
@click.option("--job", "job_id", metavar="JOB", help="Go on with a job that another machine left open.")
@options.as_json
@serving.server(serving.PATIENT)
def enqueue(
    client: Client,
    source: str | None,
    *,
    on_server: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    no_wait: bool,
    model: str | None,
    priority: str,
    webhook: str | None,
    dry_run: bool,
    fresh: bool,
    retry_failed: bool,
    max_failure_rate: float | None,
    watch: bool,
    idle: float | None,
    failures: str | None,
    book: str | None,
    job_id: str | None,
    as_json: bool,
) -> None:
    """Put a whole folder through as one job, and show what came of it.

    Takes jpg, jpeg, png, gif, bmp, webp, tif and tiff, in subfolders too; hidden files, symbolic links
    and special files are left alone. What was sent is remembered: the same command again goes on where
    one was stopped or killed, and later sends only what is new or changed, in a new job. Where the server
    has no room, or the key's quota is used up, it waits and goes on.

    Pictures in a bucket, or with --on-server in a folder of the server, are classified where they lie, if
    the server's admin has put that on its list: nothing is sent, and the job goes on without this command.

    Exits with 0 if every picture was classified, else with 1.

    \b
    Examples:
      sortbelt enqueue ~/Pictures
      sortbelt enqueue ~/Pictures --exclude thumbs --exclude '*_small.jpg'
      sortbelt enqueue ~/Pictures --no-wait --json
      sortbelt enqueue ~/Pictures --max-failure-rate 0.05 --failures failed.csv
      sortbelt enqueue ~/Pictures --retry-failed
      sortbelt enqueue /srv/camera --watch
      sortbelt enqueue s3://photos/2026
      sortbelt enqueue --on-server camera/january
    """  # noqa: D301 - click wants the \b as it is
    wishes = runs.Wishes(model, priority, retry_failed, max_failure_rate, webhook)
    if place := references.place(source, on_server, include, exclude):
        references.put_through(client, place, wishes, failures, follow=not no_wait, as_json=as_json)
    assert source is not None  # noqa: S101 - else there was a place
    pictures = folder.Folder(source, include, exclude)
    with (
        folders.book(client, source, model, book, job_id, fresh=fresh) as opened,
        progress.progress() as bar,
    ):
        client.notify(bar.wait)
        run = runs.FolderRun(client, pictures, opened, wishes, lambda run: folders.show(bar, run))
        run.begin(may_be_empty=watch)
        if dry_run:
            _tell_plan(run, as_json=as_json)
            return
        folders.put_through(run, idle, watch=watch, follow=not no_wait)
        bar.end()
        _report(run, run.settle() if run.ended else None, failures, as_json=as_json)
    sys.exit(0 if run.all_well else 1)


def _tell_plan(run: runs.FolderRun, *, as_json: bool) -> None:
    survey = run.survey
    plan = {
        "pictures": survey.pictures,
        "to_send": survey.new,
        "bytes_to_send": survey.new_size,
        "unchanged": run.tally.unchanged,
        "skipped": dict(survey.skipped),
        "job_id": run.job.id if run.job else None,
    }
    if as_json:
        print(terminal.as_json(plan))
        return
    print(f"{survey.new} of {survey.pictures} pictures would be sent ({survey.new_size:,} bytes).")
    _tell_skipped(run)


def _report(run: runs.FolderRun, summary: runs.Summary | None, failures: str | None, *, as_json: bool) -> None:
    if failures:
        export.failures(run.failures(), failures)
    if as_json:
        print(terminal.as_json(_as_json(run, summary)))
        return
    if summary:
        terminal.table(("label", "images"), summary.labels.most_common())
    folders.tell_failures(run.failures(), run.tally.not_sent + (summary.failed if summary else 0))
    _tell_skipped(run)
    if run.tally.changed:
        options.tell(f"{run.tally.changed} changed after they were sent: the same command again classifies them anew.")
    if run.job and run.tally.unchanged and not run.tally.sent:
        options.tell(f"Nothing is new since job {run.job.id}; --fresh classifies everything anew.")
    if run.job:
        options.tell(f"Job {run.job.id} {run.job.status}: `sortbelt results {run.job.id}` shows every image.")


def _as_json(run: runs.FolderRun, summary: runs.Summary | None) -> dict[str, object]:
    return {
        "job_id": run.job.id if run.job else None,
        "status": run.job.status if run.job else None,
        "counts": run.job.raw["counts"] if run.job else {},
        "labels": dict(summary.labels.most_common()) if summary else {},
        "sent": run.tally.sent,
        "by_reference": run.tally.by_reference,
        "unchanged": run.tally.unchanged,
        "changed": run.tally.changed,
        "not_sent": run.tally.not_sent,
        "skipped": dict(run.survey.skipped),
        "failures": folders.listed(run.failures()),
    }


def _tell_skipped(run: runs.FolderRun) -> None:
    skipped = run.survey.skipped
    if skipped:
        options.tell("Skipped: " + ", ".join(f"{count} {reason}" for reason, count in skipped.items()) + ".")
