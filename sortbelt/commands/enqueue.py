"""`sortbelt enqueue`: a folder as one job, with progress and a summary."""

import shlex
import sys

import click

from sortbelt import enqueue as runs
from sortbelt import folder, progress, terminal
from sortbelt.client import Client
from sortbelt.commands import options, serving


@click.command()
@click.argument("source", metavar="FOLDER", type=click.Path())
@click.option(
    "--include", metavar="GLOB", multiple=True, help="Take files like this, whatever their suffix; repeatable."
)
@click.option("--exclude", metavar="GLOB", multiple=True, help="Leave out files and folders like this; repeatable.")
@click.option("--no-wait", is_flag=True, help="Do not stay until the pictures are classified.")
@click.option("--model", help="Model to use [default: the server's].")
@click.option("--priority", type=click.Choice(["interactive", "bulk"]), default="bulk", show_default=True)
@click.option("--job", "job_id", metavar="JOB", help="Go on with a job that was left open, instead of a new one.")
@options.as_json
@serving.server(serving.PATIENT)
def enqueue(
    client: Client,
    source: str,
    *,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    no_wait: bool,
    model: str | None,
    priority: str,
    job_id: str | None,
    as_json: bool,
) -> None:
    """Put a whole folder through as one job, and show what came of it.

    Takes jpg, jpeg, png, gif, bmp, webp, tif and tiff, in subfolders too; hidden files, symbolic links
    and special files are left alone. Exits with 0 if every picture was classified, else with 1.

    \b
    Examples:
      sortbelt enqueue ~/Pictures
      sortbelt enqueue ~/Pictures --exclude thumbs --exclude '*_small.jpg'
      sortbelt enqueue ~/Pictures --no-wait --json
    """  # noqa: D301 - click wants the \b as it is
    pictures = folder.Folder(source, include, exclude)
    run = runs.start(client, pictures, job_id=job_id, model=model, priority=priority)
    _go(client, pictures, run, follow=not no_wait)
    _report(run, runs.summarize(client, run.job.id) if run.job.ended else None, as_json=as_json)
    sys.exit(0 if not run.not_sent and (run.job.all_well or no_wait) else 1)


def _go(client: Client, pictures: folder.Folder, run: runs.Run, *, follow: bool) -> None:
    with serving.interruptible(lambda: _how_to_go_on(pictures, run)), progress.progress() as bar:

        def watch(run: runs.Run) -> None:
            bar.show(run.job, sent=run.sent, total=run.survey.pictures)

        runs.send(client, pictures, run, watch)
        if follow:
            runs.follow(client, run, watch)


def _how_to_go_on(pictures: folder.Folder, run: runs.Run) -> str:
    if run.job.sealed:
        return f"The job goes on: `sortbelt wait {run.job.id}` comes back to it."
    return (
        f"Job {run.job.id} is open and has {run.sent} of {run.survey.pictures} pictures: "
        f"`sortbelt enqueue {shlex.quote(pictures.root)} --job {run.job.id}` goes on, "
        f"`sortbelt cancel {run.job.id}` gives it up."
    )


def _report(run: runs.Run, summary: runs.Summary | None, *, as_json: bool) -> None:
    skipped = dict(run.survey.skipped)
    if as_json:
        print(
            terminal.as_json(
                {
                    "job_id": run.job.id,
                    "status": run.job.status,
                    "counts": run.job.raw["counts"],
                    "labels": dict(summary.labels.most_common()) if summary else {},
                    "skipped": skipped,
                    "not_sent": [{"image": n.name, "code": n.code, "detail": n.detail} for n in run.not_sent],
                }
            )
        )
        return
    if summary:
        terminal.table(("label", "images"), summary.labels.most_common())
    _tell_failures(run, summary or runs.Summary())
    if skipped:
        options.tell("Skipped: " + ", ".join(f"{count} {reason}" for reason, count in skipped.items()) + ".")
    options.tell(f"Job {run.job.id} {run.job.status}: `sortbelt results {run.job.id}` shows every image.")


def _tell_failures(run: runs.Run, summary: runs.Summary) -> None:
    for result in summary.failures:
        error = result.error
        options.tell(f"{result.status}: {result.image}: " + (f"{error.detail} ({error.code})" if error else "no label"))
    more = run.job.counts.ended - run.job.counts.done - len(summary.failures)
    if summary.failures and more > 0:
        options.tell(f"… and {more} more: `sortbelt results {run.job.id} --status failed` lists them.")
    for picture in run.not_sent:
        options.tell(f"not sent: {picture.detail} ({picture.code})")
